"""Checkpoints: their content, validation, storage and retention."""
