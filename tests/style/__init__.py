"""Promises about the source itself: layers, size of the trusted base, generated files, compilers."""
