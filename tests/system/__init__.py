"""Whole systems, and what becomes of them when parts of them die at chosen moments."""
