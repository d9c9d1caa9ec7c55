"""HackMatrix: a turn-based tactical game on a 6x6 grid, in pure JAX (`docs/envs/hackmatrix.md`)."""
