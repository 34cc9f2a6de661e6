"""Tests: a folder per subject; `make test` runs all of them."""
