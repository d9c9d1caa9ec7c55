"""What reusing sub-trees and merging transpositions could save: shares of the nodes of the trees that self-play grows.

python benchmarks/bench_search_tree.py --size 2 2 3

*Reusable*: nodes below the action that was played, which a search that keeps its tree would not have to make again.
*Transposed*: nodes whose residual another node of the same tree has (two terms in either order lead to one residual).
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from matrixrl import presets
from matrixrl.devices.compilation_cache import use_compilation_cache
from matrixrl.systems.matmul.program import MatmulProgram


def main() -> None:
    """Train a little, play a batch of games, and look at every tree."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=3, default=[2, 2, 2])
    parser.add_argument("--games", type=int, default=64)
    parser.add_argument("--num-simulations", type=int, nargs="+", default=[32, 128])
    options = parser.parse_args()
    use_compilation_cache()
    n, m, p = options.size
    config = presets.quick()
    config = dataclasses.replace(
        config,
        devices=1,
        game=dataclasses.replace(config.game, size=(n, m, p)),
        selfplay=dataclasses.replace(
            config.selfplay, parallel_games=options.games, episodes_per_epoch=options.games
        ),
        tracking=dataclasses.replace(config.tracking, log_interval=100),
    )
    params = None
    plain: Any = mctx.gumbel_muzero_policy
    for simulations in options.num_simulations:
        program = MatmulProgram(
            dataclasses.replace(
                config, search=dataclasses.replace(config.search, num_simulations=simulations)
            )
        )
        key = jax.random.key(0)
        if params is None:
            state = program.init(key)
            params, opt_state = state.params, state.opt_state
            for chunk in range(5):
                params, opt_state, _ = program.learn(
                    params, opt_state, state.replay, jax.random.fold_in(key, chunk), jnp.int32(100), jnp.bool_(False)
                )  # fmt: skip
        kept: list[Any] = []

        def noting(*arguments: Any, kept: list[Any] = kept, **named: Any) -> Any:
            output = plain(*arguments, **named)
            tree = output.search_tree
            kept.append(
                (tree.node_visits, tree.children_index, output.action, tree.embeddings.state.residual)
            )
            return output

        @jax.jit
        def played(params: Any, batch: Any, key: Any, program: Any = program, kept: Any = kept) -> Any:
            batch, move = program._play_groups(
                params, batch, jax.random.split(key, 1), jnp.float32(config.search.exploration)
            )
            return batch, move, kept.pop()

        mctx.gumbel_muzero_policy = noting
        jax.vmap = _without_groups
        try:
            batch = program.start_games(key, program.move_limits, jnp.int32(options.games), jnp.float32(1))
            reusable, transposed = [], []
            for number in range(config.game.moves):
                live = ~np.asarray(batch.state.terminated)
                batch, _, tree = played(params, batch, jax.random.fold_in(key, number))
                visits, children, action, residual = jax.tree.map(np.asarray, tree)
                for game in np.flatnonzero(live):
                    child = children[game, 0, action[game]]
                    reusable.append(visits[game, child] / simulations if child >= 0 else 0.0)
                    nodes = residual[game][visits[game] > 0].reshape((visits[game] > 0).sum(), -1)
                    transposed.append(1 - len(np.unique(nodes, axis=0)) / len(nodes))
        finally:
            mctx.gumbel_muzero_policy, jax.vmap = plain, VMAP
        print(
            f"{n}x{m}x{p}, {simulations} simulations: reusable {statistics.mean(reusable):.1%}, "
            f"transposed {statistics.mean(transposed):.1%} of the nodes, {len(reusable)} trees",
            flush=True,
        )


VMAP = jax.vmap


def _without_groups(function: Any, *arguments: Any, **named: Any) -> Any:
    """`vmap`, but for the groups that games are searched in: it would keep the tree's tracers to itself."""
    return _single(function) if function.__name__ == "find" else VMAP(function, *arguments, **named)


def _single(function: Any) -> Any:
    """A function of one group in place of its `vmap` over groups of one."""

    def call(keys: Any, states: Any) -> Any:
        found = function(keys[0], jax.tree.map(lambda leaf: leaf[0], states))
        return jax.tree.map(lambda leaf: leaf[None], found)

    return call


if __name__ == "__main__":
    main()
