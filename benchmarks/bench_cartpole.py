"""PPO on gymnax CartPole-v1, whole training under `jit`: ours beside a peer of PureJaxRL's kind.

    pip install rejax==0.1.3 'gymnax==1.0.1' six
    taskset -c 1 env XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/bench_cartpole.py --ours --rejax

256 environments x 128 steps, 4 epochs of 4 minibatches, two tanh layers of 64 for policy and value each. One timed
repeat is one compiled call of `--updates` updates, rollout and learning together; compilation is reported apart. With
more than one learner their repeats take turns. Prints one JSON line per learner: steps per second, median and range
over the repeats, and what the trained policy earns. On a machine with other work compare `steps_per_cpu_second`.

`--shape default` measures the batch of `ppo train` instead, 16 environments x 128 steps in 8 minibatches. `--agents K`
trains K agents under `jax.vmap`: steps are those of all of them. `--command` measures the whole command
`matrixrl ppo train --env gymnax:CartPole-v1` with its journal and checkpoints, in this process: the difference of the
processor time of a long and of a short run, so that start and compilation cancel out.

`--learning` trains instead of timing: PureJaxRL's own 4 environments x 128 steps for 500,000 steps.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from gymnax.environments.classic_control.cartpole import CartPole

from matrixrl.agents.ppo import PPO
from matrixrl.envs.adapters.gymnax import GymnaxEnvironment
from matrixrl.networks.actor_critic import HIDDEN_INIT

NUM_STEPS = 128


class Shape(NamedTuple):
    """Shape of a batch of `NUM_STEPS` steps per environment."""

    num_envs: int
    num_minibatches: int


SHAPES = {"large": Shape(256, 4), "default": Shape(16, 8)}
"""By name; `default` is that of `ppo train`."""

HYPERPARAMETERS = {
    "num_steps": NUM_STEPS,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_eps": 0.2,
    "vf_coef": 0.5,
    "ent_coef": 0.01,
}
"""PureJaxRL's for CartPole, but for the number of environments; rejax and we use the same names."""
LEARNING_RATE, MAX_GRAD_NORM = 2.5e-4, 0.5
UPDATE_EPOCHS = 4
HIDDEN = (64, 64)
EPISODES, EPISODE_STEPS = 128, 500


class Learner(NamedTuple):
    """What is timed.

    Attributes:
      init: a key -> a training state.
      advance: a training state -> the state one update later.
      act: a training state, one observation and a key -> an action drawn from the policy.
    """

    init: Callable[[jax.Array], Any]
    advance: Callable[[Any], Any]
    act: Callable[[Any, jax.Array, jax.Array], jax.Array]


class _OneDone(CartPole):
    """The environment as rejax 0.1.3 knows it: one `done` in place of the two of gymnax 1.0."""

    def step(self, *args: Any) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observation, state, reward, done, info."""
        observation, state, reward, terminated, truncated, info = super().step(*args)
        return observation, state, reward, terminated | truncated, info


def rejax_learner(shape: Shape) -> Learner:
    """The PPO of rejax."""
    try:
        import rejax  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error.name} is not installed: pip install rejax==0.1.3") from error
    env = _OneDone()
    algorithm = rejax.PPO.create(
        env=env,
        env_params=env.default_params,
        num_envs=shape.num_envs,
        num_minibatches=shape.num_minibatches,
        num_epochs=UPDATE_EPOCHS,
        learning_rate=LEARNING_RATE,
        max_grad_norm=MAX_GRAD_NORM,
        agent_kwargs={"hidden_layer_sizes": HIDDEN, "activation": "tanh"},
        **HYPERPARAMETERS,
    )

    def act(state: Any, observation: jax.Array, key: jax.Array) -> jax.Array:
        return algorithm.make_act(state)(observation, key)

    return Learner(algorithm.init_state, algorithm.train_iteration, act)


class TwoTowers(nn.Module):
    """The networks of PureJaxRL and rejax: separate tanh perceptrons for policy and value."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Observations [N, 4] to logits [N, 2] and values [N]."""

        def tower(outputs: int, gain: float) -> jax.Array:
            hidden = observation
            for width in HIDDEN:
                hidden = jnp.tanh(nn.Dense(width, kernel_init=HIDDEN_INIT)(hidden))
            return nn.Dense(outputs, kernel_init=nn.initializers.orthogonal(gain))(hidden)

        return tower(2, 0.01), tower(1, 1.0)[:, 0]


def our_learner(shape: Shape) -> Learner:
    """The PPO of `matrixrl.agents.ppo`."""
    env, network = GymnaxEnvironment(CartPole(), None, "gymnax:CartPole-v1"), TwoTowers()
    ppo = PPO(
        env=env,
        apply=network.apply,  # pyright: ignore[reportArgumentType]
        init_params=network.init,
        optimizer=optax.chain(optax.clip_by_global_norm(MAX_GRAD_NORM), optax.adam(LEARNING_RATE)),
        num_envs=shape.num_envs,
        num_minibatches=shape.num_minibatches,
        update_epochs=UPDATE_EPOCHS,
        env_params=env.default_params,
        **HYPERPARAMETERS,  # pyright: ignore[reportArgumentType]
    )

    def init(key: jax.Array) -> tuple[Any, jax.Array]:
        key, key_init = jax.random.split(key)
        return ppo.init(key_init), key

    def advance(state: tuple[Any, jax.Array]) -> tuple[Any, jax.Array]:
        key, key_update = jax.random.split(state[1])
        return ppo.update(state[0], key_update)[0], key

    def act(state: tuple[Any, jax.Array], observation: jax.Array, key: jax.Array) -> jax.Array:
        logits, _ = ppo.apply(state[0].params, observation[None])
        return jax.random.categorical(key, logits[0])

    return Learner(init, advance, act)


def mean_return(learner: Learner, state: Any, key: jax.Array) -> jax.Array:
    """Mean return of the policy over `EPISODES` whole episodes."""
    env = CartPole()
    params = env.default_params

    def episode(key: jax.Array) -> jax.Array:
        def step(carry: tuple[Any, ...], key: jax.Array) -> tuple[tuple[Any, ...], None]:
            observation, game, total, running = carry
            key_act, key_step = jax.random.split(key)
            action = learner.act(state, observation, key_act)
            observation, game, reward, terminated, truncated, _ = env.step(key_step, game, action, params)
            return (observation, game, total + reward * running, running & ~(terminated | truncated)), None

        key_reset, key_steps = jax.random.split(key)
        start = (*env.reset(key_reset, params), jnp.float32(0), jnp.bool_(True))
        (*_, total, _), _ = jax.lax.scan(step, start, jax.random.split(key_steps, EPISODE_STEPS))
        return total

    return jax.vmap(episode)(jax.random.split(key, EPISODES)).mean()


class Timed:
    """A learner with its compiled call, and how long its repeats took."""

    def __init__(self, learner: Learner, shape: Shape, updates: int, seed: int, agents: int) -> None:
        self.learner = learner
        self.agents = agents
        self.steps = agents * updates * shape.num_envs * NUM_STEPS
        self.rates: list[float] = []
        self.cpu_rates: list[float] = []
        init_key, self.return_key = jax.random.split(jax.random.key(seed))

        def chunk(state: Any) -> Any:
            return jax.lax.fori_loop(0, updates, lambda _, state: learner.advance(state), state)

        # Some initial states hold Python numbers or weak types, which a loop would refuse or compile for twice.
        self.state = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype),
            jax.jit(learner.init)(init_key)
            if agents == 1
            else jax.jit(jax.vmap(learner.init))(jax.random.split(init_key, agents)),
        )
        if agents > 1:
            chunk = jax.vmap(chunk)
        begun = time.perf_counter()
        self.compiled = jax.jit(chunk, donate_argnums=0).lower(self.state).compile()
        self.compile_seconds = time.perf_counter() - begun
        self.calls = 0

    def run(self, timed: bool) -> None:
        """One call."""
        begun, cpu_begun = time.perf_counter(), time.process_time()
        self.state = jax.block_until_ready(self.compiled(self.state))
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
        self.calls += 1
        if timed:
            self.rates.append(self.steps / seconds)
            self.cpu_rates.append(self.steps / cpu_seconds)

    def result(self) -> dict[str, Any]:
        """Returns what is printed of it."""
        memory = self.compiled.memory_analysis()
        assert memory is not None  # every backend but those without buffers of their own has one
        first = self.state if self.agents == 1 else jax.tree.map(lambda leaf: leaf[0], self.state)
        earned = jax.jit(lambda state, key: mean_return(self.learner, state, key))(first, self.return_key)
        speed = {}
        if self.rates:
            speed = {
                "steps_per_second": round(statistics.median(self.rates)),
                "steps_per_second_range": [round(min(self.rates)), round(max(self.rates))],
                "steps_per_cpu_second": round(statistics.median(self.cpu_rates)),
                "steps_per_cpu_second_range": [round(min(self.cpu_rates)), round(max(self.cpu_rates))],
                "repeats": len(self.rates),
            }
        return {
            **speed,
            "compile_seconds": round(self.compile_seconds, 2),
            "temporary_mb": round(memory.temp_size_in_bytes / 2**20, 1),
            "env_steps": self.calls * self.steps,
            "mean_return": round(float(earned), 1),
        }


class TimedCommand:
    """`matrixrl ppo train`, with journal and checkpoints; the difference of two runs is timed."""

    def __init__(self, shape: Shape, updates: int, agents: int) -> None:
        self.steps = agents * updates * shape.num_envs * NUM_STEPS
        self.updates = updates
        self.flags = [
            *("--num-envs", str(shape.num_envs), "--num-minibatches", str(shape.num_minibatches)),
            *("--num-steps", str(NUM_STEPS), "--num-seeds", str(agents), "--console", "quiet", "--json"),
        ]
        self.batch = shape.num_envs * NUM_STEPS
        self.cpu_rates: list[float] = []

    def run(self, timed: bool) -> None:
        """Two runs, of `--updates` updates and of twice as many."""
        short, long = (self._seconds(self.updates * factor) for factor in (1, 2))
        if timed:
            self.cpu_rates.append(self.steps / (long - short))

    def _seconds(self, updates: int) -> float:
        """Processor time of a run with all its threads."""
        from matrixrl.cli.main import main as matrixrl

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            begun = time.process_time()
            command = ["ppo", "train", "--env", "gymnax:CartPole-v1", "--runs-dir", folder, *self.flags]
            if matrixrl([*command, "--total-timesteps", str(updates * self.batch)]) != 0:
                raise SystemExit("ppo train failed")
            return time.process_time() - begun

    def result(self) -> dict[str, Any]:
        """What is printed of it."""
        rates = self.cpu_rates
        return {
            "steps_per_cpu_second": round(statistics.median(rates)),
            "steps_per_cpu_second_range": [round(min(rates)), round(max(rates))],
            "repeats": len(rates),
        }


def main() -> None:
    """Measure the learners asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    learners = {"rejax": rejax_learner, "ours": our_learner}
    for name in (*learners, "command"):
        parser.add_argument(f"--{name}", action="store_true")
    parser.add_argument("--learning", action="store_true")
    parser.add_argument("--updates", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shape", choices=list(SHAPES), default="large")
    parser.add_argument("--agents", type=int, default=1)
    flags = parser.parse_args()
    asked = [name for name in learners if getattr(flags, name)]
    if not asked and not flags.command:
        parser.error("nothing to measure: give --rejax, --ours or --command")
    shape, updates = SHAPES[flags.shape], flags.updates
    if flags.learning:
        shape, updates = Shape(4, 4), 500_000 // (4 * NUM_STEPS)
    timed: dict[str, Timed | TimedCommand] = {
        name: Timed(learners[name](shape), shape, updates, flags.seed, flags.agents) for name in asked
    }
    if flags.command:
        timed["command"] = TimedCommand(shape, updates, flags.agents)
    for one in timed.values():
        one.run(timed=False)  # the first call touches memory for the first time
    for _ in range(0 if flags.learning else flags.repeats):
        for one in timed.values():
            one.run(timed=True)
    for name, one in timed.items():
        about = {"learner": name, "shape": flags.shape, "agents": flags.agents}
        print(json.dumps({**about, **one.result()}), flush=True)


if __name__ == "__main__":
    main()
