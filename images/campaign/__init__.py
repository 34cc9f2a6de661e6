"""Fault injection campaigns: which faults, where, the proof that they took effect, what came of them."""
