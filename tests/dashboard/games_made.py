"""Run folders with games: schemes, search trees and moves, made without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from matrixrl import presets
from matrixrl.config import GameConfig, MatmulConfig, TrackingConfig, as_record
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.envs.matmul.tensors import ring
from matrixrl.schemes.known import strassen
from matrixrl.systems.matmul.search_log import render
from matrixrl.systems.matmul.spec import SPEC
from matrixrl.tracking.events import MoveRow
from matrixrl.tracking.run import open_run

SEARCHED = {
    "format": "matrixrl-search", "version": 1, "problem": "1x2x1", "ring": "Z", "epoch": 2, "episode": 6,
    "standard_basis": False, "shape": [2, 2, 1], "target": [1, 1, 1, 0], "solved": True, "rank": 2,
    "terms": ["++ +0 +", "+0 0+ +"],
    "moves": [
        {"move": 1, "reward": -1.0, "residual": 1, "root_value": -2.836, "parent": [-1, 0, 0, 0, 0],
         "term": ["", "++ +0 +", "+0 0+ +", "0+ 0+ -", "+- +0 -"], "visits": [5, 1, 1, 1, 1],
         "prior": [1.0, 0.2014, 0.2014, 0.2996, 0.2975], "value": [-2.836, -2.013, -2.013, -2.013, -2.013],
         "candidates": ["0+ 0+ -", "+0 0+ +", "++ +0 +", "+- +0 -"],
         "candidate_prior": [0.2996, 0.2014, 0.2014, 0.2975], "weights": [0.2996, 0.2014, 0.2014, 0.2975]},
        {"move": 2, "reward": -1.0, "residual": 0, "root_value": -1.203, "parent": [-1, 0],
         "term": ["", "+0 0+ +"], "visits": [5, 4], "prior": [1.0, 1.0], "value": [-1.203, 0.0],
         "candidates": ["+0 0+ +"], "candidate_prior": [1.0], "weights": [1.0]},
    ],
}  # fmt: skip
"""The second file of a run of 1x2x1 with `--record-search`."""

MOVED = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]])
"""A change of basis."""


def matmul_config(**game: Any) -> MatmulConfig:
    return dataclasses.replace(presets.matmul("dev"), game=GameConfig(**{"ring": "F2", **game}))


def codec_of(config: MatmulConfig) -> ActionCodec:
    game = config.game
    return ActionCodec(
        game.shape,
        ring(game.ring, game.max_coefficient),
        config.network.max_token_classes,
        whole_vectors=config.transforms,
    )


def make_games(runs_dir: Path, name: str) -> Path:
    """A run of 2x2x2 modulo 2 with a scheme, its solutions, search trees, and the moves of four games: solved and
    unsolved ones, from the standard basis and from another one.
    """
    config = matmul_config()
    codec = codec_of(config)
    solution = strassen().mod2()
    tracking = TrackingConfig(runs_dir=runs_dir, run_name=name, console="quiet", record_moves=True)
    with open_run(tracking, system=SPEC, name_prefix="matmul", run_config=as_record(config)) as run:
        target = solution.problem.tensor() % 2
        moved = np.einsum("ijk,ai->ajk", target, MOVED)
        for episode, (start, basis, length) in enumerate(
            [(target, np.eye(4, dtype=int), 7), (moved, MOVED, 7), (target, np.eye(4, dtype=int), 3), (moved, MOVED, 3)],
            start=1,
        ):  # fmt: skip
            terms = [(basis @ u % 2, v, w) for u, v, w in zip(*solution.factors, strict=True)][:length]
            record_moves(run, codec, episode, start, terms)
        strassen().with_provenance(source="matrixrl quick, seed 0").save(run.directory / "scheme.json")
        (run.directory / "scheme_solutions.json").write_text(
            render([solution.to_record(), solution.to_record()])
        )
        (run.directory / "search").mkdir()
        (run.directory / "search" / "epoch-000002.json").write_text(render(SEARCHED) + "\n")
        (run.directory / "search" / "epoch-000003.json").write_text('{"format": "matrixrl-sea')
        run.finish("finished")
    return run.directory


def record_moves(run: Any, codec: ActionCodec, episode: int, start: np.ndarray, terms: Sequence[Any]) -> None:
    residual = start.copy()
    for number, term in enumerate(terms, start=1):
        residual = (residual - np.einsum("i,j,k->ijk", *term)) % 2
        u, v, w = (jnp.asarray(vector) for vector in term)
        tokens = np.asarray(codec.encode(u, v, w))
        action = tuple(int(token) for token in tokens)
        tick = run.clock.advance()[-1]
        run.record([MoveRow(tick, episode, number, action, -1.0, float(residual.sum()))])
