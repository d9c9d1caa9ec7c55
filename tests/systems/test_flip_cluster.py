"""Searches on flip graphs on a real Ray cluster: the same as on this machine, whatever becomes of its nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from matrixrl.schemes.known import known_scheme
from matrixrl.schemes.scheme import Scheme
from matrixrl.search.flip_graph import Pool, WalkersFailedError, WalkSettings, WrongSchemeError, run_round
from matrixrl.search.flip_graph.ray_walkers import walk_on_node
from matrixrl.search.flip_graph.rows import from_scheme
from matrixrl.search.flip_graph.walk import RoundTask, WalkerResult
from matrixrl.tracking.audit import audit
from tests.systems.test_flip import SEARCH, Searched, assert_same_search, pools_of, search

ROOT = Path(__file__).resolve().parents[2]


def searched(line: str) -> Searched:
    result = json.loads(line)
    return Searched(Path(result["run_dir"]), result)


@pytest.mark.slow
def test_a_search_on_ray_equals_one_on_this_machine(tmp_path: Path) -> None:
    """In a process of its own: Ray leaves threads and sockets behind."""
    flags = [*SEARCH, "--flips", "300000", "--run-name", "r"]
    here = search(tmp_path / "here", *flags)
    words = [
        "matmul",
        "flip",
        *flags,
        "--on",
        "ray",
        "--jobs",
        "1",
        "--runs-dir",
        str(tmp_path / "there"),
        "--json",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "matrixrl", *words], stdout=subprocess.PIPE, text=True, check=True
    )
    there = searched(done.stdout.splitlines()[-1])
    assert_same_search(there, here)
    assert audit(there.folder).gaps == []


@pytest.mark.slow
def test_nodes_come_and_go_and_the_head_is_killed(tmp_path: Path) -> None:
    """A node is lost and another joins; another search's head is killed and resumed. Both equal a search here, and
    the pool holds every scheme of the lowest rank that was announced and kept.
    """
    flags = ["--size", "3", "3", "3", "--target-rank", "20", "--flips", "12000000", "--num-walkers", "4"]
    flags += [
        "--flips-per-round",
        "100000",
        "--pool-size",
        "5000",
        "--save-interval-chunks",
        "10",
        "--console",
        "quiet",
        "--seed",
        "3",
    ]
    script = [sys.executable, "-m", "tests.studies.cluster_flip", str(tmp_path / "there"), *flags]
    done = subprocess.run(script, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
    here = search(tmp_path / "here", *flags)
    for line in done.stdout.splitlines():
        there = searched(line)
        assert_same_search(there, here)
        assert audit(there.folder).gaps == []
        pool = {rows.tobytes() for rows in pools_of(there.folder)[f"0/rank_{there.result['best_rank']}"]}
        record = json.loads((there.folder / "scheme_solutions.json").read_text())
        assert len(record) > 10
        for one in record:
            scheme = Scheme.from_record(one)
            assert from_scheme(scheme, "F2").tobytes() in pool
    assert len(done.stdout.splitlines()) == 2


def test_a_wrong_scheme_of_a_node_is_refused_before_the_pool_has_it() -> None:
    strassen = from_scheme(known_scheme((2, 2, 2)), "F2")
    wrong = np.array(strassen)
    wrong[0, 0, 0] ^= np.uint64(1)

    class Damaged:
        def walk(self, pool: Pool, task: RoundTask, num_walkers: int) -> list[WalkerResult]:
            return [WalkerResult([strassen]), WalkerResult([wrong])]

    pool = Pool.standard(known_scheme((2, 2, 2)).problem, "F2")
    with pytest.raises(WrongSchemeError, match=r"walker 1 of round 4.*no scheme of 2x2x2"):
        run_round(
            pool,
            WalkSettings(),
            seed=0,
            round=4,
            num_walkers=2,
            flips_per_walker=1,
            where=Damaged(),
            proves=True,
        )
    assert pool.counts() == {8: 1}


def test_a_node_with_another_version_is_refused() -> None:
    with pytest.raises(WalkersFailedError, match=r"has matrixrl .*, the command 0\.0; install one version"):
        walk_on_node([None], RoundTask(WalkSettings(), 0, 0, 1), 0, "0.0")
