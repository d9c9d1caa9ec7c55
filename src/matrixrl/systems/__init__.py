"""Systems: what knows both a game and a learner, a package for each."""
