"""How well agents play HackMatrix, ours and the peer's, by the game loop of `matrixrl hackmatrix evaluate`.

    python benchmarks/compare_hackmatrix.py --random --run ours:runs/a --policy MaskablePPO:build/peer/policy.npz

All play the same numbers of the same seed, whole games. Prints a table for each player, or with `--json` one JSON line
for each player and way of play. Neither PyTorch nor Stable-Baselines3 is needed: `bench_maskable_ppo.py` writes
`policy.npz`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import sb3_policy
from plot_learning import named

from matrixrl.cli.hackmatrix_agent import load_agent
from matrixrl.cli.hackmatrix_evaluate import table
from matrixrl.config import ConfigError
from matrixrl.devices.compilation_cache import use_compilation_cache
from matrixrl.envs.hackmatrix import observation
from matrixrl.envs.hackmatrix.rules import NUM_ACTIONS, OBSERVATION_SIZE
from matrixrl.systems.hackmatrix.evaluation import Policy, evaluate, uniform_policy


def peer_policy(file: Path) -> Policy:
    """The network that `bench_maskable_ppo.py` saved, as `evaluate` plays it.

    Raises:
      ConfigError: the file cannot be read, or holds no network for HackMatrix.
    """
    try:
        network = sb3_policy.load(file)
    except OSError as error:
        raise ConfigError(f"--policy {file}: {error.strerror or error}") from error
    except (KeyError, ValueError) as error:
        raise ConfigError(f"--policy {file}: this is not a policy.npz of bench_maskable_ppo.py") from error
    shape = network.actor and (network.actor[0].kernel.shape[0], network.actor[-1].kernel.shape[1])
    if shape != (OBSERVATION_SIZE, NUM_ACTIONS):
        raise ConfigError(f"--policy {file}: {shape or 'no'} inputs and outputs, not those of HackMatrix")

    def policy(packed: jax.Array, legal: jax.Array) -> jax.Array:
        return network(observation.unpack(packed), legal)

    return policy


def main() -> int:
    """Let the players asked for play."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", action="store_true", help="random legal play")
    parser.add_argument("--run", type=named, action="append", default=[], metavar="NAME:FOLDER")
    parser.add_argument("--policy", type=named, action="append", default=[], metavar="NAME:NPZ")
    parser.add_argument(
        "--best", action="store_true", help="of runs, the checkpoint with the best mean return"
    )
    parser.add_argument("--games", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if not (flags.random or flags.run or flags.policy):
        parser.error("nobody to play: give --random, --run or --policy")
    use_compilation_cache()
    try:
        players: list[tuple[str, Policy]] = [("random", uniform_policy)] if flags.random else []
        for name, folder in flags.run:
            agent = load_agent("--run", folder.name, folder.parent, None, flags.best)
            players.append((f"{name} ({agent.where})", agent.policy))
        players += [(name, peer_policy(file)) for name, file in flags.policy]
        for name, policy in players:
            ways = (False,) if policy is uniform_policy else (True, False)
            results = {
                "greedy" if greedy else "sampled": evaluate(policy, flags.games, flags.seed, greedy)
                for greedy in ways
            }
            if not flags.json:
                print(f"{name}: {flags.games:,} games, seed {flags.seed}\n{table(results)}\n", flush=True)
                continue
            for way, games in results.items():
                line = {"player": name, "way": way, "seed": flags.seed, **games.as_record()}
                print(json.dumps(line), flush=True)
    except ConfigError as error:
        print(f"compare_hackmatrix.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
