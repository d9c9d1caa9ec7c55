"""Systems: packages that combine a game and a learner."""
