"""The best scheme of a run that was killed after finding more than its checkpoint knows."""

from __future__ import annotations

import json
from pathlib import Path

from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.symmetry import transpose
from matrixrl.systems.matmul.discoveries import Discoveries

FILES = ("scheme.json", "scheme.png", "scheme.txt")


def naive() -> Scheme:
    rows = {"u": [], "v": [], "w": []}
    for i in range(2):
        for j in range(2):
            for k in range(2):
                for name, (row, column) in zip("uvw", ((i, j), (j, k), (i, k)), strict=True):
                    rows[name].append([int(place == 2 * row + column) for place in range(4)])
    return Scheme.from_record({"format": [2, 2, 2], "ring": "Z", "rank": 8, **rows, "provenance": {}})


def content(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


def two_finds(folder: Path, discoveries: Discoveries) -> list[int]:
    written = [
        discoveries.offer(naive(), {"step": 10}),
        discoveries.offer(known_scheme((2, 2, 2)), {"step": 20}),
    ]
    return [len(paths) for paths in written]


def test_finding_again_what_an_attempt_ahead_found_ends_in_the_same_files(tmp_path: Path) -> None:
    assert two_finds(tmp_path, Discoveries(tmp_path, {"run": "r"})) == [3, 3]
    before = content(tmp_path)
    again = Discoveries(tmp_path, {"run": "r"})
    again.resume(None, 0)
    assert again.best is None  # training must not know what it did not find yet
    assert again.offer(naive(), {"step": 10}) == []  # nothing worse is written over the better one
    assert content(tmp_path) == before
    assert again.best is not None
    assert again.best.rank == 8
    assert len(again.offer(known_scheme((2, 2, 2)), {"step": 20})) == 3
    assert content(tmp_path) == before


def test_a_better_scheme_that_is_not_found_again_is_still_the_result(tmp_path: Path) -> None:
    two_finds(tmp_path, Discoveries(tmp_path, {"run": "r"}))
    other_machine = Discoveries(tmp_path, {"run": "r"})
    other_machine.resume(None, 0)
    other_machine.offer(naive(), {"step": 12})
    other_machine.finalize()
    assert other_machine.best is not None
    assert other_machine.best.rank == 7
    assert Scheme.load(tmp_path / "scheme.json").rank == 7


def test_files_that_the_run_folder_lost_are_written_again(tmp_path: Path) -> None:
    first = Discoveries(tmp_path, {"run": "r"})
    two_finds(tmp_path, first)
    before = content(tmp_path)
    for name in FILES:
        (tmp_path / name).unlink()
    again = Discoveries(tmp_path, {"run": "r"})
    again.resume(first.best, 2)
    assert content(tmp_path) == before
    assert again.num_verified == 2


def test_different_solutions_of_the_lowest_rank_are_counted_with_their_classes(tmp_path: Path) -> None:
    """Two schemes of rank 8 are forgotten at the first of rank 7; then one algorithm in two orders, and its transpose."""
    found = Discoveries(tmp_path, {"run": "r"})
    strassen = known_scheme((2, 2, 2))
    found.check(naive())
    assert found.count_solutions() == "1 solution, 1 class"
    found.check(strassen)
    u, v, w = (factor[::-1] for factor in strassen.factors)
    again = Scheme(strassen.format, "Z", u, v, w)
    found.check(again)
    assert found.count_solutions() == "1 solution, 1 class"
    found.check(transpose(strassen))
    assert found.num_verified == 4
    assert found.count_solutions() == "2 solutions, 1 class"

    found.save_solutions()
    path = tmp_path / found.solutions_file
    solutions = [Scheme.from_record(record) for record in json.loads(path.read_text())]
    resumed = Discoveries(tmp_path, {"run": "r"})
    resumed.resume(None, found.num_verified, solutions)
    assert resumed.count_solutions() == found.count_solutions()
    resumed.check(strassen)
    assert resumed.count_solutions() == "2 solutions, 1 class"
    assert resumed.count_solutions(0.0) == "2 solutions"


def test_solutions_of_an_attempt_that_came_further_are_not_lost(tmp_path: Path) -> None:
    further = Discoveries(tmp_path, {"run": "r"})
    further.check(known_scheme((2, 2, 2)))
    further.save_solutions()
    behind = Discoveries(tmp_path, {"run": "r"})
    behind.resume(None, 0)
    behind.check(naive())
    assert [solution.rank for solution in behind.solutions] == [
        8
    ]  # training must not know what it did not find yet
    behind.save_solutions()
    (record,) = json.loads((tmp_path / behind.solutions_file).read_text())
    assert record["rank"] == 7
    behind.finalize()
    assert behind.count_solutions() == "1 solution, 1 class"
    assert [solution.rank for solution in behind.solutions] == [7]


def test_a_damaged_file_of_solutions_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "scheme_solutions.json").write_text('[{"format": [2,')
    found = Discoveries(tmp_path, {"run": "r"})
    found.resume(None, 0)
    found.check(naive())
    found.save_solutions()
    assert len(json.loads((tmp_path / "scheme_solutions.json").read_text())) == 1
