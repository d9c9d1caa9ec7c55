"""Where a jitted result meets a clock, a file or a signal."""
