"""Tree search over sampled actions, for any game."""
