"""Layers that networks of any family are built from, and the forms that run fast."""
