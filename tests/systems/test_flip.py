"""Searches on flip graphs as runs: what they record, resume from and find."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from matrixrl.checkpoints.store import CheckpointStore
from matrixrl.cli.main import main
from matrixrl.cli.matmul_flip import read_config
from matrixrl.config import FlipConfig, FlipGraphConfig
from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.library import find_entry
from matrixrl.schemes.problem import Problem
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.tensor_files import problem_from_text
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import (
    Pool,
    WalkerState,
    from_scheme,
    standard_rows,
    to_orbits,
    to_scheme,
)
from matrixrl.systems.flip.rows import flip_metrics
from matrixrl.systems.flip.state import FlipProgress, flip_progress_from_record
from matrixrl.systems.flip.table import best_in_pools, next_visit, seeds_for
from matrixrl.systems.flip.trainer import FlipTrainer
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.tracking.audit import audit
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.summary import summarize
from tests.checkpoints import runs

SEARCH = ["--size", "3", "3", "3", "--target-rank", "20", "--flips", "1000000", "--flips-per-round", "40000"]
SEARCH += ["--num-walkers", "2", "--seed", "5", "--console", "quiet"]


@dataclass
class Searched:
    folder: Path
    result: dict[str, Any]


def command(*words: str) -> tuple[int, str, str]:
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        status = main(list(words))
    return status, output.getvalue(), errors.getvalue()


def search(runs_dir: Path, *flags: str) -> Searched:
    status, output, errors = command("matmul", "flip", *flags, "--runs-dir", str(runs_dir), "--json")
    assert status == 0, errors
    result = json.loads(output.splitlines()[-1])
    return Searched(Path(result["run_dir"]), result)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Searched:
    """An undisturbed search with a checkpoint after every fourth round."""
    return search(
        tmp_path_factory.mktemp("flip"),
        *SEARCH,
        "--run-name",
        "r",
        "--save-interval-chunks",
        "4",
        "--keep-last",
        "99",
    )


def pools_of(folder: Path) -> dict[str, np.ndarray]:
    checkpoint, _ = CheckpointStore(folder).newest()
    assert checkpoint is not None
    return checkpoint.host_arrays("pool_")


def save_standard(name: str, path: Path) -> Problem:
    """Saves the standard algorithm of a problem; returns the problem."""
    problem = problem_from_text(name)
    to_scheme(standard_rows(problem, "Z"), problem, "Z").save(path)
    return problem


def assert_same_search(one: Searched, other: Searched) -> None:
    wall_clock = (
        "seconds",
        "flips_per_second",
        "run_dir",
        "run_name",
        "run_id",
        "scheme",
        "lifted",
        "formats",
    )
    assert {k: v for k, v in one.result.items() if k not in wall_clock} == {
        k: v for k, v in other.result.items() if k not in wall_clock
    }
    pools = pools_of(one.folder), pools_of(other.folder)
    assert pools[0].keys() == pools[1].keys()
    for name, rows in pools[0].items():
        np.testing.assert_array_equal(rows, pools[1][name])
    for name, found in one.result["formats"].items():
        assert Scheme.load(found["scheme"]) == Scheme.load(other.result["formats"][name]["scheme"])
    histories = []
    for found in (one, other):
        rows = runs.history(found.folder)
        histories.append((rows["stream"], rows["episodes"], rows["marks"]))
    assert histories[0] == histories[1]


def test_the_result_is_proved_and_says_where_it_is(whole: Searched) -> None:
    result = whole.result
    assert {
        "best_rank",
        "verified",
        "ring",
        "scheme",
        "flips_per_second",
        "seconds",
        "run_name",
        "run_dir",
    } <= set(result)
    scheme = Scheme.load(result["scheme"])
    assert (scheme.rank, scheme.ring) == (result["best_rank"], result["ring"]) == (23, "F2")
    assert result["verified"] is True
    assert verify(scheme)
    assert scheme.provenance["run"] == "r"
    lifted = Scheme.load(result["lifted"])
    assert lifted.ring == "Z"
    assert verify(lifted)
    assert result["flips"] == 1_000_000
    assert result["flips_per_second"] > 0
    assert sum(result["pool"][0].values()) > 1


def test_the_journal_has_rounds_and_finds_that_agree_with_the_console(whole: Searched) -> None:
    with JournalReader(whole.folder) as reader:
        rows, finds = list(reader.stream()), list(reader.episodes())
        files = {file.path for file in reader.files()}
    assert [row.step for row in rows] == list(range(1, whole.result["rounds"] + 1))
    assert {name for row in rows for name in row.metrics} == set(flip_metrics(read_config(SEARCH)))
    best = [row.metrics["walk/best_rank"] for row in rows]
    assert best == sorted(best, reverse=True)
    assert [find.values[3] for find in finds] == sorted({rank for rank in best if rank < 27}, reverse=True)
    assert rows[-1].metrics["walk/flips"] == whole.result["flips"]
    assert {"scheme.json", "scheme.png", "scheme.txt", "scheme_f2.json"} <= files
    assert audit(whole.folder).gaps == []
    summary = summarize(whole.folder)
    assert (summary.system, summary.state, summary.best_label, summary.best) == (
        "flip",
        "finished",
        "rank",
        23,
    )
    assert summary.episodes == len(finds)


def test_resuming_from_any_checkpoint_gives_the_same_pool_and_scheme(whole: Searched, tmp_path: Path) -> None:
    steps = CheckpointStore(whole.folder).steps()
    assert len(steps) > 2
    step = steps[1]
    copy = tmp_path / "r"
    shutil.copytree(whole.folder, copy)
    for later in [found for found in steps if found > step]:
        shutil.rmtree(copy / "checkpoints" / str(later))
    again = search(tmp_path, "--resume-run", "r", "--console", "quiet")
    assert_same_search(again, whole)
    assert audit(copy).gaps == []


def test_a_killed_search_is_resumed_to_the_same_end(whole: Searched, tmp_path: Path) -> None:
    words = ["matmul", "flip", *SEARCH, "--run-name", "r", "--save-interval-chunks", "4"]
    command = [sys.executable, "-m", "matrixrl.cli.main", *words, "--runs-dir", str(tmp_path)]
    runs.kill_at_first_checkpoint(command, tmp_path / "r", runs.environment(tmp_path / "cache"))
    again = search(tmp_path, "--resume-run", "latest", "--console", "quiet")
    assert_same_search(again, whole)


def test_the_target_ends_a_search_and_a_start_is_where_it_begins(whole: Searched, tmp_path: Path) -> None:
    found = search(
        tmp_path,
        "--size",
        "3",
        "3",
        "3",
        "--start",
        whole.result["lifted"],
        "--target-rank",
        "23",
        "--ring",
        "Z",
    )
    assert found.result["rounds"] == 0
    assert (found.result["best_rank"], found.result["ring"], found.result["lifted"]) == (23, "Z", None)
    assert verify(Scheme.load(found.result["scheme"]))
    assert (found.folder / "start.json").exists()


def test_the_problem_is_that_of_the_start_unless_it_is_named(whole: Searched, tmp_path: Path) -> None:
    graph = read_config(["--start", whole.result["lifted"]]).graph
    assert (graph.size, graph.name) == ((3, 3, 3), "3x3x3")
    problem = save_standard("poly-2x2", tmp_path / "poly.json")
    graph = read_config(["--start", str(tmp_path / "poly.json"), "--ring", "Z"]).graph
    assert (graph.size, graph.problems) == (None, (problem,))


def test_a_scheme_of_another_format_is_moved_to_that_of_the_search(tmp_path: Path) -> None:
    known_scheme((2, 2, 2)).save(tmp_path / "strassen.json")
    from_strassen = ["--start", str(tmp_path / "strassen.json"), "--ring", "Z", "--console", "quiet"]
    # 7 products, and 2 x 2 for the third column; or 7 x 7, the product with itself.
    for sizes, rank in (["3", "2", "2"], 11), (["4", "4", "4"], 49):
        target = ["--size", *sizes, "--target-rank", str(rank)]
        found = search(tmp_path / "runs", *from_strassen, *target)
        assert (found.result["best_rank"], found.result["rounds"]) == (rank, 0)
        scheme = Scheme.load(found.result["scheme"])
        assert scheme.problem.name == "x".join(sizes)
        assert verify(scheme)
    # What a search starts from is no find; what is shorter is one.
    found = search(tmp_path / "runs", *from_strassen, "--size", "3", "2", "3", "--target-rank", "15")
    assert found.result["best_rank"] == 15
    with JournalReader(found.folder) as reader:
        ranks = [find.values[3] for find in reader.episodes()]
    # 11 products, and 3 x 2 for the third row, were the start.
    assert ranks[-1] == 15
    assert set(ranks) <= {15, 16}


def test_all_formats_start_from_their_schemes_of_the_library(tmp_path: Path) -> None:
    table = ["--all", "--max", "3", "--console", "quiet"]
    ranks = {"2x2x2": 7, "2x2x3": 11, "2x3x3": 15, "3x3x3": 23}
    found = search(tmp_path / "library", *table, "--start", "library")
    assert found.result["rounds"] == 0
    assert {name: of["best_rank"] for name, of in found.result["formats"].items()} == ranks
    # From a file, and resumed without it.
    start = tmp_path / "schemes.json"
    library = [find_entry(sizes).scheme for sizes in ((2, 2, 2), (3, 3, 3))]
    start.write_text(json.dumps([scheme.to_record() for scheme in library]))
    flags = [*table, "--start", str(start), "--run-name", "r", "--num-walkers", "2"]
    whole = search(tmp_path / "whole", *flags)
    assert {name: of["best_rank"] for name, of in whole.result["formats"].items()} == ranks
    search(tmp_path / "cut", *flags, "--time", "0.001s")
    start.unlink()
    again = search(tmp_path / "cut", "--resume-run", "r", "--console", "quiet", "--time", "1h")
    assert_same_search(again, whole)


def test_a_search_with_cyclic_symmetry_is_resumed_to_the_same_end(tmp_path: Path) -> None:
    flags = ["--size", "3", "3", "3", "--symmetry", "cyclic", "--target-rank", "20", "--console", "quiet"]
    flags += ["--plus-after", "2000", "--flips-per-round", "40000", "--num-walkers", "2", "--flips", "600000"]
    whole = search(tmp_path / "whole", *flags, "--run-name", "r")
    assert whole.result["best_rank"] == 23
    scheme = Scheme.load(whole.result["scheme"])
    assert verify(scheme, "F2")
    orbits, fixed = to_orbits(from_scheme(scheme, "F2"), 3)
    assert 3 * len(orbits) + len(fixed) == 23
    assert "--symmetry cyclic --plus-after 2000 " in scheme.provenance["found_by"]
    first = search(tmp_path / "cut", *flags, "--run-name", "r", "--time", "0.001s")
    assert first.result["rounds"] == 1
    again = search(tmp_path / "cut", "--resume-run", "r", "--console", "quiet", "--time", "1h")
    assert_same_search(again, whole)
    # Its scheme is a start, for walks with the symmetry and without.
    for more in ([], ["--symmetry", "cyclic"]):
        started = [*more, "--start", whole.result["scheme"], "--flips", "10000", "--console", "quiet"]
        assert search(tmp_path / "next", *started, "--target-rank", "22").result["best_rank"] == 23


def test_large_schemes_are_lifted_at_the_target_alone(tmp_path: Path) -> None:
    # 216 x 108 coefficients; the standard algorithm would lift.
    flags = ["--size", "6", "6", "6", "--flips", "2000", "--num-walkers", "1", "--console", "quiet"]
    found = search(tmp_path, *flags).result
    assert (found["lifted"], Scheme.load(found["scheme"]).ring) == (None, "F2")
    assert found["verified"]
    found = search(tmp_path, *flags, "--target-rank", "216").result
    assert Scheme.load(found["lifted"]).ring == "Z"


def test_a_short_time_is_enough_for_a_round(tmp_path: Path) -> None:
    found = search(tmp_path, "--time", "0.001s", "--console", "quiet")
    assert (found.result["best_rank"], found.result["rounds"], found.result["status"]) == (7, 1, "finished")
    more = [found.folder.name, "--time", "0.001s", "--target-rank", "1", "--console", "quiet"]
    assert search(tmp_path, "--resume-run", *more).result["rounds"] == 2


def test_a_problem_without_matrices_is_searched(tmp_path: Path) -> None:
    found = search(tmp_path, "--tensor", "complex", "--target-rank", "3", "--console", "quiet", "--ring", "Z")
    assert found.result["best_rank"] == 3
    assert Scheme.load(found.result["scheme"]).problem.name == "complex"
    assert verify(Scheme.load(found.result["scheme"]))
    status, _, errors = command(
        "runs", "delete", found.folder.name, "--yes", "--runs-dir", str(found.folder.parent)
    )
    assert (status, errors) == (0, "")
    assert not found.folder.exists()


def test_progress_of_earlier_checkpoints_is_read() -> None:
    record = {"rounds": 3, "flips": [5], "best_ranks": [7], "restarts": 2, "pluses": 1}
    progress = flip_progress_from_record(record)
    assert (progress.rounds, progress.flips, progress.moves, progress.moves_shorter) == (3, (5,), 0, 0)


IMPOSSIBLE: list[tuple[list[str], list[str]]] = [
    (["--size", "0", "2", "2"], ["--size 0 2 2", "1 or more"]),
    (["--size", "17", "16", "2"], ["--size 17 16 2", "272", "at most 256"]),
    (["--ring", "Q"], ["--ring Q", "F2, Z"]),
    (["--target-rank", "0"], ["--target-rank 0", "1 or more"]),
    (["--flips", "0"], ["--flips 0", "1 or more"]),
    (["--time", "soon"], ["--time soon", "10m"]),
    (["--tensor", "nothing"], ["--tensor nothing", "poly-NxM"]),
    (["--tensor", "poly-2x2", "--size", "2", "2", "2"], ["--tensor poly-2x2", "--size"]),
    (["--tensor", "gram-2x2"], ["--target-rank, --flips or --time"]),
    (["--max", "3"], ["--max 3", "--all"]),
    (["--all", "--max", "9"], ["--max 9", "8"]),
    (["--all", "--size", "2", "2", "2"], ["--size", "--all"]),
    (["--all", "--target-rank", "7"], ["--target-rank", "--all"]),
    (["--start", "missing.json"], ["--start missing.json", "No such file"]),
    (["--start", "{poly}", "--size", "3", "3", "3"], ["--start", "poly-2x2", "3x3x3"]),
    (["--start", "{f2}", "--size", "2", "2", "2"], ["--start", "3x3x3", "2x2x2"]),
    (["--start", "{f2}", "--size", "3", "3", "4", "--ring", "Z"], ["--start", "over F2", "lift"]),
    (["--start", "{wrong}", "--size", "3", "3", "4"], ["not a correct scheme of 3x3x3"]),
    (["--start", "{z2}", "--size", "4", "4", "4", "--symmetry", "cyclic"], ["--start", "2x2x2", "4x4x4"]),
    (["--start", "{poly}", "--all"], ["--start", "poly-2x2", "formats up to 5"]),
    (["--start", "library"], ["--start library", "--size", "--all"]),
    (["--start", "library", "--tensor", "gram-2x2", "--flips", "9"], ["--start library", "gram-2x2"]),
    (["--start", "{f2}", "--ring", "Z", "--size", "3", "3", "3"], ["over F2", "lift"]),
    (["--start", "{wrong}", "--size", "3", "3", "3"], ["not a correct scheme"]),
    (["--start", "{f2}", "--symmetry", "cyclic"], ["--start", "no cyclic images", "--symmetry cyclic"]),
    (["--symmetry", "mirror"], ["--symmetry mirror", "none, cyclic"]),
    (["--symmetry", "cyclic", "--size", "3", "3", "4"], ["--size 3 3 4", "square"]),
    (["--symmetry", "cyclic", "--size", "12", "12", "12"], ["--size 12 12 12", "11 11 11"]),
    (["--symmetry", "cyclic", "--ring", "Z"], ["--symmetry cyclic", "--ring Z", "F2"]),
    (["--symmetry", "cyclic", "--all"], ["--symmetry cyclic", "--all"]),
    (["--symmetry", "cyclic", "--tensor", "complex", "--flips", "1"], ["--symmetry cyclic", "--tensor"]),
    (["--symmetry", "cyclic", "--long-range", "exact"], ["--symmetry cyclic", "--long-range exact"]),
    (["--walkers", "3"], ["--walkers", "--num-walkers"]),
    (["--resume-run", "nothing"], ["nothing"]),
    (["--on", "cloud"], ["--on cloud", "local, ray"]),
    (["--jobs", "0"], ["--jobs 0", "1 or more"]),
    (["--ray-address", "a:1"], ["--ray-address a:1", "--on ray"]),
    (["--on", "ray", "--ray-address", "127.0.0.1:9"], ["--ray-address 127.0.0.1:9", "ray start --head"]),
    (["--on", "ray", "--ray-address", "nowhere"], ["--ray-address nowhere", "HOST:PORT"]),
    (["--on", "ray", "--flips-per-round", "100000001"], ["--flips-per-round 100000001", "at most 100000000"]),
]


@pytest.mark.parametrize(("flags", "texts"), IMPOSSIBLE, ids=lambda value: " ".join(value))
def test_bad_input_is_one_line_and_no_run(
    flags: list[str], texts: list[str], whole: Searched, tmp_path: Path
) -> None:
    known_scheme((2, 2, 2)).save(tmp_path / "z2.json")
    f2 = Scheme.load(whole.result["scheme"])
    f2.save(tmp_path / "f2.json")
    Scheme(f2.problem, "F2", f2.u, f2.v, np.roll(f2.w, 1, axis=0)).save(tmp_path / "wrong.json")
    save_standard("poly-2x2", tmp_path / "poly.json")
    files = {name: str(tmp_path / f"{name}.json") for name in ("z2", "f2", "wrong", "poly")}
    flags = [flag.format(**files) for flag in flags]
    folder = tmp_path / "runs"
    status, _, errors = command("matmul", "flip", *flags, "--runs-dir", str(folder))
    assert status == 2
    assert len(errors.splitlines()) == 1
    assert errors.startswith("matrixrl: ")
    assert all(text in errors for text in texts), errors
    assert not folder.exists() or list(folder.iterdir()) == []


def test_ray_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, errors = command("matmul", "flip", "--on", "ray", "--runs-dir", str(tmp_path / "runs"))
    assert status == 2
    assert errors == "matrixrl: --on ray: Ray is not installed; install it: pip install 'matrixrl[ray]'\n"
    assert not (tmp_path / "runs").exists()


def test_visits_go_round_and_leave_out_what_is_done() -> None:
    progress = FlipProgress()
    visited = []
    for _ in range(5):
        progress = next_visit(progress, [False, True, False], 1)
        visited.append(progress.current)
        progress = FlipProgress(current=progress.current, visit=progress.visit, visit_rounds=1)
    assert visited == [0, 2, 0, 2, 0]
    halfway = FlipProgress(current=2, visit=3, visit_rounds=1)
    assert next_visit(halfway, [False, True, False], 2) == halfway


def test_a_good_scheme_seeds_its_neighbours() -> None:
    strassen = known_scheme((2, 2, 2))
    small = Pool(strassen.problem, "Z")
    small.add(from_scheme(strassen, "Z"))
    wide = Pool.standard(known_scheme((2, 2, 3)).problem, "Z")
    seeds = seeds_for(wide, best_in_pools([small, wide], visit=1))
    assert min(seed.rank for seed in seeds) == 11
    assert all(verify(seed) and seed.problem == wide.problem for seed in seeds)


def test_walks_start_again_from_better_seeds(tmp_path: Path) -> None:
    config = FlipConfig(graph=FlipGraphConfig(all=True, max=3, ring="Z"))
    found = [Discoveries(tmp_path, {}, f"scheme_{problem}") for problem in config.graph.problems]
    trainer = FlipTrainer(config, found)
    state = trainer.init()
    assert (state.progress.current, state.progress.best_ranks[:2]) == (0, (8, 12))
    position = WalkerState(state.pools[1].members(12)[0], 1, 12, 0, 0)
    state = state._replace(walkers=((position,), (position,), (position,), (position,)))
    state.pools[0].add(from_scheme(known_scheme((2, 2, 2)), "Z"))
    over = dataclasses.replace(
        state.progress, visit_rounds=99, best_ranks=(7, *state.progress.best_ranks[1:])
    )
    following = trainer._at_next_problem(state._replace(progress=over))  # pyright: ignore[reportPrivateUsage]
    assert (following.progress.current, following.progress.best_ranks[1]) == (1, 11)
    assert following.walkers == ((position,), (), (position,), (position,))


def test_all_formats_are_searched_and_resumed(tmp_path: Path) -> None:
    flags = ["--all", "--max", "3", "--ring", "Z", "--flips", "200000", "--flips-per-round", "10000"]
    flags += ["--num-walkers", "2", "--visit-rounds", "2", "--console", "quiet"]
    often = ["--save-interval-chunks", "3", "--keep-last", "99"]
    whole = search(tmp_path / "whole", *flags, *often, "--run-name", "r")
    assert set(whole.result["formats"]) == {"2x2x2", "2x2x3", "2x3x3", "3x3x3"}
    assert whole.result["formats"]["2x2x2"]["best_rank"] == 7
    for name, found in whole.result["formats"].items():
        scheme = Scheme.load(found["scheme"])
        assert (scheme.problem.name, scheme.rank, found["verified"]) == (name, found["best_rank"], True)
        assert verify(scheme)
    steps = CheckpointStore(whole.folder).steps()
    assert len(steps) > 2
    shutil.copytree(whole.folder, tmp_path / "cut" / "r")
    for later in steps[1:]:
        shutil.rmtree(tmp_path / "cut" / "r" / "checkpoints" / str(later))
    assert_same_search(search(tmp_path / "cut", "--resume-run", "r", "--console", "quiet"), whole)
    with JournalReader(whole.folder) as reader:
        steps = [row.step for row in reader.stream()]
    assert steps == list(range(1, whole.result["rounds"] + 1))
