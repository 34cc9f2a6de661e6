"""What guest code and the host agree on: generated from `abi.toml`, see the README of this folder."""
