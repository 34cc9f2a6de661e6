"""Disk images and the builder of guest programs."""
