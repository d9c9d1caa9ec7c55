"""Adapters: environments of other projects and of users behind the protocol of `envs.base`."""
