"""Neural networks: torsos and heads, independent of any game."""
