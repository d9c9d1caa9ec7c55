"""The peer: HackMatrix trained with sb3-contrib's MaskablePPO at the settings of our own trainer.

    pip install 'matrixrl[baselines]'
    taskset -c 1 env XLA_FLAGS=--xla_cpu_multi_thread_eigen=false python benchmarks/bench_maskable_ppo.py --threads 1

Two ways of feeding it. `gymnasium`: 256 single games in SB3's DummyVecEnv, what a user gets out of the box. `vector`:
SB3's interface over our vector environment, which takes the Python loop over games away and so measures the learner.

Writes one JSON line to standard output, and into the output folder `curve.csv` (a row per rollout, over the training
episodes that ended in it), `model.zip` (SB3's own file) and `policy.npz` (the network alone, `sb3_policy.py` plays it).

Where SB3 differs at equal coefficients: its value loss is the plain squared error, twice that of PureJaxRL; its clipped
value loss, off unless asked for, uses the clipped error alone instead of the larger of two.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import sb3_policy

from matrixrl.envs.hackmatrix.gymnasium_env import (
    ACTION_SPACE,
    ENV_ID,
    OBSERVATION_SPACE,
    HackMatrixVectorEnv,
)
from matrixrl.envs.hackmatrix.rules import Outcome

try:
    import torch  # pyright: ignore[reportMissingImports]
    from sb3_contrib import MaskablePPO  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.callbacks import BaseCallback  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.env_util import make_vec_env  # pyright: ignore[reportMissingImports]
    from stable_baselines3.common.vec_env import VecEnv  # pyright: ignore[reportMissingImports]
except ModuleNotFoundError as error:
    raise SystemExit(f"{error.name} is not installed: pip install 'matrixrl[baselines]'") from error

SAVE_EVERY = 20
"""Rollouts between two saves of the model, so that a long training that is cut off leaves something."""


class HackMatrixVecEnv(VecEnv):
    """`HackMatrixVectorEnv` under the conventions of SB3."""

    def __init__(self, num_envs: int) -> None:
        self._games = HackMatrixVectorEnv(num_envs)
        super().__init__(num_envs, OBSERVATION_SPACE, ACTION_SPACE)
        self._actions = np.zeros(num_envs, np.int64)
        self._returns = np.zeros(num_envs)
        self._lengths = np.zeros(num_envs, np.int64)

    def reset(self) -> np.ndarray:
        """New games; SB3 hands over the seed in `seed`, as one per game."""
        observations, _ = self._games.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._returns[:] = 0
        self._lengths[:] = 0
        return np.array(observations)

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """One step of every game. SB3 writes into what it gets, so these are copies."""
        observations, rewards, terminated, truncated, info = self._games.step(self._actions)
        self._returns += rewards
        self._lengths += 1
        done = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for game in np.flatnonzero(done):
            infos[game] = {
                "terminal_observation": info["final_obs"][game].copy(),
                "TimeLimit.truncated": bool(truncated[game]),
                "episode": {"r": float(self._returns[game]), "l": int(self._lengths[game])},
                "stage": int(info["stage"][game]),
                "outcome": Outcome(int(info["outcome"][game])).name.lower(),
            }
        self._returns[done] = 0
        self._lengths[done] = 0
        return np.array(observations), rewards.astype(np.float32), done, infos

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """`action_masks`, bool[28] for each game."""
        if method_name != "action_masks" or args or kwargs:
            raise AttributeError(f"{method_name}: the games have no method but action_masks()")
        masks = self._games.action_masks()
        return [masks[game] for game in self._get_indices(indices)]

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the vector environment, once for each game."""
        return [getattr(self._games, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """The games have no settings."""
        raise AttributeError(f"{attr_name}: the games have no settings")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Never."""
        return [False for _ in self._get_indices(indices)]

    def close(self) -> None:
        """Nothing to free."""


class Curve(BaseCallback):
    """Times every rollout with its update, and writes the learning curve."""

    FIELDS: tuple[str, ...] = (
        "env_steps",
        "seconds",
        "episodes",
        "mean_return",
        "mean_highest_stage",
        "win_rate",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.collect: list[float] = []
        self.update: list[float] = []
        self.cpu: list[float] = []
        self.last_row: dict[str, float] = {}
        self._episodes: list[tuple[float, int, bool]] = []
        self._begun = self._mark = time.perf_counter()
        self._cpu_mark = time.process_time()

    def _on_training_start(self) -> None:
        self._begun = self._mark = time.perf_counter()
        self._cpu_mark = time.process_time()
        with (self.folder / "curve.csv").open("w", newline="") as file:
            csv.writer(file).writerow(self.FIELDS)

    def _on_rollout_start(self) -> None:
        if self.collect:
            self._updated()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self._episodes.append((info["episode"]["r"], info["stage"], info["outcome"] == "won"))
        return True

    def _on_rollout_end(self) -> None:
        now = time.perf_counter()
        self.collect.append(now - self._mark)
        self._mark = now
        row: dict[str, float] = {
            "env_steps": self.num_timesteps,
            "seconds": round(now - self._begun, 2),
            "episodes": len(self._episodes),
        }
        if self._episodes:
            means = np.mean(self._episodes, axis=0)
            row |= dict(zip(self.FIELDS[3:], (round(float(mean), 4) for mean in means), strict=True))
            self.last_row = row
        with (self.folder / "curve.csv").open("a", newline="") as file:
            csv.DictWriter(file, self.FIELDS).writerow(row)
        self._episodes = []

    def _on_training_end(self) -> None:
        self._updated()

    def _updated(self) -> None:
        now, cpu = time.perf_counter(), time.process_time()
        self.update.append(now - self._mark)
        self.cpu.append(cpu - self._cpu_mark)
        if len(self.update) % SAVE_EVERY == 0:
            self.model.save(self.folder / "model.zip")
        # Saving counts in neither of the two.
        self._mark, self._cpu_mark = time.perf_counter(), time.process_time()


def make_games(feed: str, num_envs: int, seed: int) -> VecEnv:
    """The games, by either way of feeding, with their first step compiled."""
    games = HackMatrixVecEnv(num_envs) if feed == "vector" else make_vec_env(ENV_ID, num_envs, seed)
    games.reset()
    for _ in range(2):
        masks = np.stack(games.env_method("action_masks"))
        games.step(masks.argmax(axis=1))
    return games


def difference(model: MaskablePPO, policy: sb3_policy.MaskedPolicy) -> float:
    """The largest difference between PyTorch and the exported arrays: log-probabilities of legal actions, values."""
    games = HackMatrixVecEnv(256)
    observations = games.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        masks = np.stack(games.env_method("action_masks"))
        observations, *_ = games.step(np.array([rng.choice(np.flatnonzero(mask)) for mask in masks]))
    masks = np.stack(games.env_method("action_masks"))
    with torch.no_grad():
        tensor = torch.as_tensor(observations)
        theirs = model.policy.get_distribution(tensor, masks).distribution.logits.numpy()
        their_values = model.policy.predict_values(tensor).numpy()[:, 0]
    logits = policy(observations, masks)
    logits = logits - logits.max(axis=1, keepdims=True)
    ours = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    values = policy.value(observations)
    scale = 1 + np.abs(their_values)
    return float(max(np.abs(ours - theirs)[masks].max(), (np.abs(values - their_values) / scale).max()))


def arguments() -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feed", choices=("gymnasium", "vector"), default="vector")
    parser.add_argument(
        "--total-timesteps", type=int, default=10_000_000, help="rounded up to whole rollouts"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="PyTorch's threads; JAX has XLA_FLAGS")
    parser.add_argument("--output-dir", type=Path, default=Path("build/maskable_ppo"))
    parser.add_argument("--num-envs", type=int, default=256)
    parser.add_argument("--num-steps", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=2.5e-4)
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--gae-lambda", type=float, default=0.95)
    parser.add_argument("--num-minibatches", type=int, default=4)
    parser.add_argument("--update-epochs", type=int, default=4)
    parser.add_argument("--clip-eps", type=float, default=0.2)
    parser.add_argument("--clip-eps-value", type=float, help="SB3's clipped value loss; without it, none")
    parser.add_argument("--vf-coef", type=float, default=0.5)
    parser.add_argument("--ent-coef", type=float, default=0.1)
    parser.add_argument("--max-grad-norm", type=float, default=0.5)
    parser.add_argument("--hidden-dim", type=int, default=256)
    parser.add_argument("--num-layers", type=int, default=2)
    flags = parser.parse_args()
    if flags.num_envs * flags.num_steps % flags.num_minibatches:
        parser.error(
            f"num_envs x num_steps {flags.num_envs * flags.num_steps}: "
            f"must be a multiple of num_minibatches {flags.num_minibatches}"
        )
    return flags


def main() -> None:
    """Train, time, save, check the exported network, report."""
    flags = arguments()
    torch.set_num_threads(flags.threads)
    flags.output_dir.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    games = make_games(flags.feed, flags.num_envs, flags.seed)
    compile_seconds = time.perf_counter() - begun

    batch = flags.num_envs * flags.num_steps
    hidden = [flags.hidden_dim] * flags.num_layers
    model = MaskablePPO(
        "MlpPolicy",
        games,
        learning_rate=flags.learning_rate,
        n_steps=flags.num_steps,
        batch_size=batch // flags.num_minibatches,
        n_epochs=flags.update_epochs,
        gamma=flags.gamma,
        gae_lambda=flags.gae_lambda,
        clip_range=flags.clip_eps,
        clip_range_vf=flags.clip_eps_value,
        ent_coef=flags.ent_coef,
        vf_coef=flags.vf_coef,
        max_grad_norm=flags.max_grad_norm,
        policy_kwargs={"net_arch": {"pi": hidden, "vf": hidden}, "activation_fn": torch.nn.Tanh},
        seed=flags.seed,
        device="cpu",
    )
    curve = Curve(flags.output_dir)
    model.learn(flags.total_timesteps, callback=curve, log_interval=None)
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    model.save(flags.output_dir / "model.zip")
    state = {name: tensor.numpy() for name, tensor in model.policy.state_dict().items()}
    sb3_policy.save(flags.output_dir / "policy.npz", sb3_policy.from_state_dict(state))
    error = difference(model, sb3_policy.load(flags.output_dir / "policy.npz"))

    rates = [batch / (a + b) for a, b in zip(curve.collect, curve.update, strict=True)]
    result = {
        "peer": "sb3_contrib.MaskablePPO",
        "feed": flags.feed,
        "seed": flags.seed,
        "threads": flags.threads,
        "parameters": sum(parameter.numel() for parameter in model.policy.parameters()),
        "env_steps": model.num_timesteps,
        "steps_per_second": round(statistics.median(rates), 1),
        "steps_per_second_range": [round(min(rates), 1), round(max(rates), 1)],
        "steps_per_cpu_second": round(batch / statistics.median(curve.cpu), 1),
        "collect_seconds": round(statistics.median(curve.collect), 3),
        "update_seconds": round(statistics.median(curve.update), 3),
        "compile_seconds": round(compile_seconds, 2),
        "peak_rss_mb": round(peak_rss_mb),
        "last_rollout": curve.last_row,
        "export_error": error,
        "output_dir": str(flags.output_dir),
    }
    print(json.dumps(result))
    if not error < 1e-4:
        raise SystemExit(f"policy.npz differs from PyTorch by {error}: at most 1e-4 is rounding")


if __name__ == "__main__":
    main()
