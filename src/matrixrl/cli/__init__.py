"""The command line: turns flags into configs and errors into one line."""
