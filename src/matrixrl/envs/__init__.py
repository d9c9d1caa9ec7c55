"""Environments: pure functions of state, action and key."""
