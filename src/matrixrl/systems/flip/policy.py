"""Re-derivation of products by the policy of a trained agent of matrix multiplication.

The settings and the parameters of the agent are copied into the folder of the search, so that a
resumed search needs neither the run nor the checkpoint that they come from.
"""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from matrixrl.config import ConfigError, MatmulConfig, as_record, from_record, require
from matrixrl.config.matmul import MAX_MOVES, GameConfig
from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.search.flip_graph import from_scheme, to_scheme
from matrixrl.systems.flip.long_range import SchemeRows
from matrixrl.tracking.status import activity
from matrixrl.whole_files import write_whole

POLICY_FILE = "policy.npz"
"""Copy of the agent in the run folder."""

ROUNDS = 12
"""Number of refinement rounds of a move.
Each removes 6 to 12 products of every copy of a scheme.
"""

COPIES = 64
"""Number of schemes that are refined together: copies of those of the walkers."""

_SETTINGS = "settings"
_PARAMS = "params/"


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """An agent.

    Attributes:
      config: settings of its run.
      arrays: its parameters by name.
    """

    config: MatmulConfig
    arrays: Mapping[str, Float32[np.ndarray, "..."]]


def check_policy(config: MatmulConfig, problems: Sequence[Problem], ring: str, flag: str) -> None:
    """Checks that an agent plays at least one of the problems of a search.

    Args:
      config: settings of the agent's run.
      problems, ring: of the search.
      flag: start of the message, with the name of the run.

    Raises:
      ConfigError: if it does not.
    """
    game = config.game
    require(
        game.ring == ring,
        f"{flag}: an agent over {game.ring}, but the walks are over {ring}; give --ring {game.ring}, or another run",
    )
    played = ", ".join(map(str, game.problems))
    wanted = ", ".join(map(str, problems)) if len(problems) <= 3 else f"{len(problems)} formats"
    require(
        any(problem in game.problems for problem in problems),
        f"{flag}: an agent for {played}, but the search is for {wanted}; give a run that was trained on the same "
        "problem",
    )


def keep_policy(directory: Path, policy: TrainedPolicy) -> None:
    """Writes an agent to the run folder."""
    record = json.dumps(as_record(policy.config))
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {_PARAMS + name: array for name, array in policy.arrays.items()}
    np.savez(buffer, **{_SETTINGS: np.frombuffer(record.encode(), np.uint8)}, **arrays)
    write_whole(directory / POLICY_FILE, buffer.getvalue())


def kept_policy(directory: Path) -> TrainedPolicy:
    """Returns the agent that `keep_policy` wrote.

    Raises:
      ConfigError: if there is none, or the file is damaged.
    """
    path = directory / POLICY_FILE
    try:
        # An archive that is damaged would leave the file itself open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in saved.files}
        config = from_record(MatmulConfig, json.loads(arrays.pop(_SETTINGS).tobytes()))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(
            f"{path}: the agent of --refine-with cannot be read ({error}); start a new run with --refine-with"
        ) from error
    return TrainedPolicy(config, {name.removeprefix(_PARAMS): array for name, array in arrays.items()})


class PolicyMove:
    """Refinement of a scheme by a policy: the long-range move of `--long-range policy`."""

    def __init__(self, policy: TrainedPolicy) -> None:
        """Prepares the move; nothing is compiled before the first one."""
        self._policy = policy
        self._loaded: tuple[Any, Any] | None = None

    def takes(self, problem: Problem) -> bool:
        """Returns whether the agent was trained on a problem."""
        return problem in self._policy.config.game.problems

    def apply(
        self, schemes: Sequence[SchemeRows], problem: Problem, key: tuple[int, int]
    ) -> list[SchemeRows | None]:
        """Refines copies of each scheme; returns the shortest result of each that differs from
        it.
        """
        program, _ = self._load()
        lanes = program.config.selfplay.batch_of_games // len(program.config.game.problems)
        found: list[np.ndarray | None] = [None] * len(schemes)
        fitting = [n for n, rows in enumerate(schemes) if len(rows) <= program.config.game.moves]
        for first in range(0, len(fitting), lanes):
            chosen = fitting[first : first + lanes]
            copies = lanes // len(chosen)
            given = [to_scheme(schemes[n], problem, program.config.game.ring) for n in chosen]
            refined = self._refined([scheme for scheme in given for _ in range(copies)], (*key, first))
            for index, number in enumerate(chosen):
                own = refined[index * copies : (index + 1) * copies]
                found[number] = _shortest_other(own, from_scheme(given[index], program.config.game.ring))
        return found

    def _refined(self, schemes: Sequence[Scheme], key: tuple[int, int, int]) -> list[Scheme]:
        """Performs refinement rounds on schemes of one problem, at most one for each lane."""
        import jax
        import jax.numpy as jnp

        from matrixrl.systems.matmul.solutions import games_of, schemes_of

        program, params = self._load()
        problems = program.config.game.problems
        random = jax.random.key(key[0])
        for number in key[1:]:
            random = jax.random.fold_in(random, number)
        with activity("re-deriving products by the policy"):
            games = games_of(program, schemes)
            games, _, num_moves = program.refine(params, games, random, jnp.int32(ROUNDS))
            lengths = jax.device_get(num_moves)
            # Lane k plays problem k modulo their number.
            lanes = [problems.index(schemes[0].problem) + k * len(problems) for k in range(len(schemes))]
            refined = schemes_of(program, games, {lane: int(lengths[lane]) for lane in lanes})
        return [refined[lane] for lane in lanes]

    def _load(self) -> tuple[Any, Any]:
        """Returns the compiled programs and the parameters on the device."""
        if self._loaded is None:
            import jax

            from matrixrl.checkpoints.format import names_of
            from matrixrl.systems.matmul.evaluation import evaluation_config
            from matrixrl.systems.matmul.program import MatmulProgram

            config = self._policy.config
            lanes = COPIES * len(config.game.problems)
            config = evaluation_config(config, lanes, None)
            config = dataclasses.replace(config, game=_with_all_moves(config.game), devices=1)
            program = MatmulProgram(config)
            shapes = program.template.params
            names = names_of(shapes)
            leaves = [
                jax.numpy.asarray(self._policy.arrays[name], shape.dtype)
                for name, shape in zip(names, jax.tree.leaves(shapes), strict=True)
            ]
            self._loaded = program, jax.tree.unflatten(jax.tree.structure(shapes), leaves)
        return self._loaded


def _with_all_moves(game: GameConfig) -> GameConfig:
    """Returns the settings of games with a move for each product of the standard algorithm."""
    if len(game.problems) > 1:
        return dataclasses.replace(game, step_margin=max(0, game.step_margin))
    moves = max(game.moves, min(game.standard_rank, MAX_MOVES))
    return dataclasses.replace(game, step_limit=moves)


def _shortest_other(refined: Sequence[Scheme], before: np.ndarray) -> np.ndarray | None:
    """Returns the shortest scheme that differs from the one before, as rows; None without any."""
    best: np.ndarray | None = None
    for scheme in refined:
        try:
            rows = from_scheme(scheme, "F2" if scheme.ring == "F2" else "Z")
        except SchemeError:  # a coefficient that walks do not have
            continue
        if not np.array_equal(rows, before) and (best is None or len(rows) < len(best)):
            best = rows
    return best
