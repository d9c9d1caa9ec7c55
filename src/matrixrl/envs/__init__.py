"""Pure JAX environments and the slow referees they are tested against."""
