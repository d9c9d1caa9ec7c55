"""The command line: turns names into objects and says what happened."""
