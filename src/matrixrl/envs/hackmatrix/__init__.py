"""HackMatrix: a turn-based tactical game on a 6x6 grid (docs/envs/hackmatrix.md)."""
