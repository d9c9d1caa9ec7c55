"""The command line: turns names into objects and results into words."""
