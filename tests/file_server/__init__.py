"""The file server's modules on the host, and images made for them."""
