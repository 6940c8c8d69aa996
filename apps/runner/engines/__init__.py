"""Engines: what turns a request into tokens, vectors or text. See docs/engines.md for how to add one."""
