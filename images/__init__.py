"""System files, and the tools that build disk images and guest programs."""
