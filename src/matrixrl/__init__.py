"""Reinforcement learning on JAX: matrix-multiplication algorithms, HackMatrix, and PPO on any
environment."""

__version__ = "0.1.0"

# Readers of runs and checkpoints look systems up by name; this makes them known, and loads none.
import matrixrl.systems.spec as _systems  # noqa: F401
