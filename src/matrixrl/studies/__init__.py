"""Studies: many runs of one training command, with settings from a file, on one machine or many."""
