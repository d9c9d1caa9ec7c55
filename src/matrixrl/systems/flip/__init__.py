"""Search for schemes by random walks on flip graphs."""
