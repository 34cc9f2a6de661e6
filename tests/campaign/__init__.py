"""Fault injection campaigns."""
