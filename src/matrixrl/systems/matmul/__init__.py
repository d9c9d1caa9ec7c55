"""Discovery of bilinear algorithms: the tensor game played by sampled AlphaZero."""
