"""Components: each folder is one program that runs alone in one VM, with its manifest."""
