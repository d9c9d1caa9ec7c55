"""PPO on gymnax CartPole-v1, whole training under `jit`: ours beside a peer of PureJaxRL's kind.

    pip install rejax==0.1.3 'gymnax==1.0.1' six
    taskset -c 1 env XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/bench_cartpole.py --rejax

256 environments x 128 steps, 4 epochs of 4 minibatches, two tanh layers of 64 for policy and value each. One timed
repeat is one compiled call of `--updates` updates, rollout and learning together; compilation is reported apart. Prints
one JSON line per learner: steps per second, median and range over the repeats, and what the trained policy earns.

Peers run in one process one after the other; on a machine with other work compare `steps_per_cpu_second`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from gymnax.environments.classic_control.cartpole import CartPole

NUM_ENVS, NUM_STEPS = 256, 128
HYPERPARAMETERS = {
    "num_envs": NUM_ENVS,
    "num_steps": NUM_STEPS,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
    "max_grad_norm": 0.5,
}
"""PureJaxRL's for CartPole, but for the batch; rejax and we use the same names."""
UPDATE_EPOCHS = 4
HIDDEN = (64, 64)


class Learner(NamedTuple):
    """What is timed.

    Attributes:
      init: a key -> a training state.
      advance: a training state -> the state one update later.
      mean_return: a key and a training state -> the mean return of the policy over whole episodes.
    """

    init: Callable[[jax.Array], Any]
    advance: Callable[[Any], Any]
    mean_return: Callable[[jax.Array, Any], jax.Array]


class _OneDone(CartPole):
    """The environment as rejax 0.1.3 knows it: one `done` in place of the two of gymnax 1.0."""

    def step(self, *args: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observation, state, reward, done, info."""
        observation, state, reward, terminated, truncated, info = super().step(*args)
        return observation, state, reward, terminated | truncated, info


def rejax_learner() -> Learner:
    """The PPO of rejax."""
    try:
        import rejax  # pyright: ignore[reportMissingImports]
        from rejax.evaluate import evaluate  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install rejax==0.1.3") from error
    env = _OneDone()
    env_params = env.default_params
    algorithm = rejax.PPO.create(
        env=env,
        env_params=env_params,
        num_epochs=UPDATE_EPOCHS,
        agent_kwargs={"hidden_layer_sizes": HIDDEN, "activation": "tanh"},
        **HYPERPARAMETERS,
    )

    def mean_return(key: jax.Array, state: Any) -> jax.Array:
        _, returns = evaluate(algorithm.make_act(state), key, env, env_params, 128, 500)
        return returns.mean()

    return Learner(algorithm.init_state, algorithm.train_iteration, mean_return)


def our_learner() -> Learner:
    """The PPO of `matrixrl.agents.ppo`."""
    raise SystemExit("--ours: matrixrl.agents.ppo has no PPO yet")


def measure(learner: Learner, updates: int, repeats: int, seed: int) -> dict[str, Any]:
    """Steps per second of `updates` updates in one call."""
    init_key, return_key = jax.random.split(jax.random.key(seed))

    def chunk(state: Any) -> Any:
        return jax.lax.fori_loop(0, updates, lambda _, state: learner.advance(state), state)

    # Some initial states hold Python numbers or weak types, which a loop would refuse or compile for twice.
    state = jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), jax.jit(learner.init)(init_key)
    )
    begun = time.perf_counter()
    compiled = jax.jit(chunk, donate_argnums=0).lower(state).compile()
    compile_seconds = time.perf_counter() - begun

    state = jax.block_until_ready(compiled(state))  # the first call touches memory for the first time
    steps = updates * NUM_ENVS * NUM_STEPS
    rates, cpu_rates = [], []
    for _ in range(repeats):
        begun, cpu_begun = time.perf_counter(), time.process_time()
        state = jax.block_until_ready(compiled(state))
        rates.append(steps / (time.perf_counter() - begun))
        cpu_rates.append(steps / (time.process_time() - cpu_begun))
    memory = compiled.memory_analysis()
    assert memory is not None  # every backend but those without buffers of their own has one
    return {
        "steps_per_second": round(statistics.median(rates)),
        "steps_per_second_range": [round(min(rates)), round(max(rates))],
        "steps_per_cpu_second": round(statistics.median(cpu_rates)),
        "repeats": repeats,
        "compile_seconds": round(compile_seconds, 2),
        "temporary_mb": round(memory.temp_size_in_bytes / 2**20, 1),
        "env_steps": (repeats + 1) * steps,
        "mean_return": round(float(jax.jit(learner.mean_return)(return_key, state)), 1),
    }


def main() -> None:
    """Measure the learners asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    learners = {"rejax": rejax_learner, "ours": our_learner}
    for name in learners:
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    asked = [name for name in learners if getattr(flags, name)]
    if not asked:
        parser.error("nothing to measure: give --rejax, --ours or both")
    for name in asked:
        result = measure(learners[name](), flags.updates, flags.repeats, flags.seed)
        print(json.dumps({"learner": name, **result}), flush=True)


if __name__ == "__main__":
    main()
