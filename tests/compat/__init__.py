"""Clients that nobody here wrote, against a running portal: OpenAI's for Python and for Node, and its command line."""
