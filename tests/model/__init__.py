"""The protocols as models, explored by spin."""
