"""HackMatrix for gymnax: importing this module registers `gymnax.make("HackMatrix-v0")`.

`matrixrl.envs.hackmatrix.env.HackMatrix` already is an environment of gymnax; only the registration
needs gymnax.
"""

from __future__ import annotations

from gymnax import registration

from matrixrl.envs.hackmatrix.env import EnvParams, HackMatrix

ENV_ID = HackMatrix().name

__all__ = ["ENV_ID", "EnvParams", "HackMatrix"]

if ENV_ID not in registration.registered_envs:
    registration.register(ENV_ID, HackMatrix)
