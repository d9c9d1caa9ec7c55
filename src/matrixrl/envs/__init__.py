"""Environments: pure, jitted games behind one small protocol (`matrixrl.envs.base`)."""
