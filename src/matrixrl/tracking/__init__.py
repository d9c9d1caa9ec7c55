"""Tracking: a journal that loses nothing, and the console and Weights & Biases as its readers
(docs/events.md)."""
