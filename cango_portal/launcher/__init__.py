"""What `make run`, `make test` and `make demo` start on one machine. Production does not need this package."""
