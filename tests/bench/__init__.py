"""Benchmarks: the figures of the README, measured side by side with what they are compared with."""
