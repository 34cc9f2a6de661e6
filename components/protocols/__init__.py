"""The protocols between components, and their generator."""
