"""Neural networks: torsos and heads that know no game."""
