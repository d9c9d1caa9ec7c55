"""A run cannot be lost: what is saved, how it is checked, and where it lies."""
