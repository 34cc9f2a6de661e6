"""The tools of `ci/`."""
