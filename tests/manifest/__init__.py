"""Manifests and system files: what is refused, and what a good one compiles to."""
