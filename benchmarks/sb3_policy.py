"""The network of a Stable-Baselines3 policy as plain arrays: played without PyTorch, by NumPy or JAX.

`bench_maskable_ppo.py` writes the file; anything that takes observations and masks to logits can play it::

    policy = load("build/maskable_ppo/policy.npz")
    logits = jax.jit(policy)(observations, masks)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Dense(NamedTuple):
    """One layer: kernel float32[inputs, outputs], bias float32[outputs]."""

    kernel: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class MaskedPolicy:
    """Two separate multilayer perceptrons with tanh between the layers, as SB3's `MlpPolicy` builds them.

    Calls compute with the arrays they are given: NumPy's in NumPy, JAX's, traced ones too, in JAX.
    """

    actor: tuple[Dense, ...]
    critic: tuple[Dense, ...]

    def __call__(self, observations: Any, masks: Any) -> Any:
        """Logits float32[B, actions] for observations float32[B, features]; illegal actions get the least float."""
        xp = observations.__array_namespace__()
        return xp.where(masks, _perceptron(self.actor, observations), np.finfo(np.float32).min)

    def value(self, observations: Any) -> Any:
        """Values float32[B]."""
        return _perceptron(self.critic, observations)[:, 0]


def _perceptron(layers: tuple[Dense, ...], inputs: Any) -> Any:
    xp = inputs.__array_namespace__()
    for layer in layers[:-1]:
        inputs = xp.tanh(inputs @ layer.kernel + layer.bias)
    return inputs @ layers[-1].kernel + layers[-1].bias


def from_state_dict(state: dict[str, np.ndarray]) -> MaskedPolicy:
    """The policy in an SB3 `MlpPolicy.state_dict()` whose tensors were turned into arrays."""

    def layers(hidden: str, last: str) -> tuple[Dense, ...]:
        prefix = f"mlp_extractor.{hidden}."
        numbers = sorted(
            {int(name.removeprefix(prefix).split(".")[0]) for name in state if name.startswith(prefix)}
        )
        names = [*(f"{prefix}{number}" for number in numbers), last]
        return tuple(
            Dense(np.ascontiguousarray(state[f"{name}.weight"].T), state[f"{name}.bias"]) for name in names
        )

    return MaskedPolicy(layers("policy_net", "action_net"), layers("value_net", "value_net"))


def save(path: Path | str, policy: MaskedPolicy) -> None:
    """Write the arrays as `actor_0_kernel`, `actor_0_bias`, ... into one `.npz` file."""
    arrays = {
        f"{part}_{number}_{name}": array
        for part, layers in vars(policy).items()
        for number, layer in enumerate(layers)
        for name, array in layer._asdict().items()
    }
    np.savez(path, **arrays)


def load(path: Path | str) -> MaskedPolicy:
    """Read what `save` wrote."""
    with np.load(path, allow_pickle=False) as arrays:

        def layers(part: str) -> tuple[Dense, ...]:
            count = sum(name.startswith(f"{part}_") for name in arrays.files) // 2
            return tuple(
                Dense(arrays[f"{part}_{number}_kernel"], arrays[f"{part}_{number}_bias"])
                for number in range(count)
            )

        return MaskedPolicy(layers("actor"), layers("critic"))
