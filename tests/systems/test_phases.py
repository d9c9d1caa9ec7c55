"""Phases: their order, a phase that is added, and schemes that become games of the replay buffer."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from matrixrl.cli.matmul import read_config
from matrixrl.config import MatmulConfig
from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.scheme import Scheme
from matrixrl.systems.matmul import phases
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.phases import EPOCH, HostPhase, first_phase, next_phase
from matrixrl.systems.matmul.phases.flip_graphs import FlipGraphs
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.solutions import games_of, schemes_of
from matrixrl.systems.matmul.state import DONE, MatmulState, Progress
from matrixrl.tracking.recorder import NullRecorder
from tests.systems.test_matmul_resume import SETTINGS, program

__all__ = ["program"]  # the fixture, whose programs are compiled once for both files


class Found:
    """Discoveries that have what a phase asks for."""

    best = None
    at_record = False


def context_of(*flags: str) -> PhaseContext:
    config: MatmulConfig = read_config([*SETTINGS, *flags])
    found: Any = Found()
    nothing: Any = None
    return PhaseContext(config, nothing, [found])


def order_of(context: PhaseContext, solved: bool = False) -> list[str]:
    names = []
    progress = first_phase(context, Progress(best_ranks=(8,) if solved else (None,)))
    while progress.phase != DONE:
        names.append(progress.phase)
        progress = next_phase(context, dataclasses.replace(progress, done=3, playing=2))
        assert progress.done == progress.playing == 0
    return names


def test_phases_follow_each_other() -> None:
    flags = ("--num-epochs", "2", "--evaluation-interval", "2", "--refinement-rounds", "4")
    epoch = ["self-play", "train"]
    assert order_of(context_of(*flags)) == ["pretrain", *epoch, *epoch, "evaluate"]
    epoch.insert(1, "rewrite")
    assert order_of(context_of(*flags), solved=True) == ["pretrain", *epoch, *epoch, "evaluate"]
    epoch.insert(2, "flip")
    walks = context_of(*flags, "--flip-polish", "1000")
    assert order_of(walks, solved=True) == ["pretrain", *epoch, *epoch, "evaluate"]
    epoch.remove("rewrite")  # walks need no solution
    assert order_of(walks) == ["pretrain", *epoch, *epoch, "evaluate"]


def test_a_run_without_pretraining_begins_with_games_and_one_without_epochs_is_over() -> None:
    assert order_of(context_of("--num-epochs", "1", "--pretraining-steps", "0"))[0] == "self-play"
    assert order_of(context_of("--num-epochs", "0")) == ["pretrain"]


class Counting(HostPhase):
    name, title, unit = "count", "counting", "numbers"

    def length(self, config: MatmulConfig) -> int:
        return 2

    def work(self, context: PhaseContext, state: MatmulState, seed: int, run: Any) -> MatmulState:
        progress = dataclasses.replace(state.progress, done=state.progress.done + 1)
        return state._replace(progress=progress)


def test_a_phase_is_added_by_one_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "EPOCH", (*EPOCH[:2], Counting(), *EPOCH[2:]))
    context = context_of("--num-epochs", "1", "--evaluation-interval", "0")
    assert order_of(context) == ["pretrain", "self-play", "count", "train"]
    state: Any = MatmulState(None, Progress(phase="count"))  # pyright: ignore[reportArgumentType]
    phase = phases.phase_named("count")
    nothing: Any = None
    over = []
    for _ in range(2):
        state, result = phase.advance(context, state, jax.random.key(0))
        state, is_over = phase.record(context, state, result, nothing)
        over.append(is_over)
    assert over == [False, True]


def test_schemes_become_games_that_the_replay_buffer_keeps(program: MatmulProgram) -> None:
    size = program.config.game.formats[0]
    scheme = known_scheme(size)
    games = games_of(program, [scheme, scheme])
    assert games.num_moves[:2].tolist() == [scheme.rank, scheme.rank]
    assert not np.asarray(games.num_moves[2:]).any()
    assert np.asarray(games.cost[:2]).tolist() == [scheme.rank] * 2
    back = schemes_of(program, games, {0: scheme.rank})[0]
    wanted = scheme.mod2() if program.codec.ring.modulus == 2 else scheme
    assert sorted(map(str, zip(*map(np.ndarray.tolist, back.factors), strict=True))) == sorted(
        map(str, zip(*map(np.ndarray.tolist, wanted.factors), strict=True))
    )
    state = program.init(jax.random.key(0))
    kept = program.keep(state.replay, games)
    assert int(kept.num_games) == 2


def test_schemes_that_do_not_fit_are_refused(program: MatmulProgram) -> None:
    with pytest.raises(ValueError, match="the run plays"):
        games_of(program, [known_scheme((3, 3, 3))])
    scheme = known_scheme(program.config.game.formats[0])
    with pytest.raises(ValueError, match="a batch has"):
        games_of(program, [scheme] * (program.config.selfplay.batch_of_games + 1))


def test_walks_from_own_solutions_find_lower_ranks_and_feed_the_replay_buffer(
    program: MatmulProgram, tmp_path: Path
) -> None:
    # (B11 + B12) C11 + B12 C11 + B12 C12 + B13 C13, times A11: one term too many.
    v = [[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1]]
    w = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    solution = Scheme((1, 1, 3), "F2", [[1]] * 4, v, w)
    config = dataclasses.replace(
        program.config, selfplay=dataclasses.replace(program.config.selfplay, flip_polish=700_000)
    )
    states = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        found = Discoveries(tmp_path / name, {})
        found.check(solution)
        context = PhaseContext(config, program, [found])
        phase = phases.phase_named("flip")
        assert phase.length(config) == 2
        state = program.init(jax.random.key(0))
        run = NullRecorder("matmul", name, tmp_path / name)
        progress = Progress(phase="flip", epoch=1, chunk=7, step_limits=(5,), best_ranks=(4,))
        state, result = phase.advance(context, MatmulState(state, progress), jax.random.key(0))
        state, is_over = phase.record(context, state, result, run)
        states.append((found.best, list(found.solutions), state.progress))
        assert run.clock.step == 1
        assert not is_over  # the goal is the best known rank over the integers, not asked for here
        state, is_over = phase.record(context, state, result + 1, run)
        assert is_over
        assert state.progress.best_ranks == (3,)
        assert int(state.device.replay.num_games) == len(found.solutions)
    assert states[0] == states[1]
    best = states[0][0]
    assert best is not None
    assert (best.rank, best.ring) == (3, "Z")


def test_walks_start_from_the_standard_algorithm_until_there_is_a_solution(
    program: MatmulProgram, tmp_path: Path
) -> None:
    game = dataclasses.replace(program.config.game, size=(2, 2, 2))
    settings = dataclasses.replace(program.config.selfplay, flip_polish=1)
    config = dataclasses.replace(program.config, game=game, selfplay=settings)
    found = Discoveries(tmp_path, {})
    context = PhaseContext(config, program, [found])
    run = NullRecorder("matmul", "one", tmp_path)
    phase = FlipGraphs()
    device: Any = None
    progress = Progress(phase="flip", epoch=1, step_limits=(7,), best_ranks=(None,))
    state = MatmulState(device, progress)
    state = phase.work(context, state, 0, run)
    assert state.progress.best_ranks == (None,)  # one flip reduces nothing
    settings = dataclasses.replace(settings, flip_polish=100_000)
    context.config = dataclasses.replace(config, selfplay=settings)
    state = phase.work(context, state._replace(progress=progress), 0, run)
    assert state.progress.best_ranks == (7,)
    assert found.best is not None
    assert found.best.rank == 7


def test_a_program_goes_when_nothing_uses_it() -> None:
    dropped = MatmulProgram(read_config(SETTINGS))
    state = dropped.init(jax.random.key(0))
    state = state._replace(replay=dropped.keep(state.replay, state.games))
    gone = weakref.ref(dropped)
    del dropped, state
    gc.collect()
    assert gone() is None
