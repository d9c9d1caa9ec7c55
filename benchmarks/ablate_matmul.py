"""What matters for finding records: one change at a time, seconds to the record with nothing shown, over seeds.

python benchmarks/ablate_matmul.py --size 2 2 2 --out ablation.jsonl            # all variants
python benchmarks/ablate_matmul.py --size 2 2 3 --only "as it is" "PUCT" --out ablation.jsonl
python benchmarks/ablate_matmul.py --plot ablation.jsonl docs/images/matmul_ablation.png

A run is the trainer's own, from fresh parameters to the record over the integers; compilation is not counted. A run
that takes longer than --limit seconds counts as not found; when the first two seeds do, the others are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from matrixrl import presets
from matrixrl.agents import replay
from matrixrl.agents.alphazero import Targets
from matrixrl.config import DemonstrationConfig, MatmulConfig, SearchConfig, SelfPlayConfig
from matrixrl.devices.compilation_cache import use_compilation_cache
from matrixrl.envs.matmul import demonstrations
from matrixrl.envs.matmul.contractions import Contractions
from matrixrl.envs.matmul.env import TensorGame
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.program import MAX_LABELS, MatmulProgram
from matrixrl.systems.matmul.trainer import MatmulTrainer
from matrixrl.tracking.recorder import NullRecorder


class Hindsight(MatmulProgram):
    """Half of the replayed positions are hindsight: some terms that a game played, as a demonstration of their own sum."""

    def _replayed(self, key: jax.Array, buffer: replay.Replay, count: int, good_costs: jax.Array) -> Targets:
        key_own, key_position, key_subset = jax.random.split(key, 3)
        own = super()._replayed(key_own, buffer, count, good_costs)
        half = count // 2
        positions = self.positions(key_position, buffer, half, good_costs)
        moves = positions.actions.shape[1]
        played = jnp.arange(moves) < (positions.cost + positions.move)[:, None]
        order = jnp.argsort(jnp.where(played, jax.random.uniform(key_subset, (half, moves)), 2.0), axis=1)
        actions = jnp.take_along_axis(positions.actions, order[..., None], axis=1).astype(jnp.int32)
        number = jnp.minimum(positions.move + 1, played.sum(1))

        def summed(actions: jax.Array, number: jax.Array) -> jax.Array:
            return demonstrations.sum_of_terms(
                self.codec, *self.codec.decode(actions), jnp.arange(moves) < number
            )

        residual = jax.vmap(summed)(actions, number)
        tokens = jnp.pad(actions, ((0, 0), (0, max(0, MAX_LABELS - moves)), (0, 0)))[:, :MAX_LABELS]
        active = jnp.arange(MAX_LABELS) < jnp.minimum(number, MAX_LABELS)[:, None]
        weights = active / active.sum(1, keepdims=True) * positions.filled[:, None]
        shown = Targets(residual, tokens, weights, number)
        return jax.tree.map(lambda new, old: jnp.concatenate([new, old[half:]]), shown, own)


class ProfileGame(TensorGame):
    """The leftover costs what its rank profile tells: the most over the modes of sum_x rank(x . T) / 2^(n-1), rounded up.

    Ranks are subadditive and a term counts for half of all x, so that is a lower bound of the leftover's rank, where the
    ranks of the slices give an upper one.
    """

    def leftover_bound(self, residual: jax.Array) -> jax.Array:
        """An estimate of the rank of one residual [a, b, c], int32."""
        contractions = Contractions(self.codec)
        (state,) = contractions(residual[None])
        lengths = [self.codec.shape[mode] for mode in contractions.order]
        sums = [ranks.sum(-1) / 2 ** (length - 1) for ranks, length in zip(state.ranks, lengths, strict=True)]
        return jnp.ceil(jnp.stack(sums).max(0)[0]).astype(jnp.int32)


class ProfilePenalty(MatmulProgram):
    """Plays `ProfileGame`."""

    def __init__(self, config: MatmulConfig) -> None:
        super().__init__(config)
        self.game = ProfileGame(self.codec)


def change(part: str, **values: Any) -> Callable[[MatmulConfig], MatmulConfig]:
    """A config with other values in one of its parts."""
    return lambda config: dataclasses.replace(
        config, **{part: dataclasses.replace(getattr(config, part), **values)}
    )


VARIANTS: dict[str, tuple[Callable[[MatmulConfig], MatmulConfig], type[MatmulProgram]]] = {
    name: (make, MatmulProgram)
    for name, make in {
        "as it is": lambda config: config,
        "perceptron over tokens, rank profile and transform": change("network", policy="tokens"),
        "perceptron over tokens, residual only": change("network", policy="tokens", rank_profile=False),
        "every start in the standard basis": change("selfplay", random_basis_fraction=0.0),
        "demonstrations of density 0.1 to 0.9": change("demonstration", min_density=0.1, max_density=0.9),
        "demonstrations of density 0.25": change("demonstration", min_density=0.25, max_density=0.25),
        "demonstrations of at most 5 terms": change("demonstration", max_demonstration_factors=5),
        "1,500 updates before the first game": change("demonstration", pretraining_steps=1500),
        "150 updates before the first game": change("demonstration", pretraining_steps=150),
        "no learning from own games": change("selfplay", replay_fraction=0.0),
        "own games only": change("selfplay", replay_fraction=1.0),
        "all own games imitated": change("selfplay", imitated_fraction=1.0),
        "only the cheapest own games imitated": change("selfplay", imitated_fraction=1e-6),
        "no own game imitated, value only": change("selfplay", imitated_fraction=0.0),
        "value of the best quarter": change("search", best_fraction=0.25),
        "demonstrations grow over the first 500 updates": change("demonstration", curriculum_steps=500),
        "own solutions rewritten": change("selfplay", refinement_rounds=128),
        "games in the middle of own solutions": change("selfplay", partial_solution_fraction=0.5),
        "own solutions rewritten and taken up in the middle": change(
            "selfplay", refinement_rounds=128, partial_solution_fraction=0.5
        ),
        "PUCT": change("search", algorithm="puct"),
        "16 simulations": change("search", num_simulations=16),
        "128 simulations": change("search", num_simulations=128),
        "8 candidates": change("search", num_candidates=8),
        "no noise": change("search", exploration=0.0),
        "noise 1": change("search", exploration=1.0),
        "torso of 32, no block": change("network", width=32, num_blocks=0),
        "torso of 512, 3 blocks": change("network", width=512, num_blocks=3),
    }.items()
} | {
    "hindsight demonstrations": (lambda config: config, Hindsight),
    "leftovers cost what the rank profile tells": (lambda config: config, ProfilePenalty),
}


def run(config: MatmulConfig, program: MatmulProgram, limit: float) -> dict[str, Any]:
    """Train until the record or the limit."""
    with tempfile.TemporaryDirectory() as folder:
        found = Discoveries(Path(folder), {})
        trainer = MatmulTrainer(config, [found], program)
        silent = NullRecorder("matmul", "ablation", Path(folder))
        state = trainer.init()
        jax.block_until_ready(state.device)
        began = time.perf_counter()
        while not trainer.finished(state) and time.perf_counter() - began < limit:
            state, outcome = trainer.advance(state)
            state = trainer.record(state, outcome, silent)
            if found.at_record:
                break
        seconds = time.perf_counter() - began
        return {
            "seed": config.seed,
            "reached": found.at_record,
            "seconds": seconds,
            "rank": None if found.best is None else found.best.rank,
            "games": state.progress.episodes + state.progress.playing,
            "updates": state.progress.updates,
        }


def ablate(size: tuple[int, int, int], names: list[str], seeds: int, limit: float, out: Path) -> None:
    """Run variants and write a line of JSON for each."""
    base = presets.discover()
    base = dataclasses.replace(
        base,
        game=dataclasses.replace(base.game, size=size),
        search=SearchConfig(),
        demonstration=DemonstrationConfig(pretraining_steps=500),
        selfplay=SelfPlayConfig(num_epochs=10_000, evaluation_interval=0),
        tracking=dataclasses.replace(base.tracking, log_interval=50),
        devices=1,
    )
    for name in names:
        make, kind = VARIANTS[name]
        config = make(base)
        program = kind(config)
        run(dataclasses.replace(config, seed=1000), program, 0.5)  # compiles the weight update
        state = program.init(jax.random.key(0))
        batch = program.start_games(jax.random.key(0), program.move_limits, jnp.int32(1), jnp.float32(1))
        jax.block_until_ready(program.play_move(state.params, batch, jax.random.key(0), jnp.float32(1)))
        jax.block_until_ready(
            program.start_leftovers(
                jax.random.key(0), state.replay, program.move_limits, jnp.int32(1), jnp.float32(1)
            )
        )
        whole = program.start_rewriting(jax.random.key(0), state.replay)
        jax.block_until_ready(program.rewrite(state.params, whole, jax.random.key(0), jnp.int32(1)))
        jax.block_until_ready(program.keep(state.replay, batch))
        runs: list[dict[str, Any]] = []
        for seed in range(seeds):
            runs.append(run(dataclasses.replace(config, seed=seed), program, limit))
            if len(runs) == 2 and not any(each["reached"] for each in runs):
                break
        line = {"size": "x".join(map(str, size)), "variant": name, "limit": limit, "runs": runs}
        with out.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{line['size']}  {name:52} {summary(runs, limit)}", flush=True)


def summary(runs: list[dict[str, Any]], limit: float) -> str:
    """`5 of 5, median 7.1 s [6.2 to 9.8]`."""
    seconds = sorted(each["seconds"] if each["reached"] else limit for each in runs)
    reached = sum(each["reached"] for each in runs)
    median = statistics.median(seconds)
    text = f"{median:.1f}" if median < limit else f"over {limit:.0f}"
    return f"{reached} of {len(runs)}, median {text} s [{seconds[0]:.1f} to {seconds[-1]:.1f}]"


def plot(source: Path, target: Path) -> None:
    """One row per variant, one dot per seed, one panel per format."""
    import matplotlib.pyplot as plt

    lines = [json.loads(line) for line in source.read_text().splitlines()]
    sizes = list(dict.fromkeys(line["size"] for line in lines))
    names = [name for name in VARIANTS if any(line["variant"] == name for line in lines)]
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(5 + 3.5 * len(sizes), 0.8 + 0.3 * len(names)), sharey=True, squeeze=False
    )
    for axis, size in zip(axes[0], sizes, strict=True):
        for line in lines:
            if line["size"] != size:
                continue
            at = names.index(line["variant"])
            for each in line["runs"]:
                found = each["reached"]
                axis.plot(
                    each["seconds"] if found else line["limit"], at, "o" if found else "x",
                    color="tab:blue" if found else "tab:red", alpha=0.7, markersize=5,
                )  # fmt: skip
            seconds = [each["seconds"] if each["reached"] else line["limit"] for each in line["runs"]]
            axis.plot(statistics.median(seconds), at, "|", color="black", markersize=14, markeredgewidth=2)
        axis.set_xscale("log")
        axis.set_xticks(ticks := [1, 2, 5, 10, 20, 60, 300], [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.set_xlabel("seconds to the record (cross: not found)")
        axis.set_title(size)
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(names)), names)
        axis.set_ylim(len(names) - 0.5, -0.5)
    figure.tight_layout()
    figure.savefig(target, dpi=110)


def main() -> None:
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=3, default=[2, 2, 2])
    parser.add_argument("--only", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of a run at most")
    parser.add_argument("--out", type=Path, default=Path("ablation.jsonl"))
    parser.add_argument("--plot", type=Path, nargs=2, metavar=("FROM", "TO"))
    options = parser.parse_args()
    if options.plot:
        plot(*options.plot)
        return
    use_compilation_cache()
    n, m, p = options.size
    ablate((n, m, p), options.only, options.seeds, options.limit, options.out)


if __name__ == "__main__":
    main()
