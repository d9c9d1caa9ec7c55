"""HackMatrix: evaluation of its agents, single games to watch, and the speed of its environment."""
