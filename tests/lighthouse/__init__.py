"""Lighthouse on the public pages."""
