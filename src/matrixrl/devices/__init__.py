"""What the accelerators need: compilation cache, and what a run says about its machine."""
