"""Tests of the protocol descriptions and what is generated from them."""
