"""Training loop and checkpointing: the link between jitted results and clock, files and signals."""
