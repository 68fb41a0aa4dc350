"""Layers for the networks of all families, and fast kernels for them."""
