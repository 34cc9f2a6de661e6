"""Python side of the protocols, generated from components/protocols/*.toml."""
