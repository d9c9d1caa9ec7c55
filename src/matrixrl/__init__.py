"""Reinforcement learning on JAX: discovers matrix-multiplication algorithms, plays HackMatrix, loses no number."""

__version__ = "0.1.0"
