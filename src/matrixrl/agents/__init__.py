"""Learners: pure functions from a state of training to the next."""
