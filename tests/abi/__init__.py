"""The ABI description: what its generator writes and what it refuses."""
