"""Long-range moves of walks that are stuck: exact, and by the policy of a trained agent."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.cli.matmul_flip import read_config
from matrixrl.config import ConfigError
from matrixrl.schemes.known import strassen
from matrixrl.schemes.problem import Problem, as_problem
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import Pool, WalkerState, from_scheme, standard_rows, to_scheme
from matrixrl.systems.flip.long_range import ExactMove, LongRangeResult, move_stuck_walkers
from matrixrl.systems.flip.policy import POLICY_FILE, PolicyMove, kept_policy
from matrixrl.systems.flip.rows import flip_metrics
from matrixrl.tracking.journal_reader import JournalReader
from tests.systems.conftest import Result

SMALL = as_problem((2, 2, 2))


class FixedMove:
    """Returns the same rows for each walker."""

    def __init__(self, rows: np.ndarray | None, taken: bool = True) -> None:
        self.rows, self.taken, self.keys = rows, taken, list[tuple[int, int]]()

    def takes(self, problem: Problem) -> bool:
        return self.taken

    def apply(
        self, schemes: Sequence[np.ndarray], problem: Problem, key: tuple[int, int]
    ) -> list[np.ndarray | None]:
        self.keys.append(key)
        return [self.rows for _ in schemes]


def stuck_walker(idle: int = 100, moved_at: int = 0) -> WalkerState:
    return WalkerState(standard_rows(SMALL, "F2"), 5, 8, 3, idle, moved_at, 1)


def moved(rows: np.ndarray | None, walker: WalkerState, pool: Pool | None = None) -> LongRangeResult:
    return move_stuck_walkers(FixedMove(rows), pool or Pool.standard(SMALL, "F2"), [walker, None], 50, (1, 2))


def test_a_shorter_scheme_is_where_the_walk_continues() -> None:
    pool, rows = Pool.standard(SMALL, "F2"), from_scheme(strassen(), "F2")
    result = moved(rows, stuck_walker(), pool)
    walker = result.walkers[0]
    assert walker is not None
    assert np.array_equal(walker.rows, rows)
    assert (walker.best, walker.idle, walker.since, walker.moved_at) == (7, 0, 0, 0)
    assert (result.tried, result.changed, result.shorter, len(result.found)) == (1, 1, 1, 1)
    assert result.walkers[1] is None
    assert pool.best_rank == 7


def test_another_scheme_of_the_same_rank_is_too() -> None:
    rows = standard_rows(SMALL, "F2")
    # a1 b1 c1 + a1 b2 c2 = a1 (b1 + b2) c1 + a1 b2 (c1 + c2): a flip of two products that share a factor.
    first, second = next(
        (i, j) for i in range(8) for j in range(8) if i != j and (rows[i, 0] == rows[j, 0]).all()
    )
    other = rows.copy()
    other[first, 1] ^= rows[second, 1]
    other[second, 2] ^= rows[first, 2]
    result = moved(other, stuck_walker())
    walker = result.walkers[0]
    assert walker is not None
    assert np.array_equal(walker.rows, other)
    assert (walker.best, walker.idle, walker.moved_at) == (8, 100, 100)
    assert (result.changed, result.shorter, len(result.found)) == (1, 0, 1)


@pytest.mark.parametrize("wrong", ["none", "longer", "same", "no scheme"])
def test_other_results_are_dropped(wrong: str) -> None:
    rows = standard_rows(SMALL, "F2")
    results = {
        "none": None,
        "longer": np.concatenate([rows, rows[:1], rows[:1]]),
        "same": rows[::-1],
        "no scheme": rows[:7],
    }
    pool = Pool.standard(SMALL, "F2")
    result = moved(results[wrong], stuck_walker(), pool)
    walker = result.walkers[0]
    assert walker is not None
    assert np.array_equal(walker.rows, rows)
    assert (walker.idle, walker.moved_at, walker.since) == (100, 100, 3)
    assert (result.tried, result.changed, result.found) == (1, 0, ())
    assert pool.counts() == {8: 1}


def test_only_stuck_walkers_move_and_again_after_as_many_flips() -> None:
    rows = from_scheme(strassen(), "F2")
    assert moved(rows, stuck_walker(idle=49)).tried == 0
    assert moved(rows, stuck_walker(idle=99, moved_at=50)).tried == 0
    assert moved(rows, stuck_walker(idle=100, moved_at=50)).tried == 1
    other = move_stuck_walkers(
        FixedMove(rows, taken=False), Pool.standard(SMALL, "F2"), [stuck_walker()], 1, (0, 0)
    )
    assert other.tried == 0


def test_exact_moves_are_schemes_and_repeat() -> None:
    problem = as_problem((2, 2, 3))
    given = [standard_rows(problem, "F2")] * 3
    found = ExactMove().apply(given, problem, (1, 2))
    again = ExactMove().apply(given, problem, (1, 2))
    assert any(rows is not None for rows in found)
    for rows, same in zip(found, again, strict=True):
        assert (rows is None) == (same is None)
        if rows is not None:
            assert same is not None
            assert np.array_equal(rows, same)
            assert len(rows) <= 12
            assert verify(to_scheme(rows, problem, "F2"))
    assert ExactMove().apply([given[0][:3]], problem, (1, 2)) == [None]


def command(*words: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(words))
    return status, output.getvalue(), errors.getvalue()


def search(runs_dir: Path, *flags: str) -> dict[str, Any]:
    words = ["matmul", "flip", *flags, "--runs-dir", str(runs_dir), "--json", "--console", "quiet"]
    status, output, errors = command(*words)
    assert status == 0, errors
    return json.loads(output.splitlines()[-1])


def resumed_search(folder: Path, copies: Path) -> dict[str, Any]:
    """Resumes a copy of a run from its second checkpoint."""
    steps = CheckpointStore(folder).steps()
    assert len(steps) > 2
    shutil.copytree(folder, copies / folder.name)
    for later in steps[2:]:
        shutil.rmtree(copies / folder.name / "checkpoints" / str(later))
    return search(copies, "--resume-run", folder.name)


def assert_same_end(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name in ("best_rank", "flips", "rounds", "restarts", "pluses", "long_range_moves", "pool"):
        assert one[name] == other[name], name
    arrays = []
    for result in (one, other):
        checkpoint, _ = CheckpointStore(Path(result["run_dir"])).newest()
        assert checkpoint is not None
        arrays.append(checkpoint.host_arrays())
    assert arrays[0].keys() == arrays[1].keys()
    assert any(name.startswith("walkers_0/") for name in arrays[0])
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])


SEARCH = ["--num-walkers", "2", "--flips-per-round", "20000", "--restart-after", "60000", "--seed", "4"]
SEARCH += ["--save-interval-chunks", "3", "--keep-last", "99", "--run-name", "r"]


def test_exact_moves_and_learned_starts_resume_exactly(tmp_path: Path) -> None:
    flags = ["--size", "2", "2", "3", "--target-rank", "9", "--flips", "300000", "--long-range", "exact"]
    whole = search(tmp_path, *flags, *SEARCH, "--restart-choice", "learned")
    assert whole["long_range_moves"]["kind"] == "exact"
    assert whole["long_range_moves"]["tried"] > 2
    assert whole["long_range_moves"]["changed"] > 0
    assert whole["restarts"] > 0
    assert whole["verified"] is True
    (tmp_path / "copy").mkdir()
    assert_same_end(resumed_search(Path(whole["run_dir"]), tmp_path / "copy"), whole)
    with JournalReader(Path(whole["run_dir"])) as reader:
        last = list(reader.stream())[-1].metrics
    assert set(last) <= set(flip_metrics(read_config([*flags, *SEARCH])))
    assert last["move/tried"] == whole["long_range_moves"]["tried"]


@pytest.fixture(scope="module")
def refined(tiny_run: Result, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A search with an agent of 1x2x1 over the integers."""
    flags = ["--size", "1", "2", "1", "--ring", "Z", "--target-rank", "1", "--flips", "400000"]
    agent = ["--refine-with", str(tiny_run.directory)]
    return search(tmp_path_factory.mktemp("refined"), *flags, *SEARCH, *agent)


@pytest.mark.slow
def test_a_policy_re_derives_and_resumes_exactly_without_its_run(
    refined: dict[str, Any], tmp_path: Path
) -> None:
    moves = refined["long_range_moves"]
    assert moves["kind"] == "policy"
    assert moves["tried"] > 2
    assert moves["changed"] > 0
    assert refined["best_rank"] == 2
    folder = Path(refined["run_dir"])
    assert (folder / POLICY_FILE).exists()
    assert_same_end(resumed_search(folder, tmp_path), refined)


@pytest.mark.slow
def test_results_of_a_policy_are_schemes(refined: dict[str, Any]) -> None:
    problem = as_problem((1, 2, 1))
    move = PolicyMove(kept_policy(Path(refined["run_dir"])))
    assert move.takes(problem)
    assert not move.takes(SMALL)
    rows = standard_rows(problem, "Z")
    # More schemes than a batch has games, and one that is too long for a game.
    given = [rows] * 65 + [np.concatenate([rows, rows])]
    found = move.apply(given, problem, (3, 4))
    assert len(found) == 66
    assert found[65] is None
    results = [result for result in found if result is not None]
    assert len(results) > 5
    for result in results:
        assert len(result) <= 2
        assert not np.array_equal(result, rows)
        assert verify(to_scheme(result, problem, "Z"))
    again = move.apply(given, problem, (3, 4))
    assert all(a is b or np.array_equal(a, b) for a, b in zip(found, again, strict=True))  # pyright: ignore


@pytest.mark.slow
def test_a_damaged_copy_of_the_agent_is_named(refined: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.npz: the agent of --refine-with cannot be read"):
        kept_policy(tmp_path)
    content = (Path(refined["run_dir"]) / POLICY_FILE).read_bytes()
    for damaged in (content[: len(content) // 2], b"no archive"):
        (tmp_path / POLICY_FILE).write_bytes(damaged)
        with pytest.raises(ConfigError, match="start a new run"):
            kept_policy(tmp_path)


IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    (["--long-range", "policy"], ["--long-range policy", "--refine-with RUN"]),
    (["--long-range", "far"], ["--long-range far", "auto", "none", "exact", "policy"]),
    (["--long-range", "exact", "--ring", "Z"], ["--long-range exact", "F2"]),
    (["--long-range", "exact", "--refine-with", "{agent}"], ["--refine-with", "--long-range exact"]),
    (["--refine-with", "nothing"], ["--refine-with nothing", "no matmul run"]),
    (["--refine-with", "{agent}", "--ring", "F2"], ["over Z", "over F2", "--ring Z"]),
    (["--refine-with", "{agent}", "--ring", "Z", "--size", "2", "2", "2"], ["1x2x1", "2x2x2"]),
    (["--refine-with", "{flip}", "--ring", "Z"], ["a run of flip", "matmul train"]),
    (["--refine-with", "{empty}", "--ring", "Z"], ["no whole checkpoint"]),
    (["--restart-choice", "best"], ["--restart-choice best", "uniform, flips, learned"]),
    (["--long-range-rounds", "0"], ["--long-range-rounds 0"]),
]


@pytest.mark.parametrize(("flags", "texts"), IMPOSSIBLE, ids=lambda value: " ".join(value))
def test_bad_input_is_one_line_and_no_run(
    flags: list[str], texts: list[str], tiny_run: Result, tmp_path: Path
) -> None:
    walks = tmp_path / "walks"
    walks.mkdir()
    (walks / "run.json").write_text(json.dumps({"name": "walks", "system": "flip"}))
    empty = tmp_path / "empty"
    shutil.copytree(tiny_run.directory, empty)
    shutil.rmtree(empty / "checkpoints")
    names = {"agent": str(tiny_run.directory), "flip": str(walks), "empty": str(empty)}
    if "--size" not in flags:
        flags = ["--size", "1", "2", "1", *flags]
    flags = [flag.format(**names) for flag in flags]
    folder = tmp_path / "runs"
    status, _, errors = command("matmul", "flip", *flags, "--runs-dir", str(folder))
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert errors.startswith("matrixrl: ")
    assert all(text in errors for text in texts), errors
    assert not folder.exists() or list(folder.iterdir()) == []


@pytest.mark.slow
def test_a_resumed_search_keeps_its_agent(refined: dict[str, Any]) -> None:
    folder = Path(refined["run_dir"])
    words = ["--resume-run", folder.name, "--runs-dir", str(folder.parent)]
    status, _, errors = command("matmul", "flip", *words, "--refine-with", "another")
    assert status == 2
    assert "--refine-with another" in errors
