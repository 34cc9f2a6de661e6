"""What `make` and `.ci/run` call: set-up, build, layer check, line count of the trusted base."""
