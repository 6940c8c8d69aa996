"""make bench-gateway: the door beside LiteLLM's proxy, a bare path and the engine itself, in one run."""
