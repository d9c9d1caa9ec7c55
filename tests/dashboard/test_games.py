"""Recorded games as the page gets them: from schemes, search trees and moves."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.dashboard import games, ledger
from matrixrl.dashboard.query import NotFoundError, Query
from matrixrl.dashboard.search_records import is_search_record
from matrixrl.dashboard.tokens import TokenReader
from matrixrl.schemes.known import strassen
from matrixrl.schemes.scheme import Scheme
from tests.dashboard.games_made import SEARCHED, codec_of, make_games, matmul_config

DASHBOARD: Any = None  # these endpoints need nothing of it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_games(tmp_path_factory.mktemp("games"), "m")


def game(folder: Path, key: str) -> dict[str, Any]:
    return games.game(DASHBOARD, folder, Query([("id", key)]))


def left(shown: dict[str, Any]) -> list[int]:
    """Number of entries that are left after each term, as the page computes them."""
    residual = np.array(shown["target"]).reshape(shown["shape"])
    counts = []
    for u, v, w in shown["terms"]:
        residual = residual - np.einsum("i,j,k->ijk", u, v, w)
        residual = residual % shown["modulus"] if shown["modulus"] else residual
        counts.append(int((residual != 0).sum()))
    return counts


@pytest.mark.parametrize(
    ("settings", "policy"),
    [
        ({}, "auto"),
        ({"ring": "Z"}, "auto"),
        ({"size": (3, 2, 3)}, "tokens"),
        ({"size": (2, 3, 4), "ring": "Z"}, "tokens"),
        ({"ring": "Z", "max_coefficient": 2}, "tokens"),
    ],
)
def test_tokens_are_read_as_the_game_spells_them(settings: dict[str, Any], policy: Any) -> None:
    import dataclasses

    config = matmul_config(**settings)
    config = dataclasses.replace(config, network=dataclasses.replace(config.network, policy=policy))
    codec, reader = codec_of(config), TokenReader.of(config)
    generator = np.random.default_rng(0)
    tokens = np.stack([generator.integers(count, size=20) for count in codec.layout.num_classes], axis=-1)
    expected = [np.asarray(factor) for factor in codec.decode(jnp.asarray(tokens))]
    for index, action in enumerate(tokens.tolist()):
        term = reader.term(action)
        assert term is not None
        assert [list(vector) for vector in term] == [factor[index].tolist() for factor in expected]
    assert reader.term(tokens[0].tolist()[:-1]) is None
    assert reader.term([10**9] * tokens.shape[1]) is None


def test_all_games_of_a_run_are_listed_the_best_scheme_first(folder: Path) -> None:
    listed = games.games(DASHBOARD, folder, Query())
    assert [entry["kind"] for entry in listed["games"]] == ["scheme", "solution", "solution", "search"]
    assert listed["games"][0]["title"] == "best scheme: 2x2x2 in 7 multiplications, over the integers"
    assert listed["games"][-1]["id"] == "search:2"  # the damaged file of epoch 3 is left out
    assert listed["episodes"] == {"first": 1, "last": 4}


def test_a_scheme_is_a_game_that_empties_the_tensor(folder: Path) -> None:
    shown = game(folder, "scheme.json")
    assert shown["shape"] == [4, 4, 4]
    assert left(shown)[-1] == 0
    assert all(left(shown)[:-1])
    assert shown["solved"] is True
    assert shown["record"]["message"].startswith("2x2x2:7 matches the record")
    assert shown["formulas"][0].startswith("M1 = (A11 + A22)")
    assert shown["labels"][2] == ["C11", "C12", "C21", "C22"]
    modulo_2 = game(folder, "scheme_solutions.json#2")
    assert modulo_2["modulus"] == 2
    assert left(modulo_2)[-1] == 0


def test_a_scheme_that_is_wrong_says_so(tmp_path: Path) -> None:
    scheme = strassen()
    w = scheme.w.copy()
    w[0, 0] = 0
    wrong = Scheme(scheme.problem, "Z", scheme.u, scheme.v, w)
    shown = games.scheme_game(wrong, "wrong")
    assert shown["solved"] is False
    assert "C11" in shown["verified"]


def test_fractions_are_sent_as_text() -> None:
    scheme = strassen()
    u, w = scheme.u.astype(object) * 2, scheme.w.astype(object) * Fraction(1, 2)
    shown = games.scheme_game(Scheme(scheme.problem, "Q", u, scheme.v, w), "halves")
    entries = {str(entry) for term in shown["terms"] for vector in term for entry in vector}
    assert {"1/2", "-1/2", "2"} <= entries


def test_a_game_with_search_trees_is_shown_in_its_basis(folder: Path) -> None:
    shown = game(folder, "search:2")
    assert shown["basis"] == "changed"
    assert shown["target"] == [1, 1, 1, 0]
    assert left(shown) == [1, 0]
    assert shown["moves"][0]["visits"] == [5, 1, 1, 1, 1]
    assert shown["labels"] == [["x1", "x2"], ["y1", "y2"], ["z1"]]


def test_moves_are_played_from_the_start_that_fits_them(folder: Path) -> None:
    """Moves do not say in which basis they were made: it follows from the residuals, or stays unknown."""
    solved, moved, unsolved, unknown = (game(folder, f"episode:{number}") for number in range(1, 5))
    assert (solved["basis"], moved["basis"], unsolved["basis"], unknown["basis"]) == (
        "standard",
        "changed",
        "standard",
        "unknown",
    )
    assert left(solved)[-1] == left(moved)[-1] == 0
    assert solved["target"] != moved["target"]
    assert solved["labels"][0] == ["A11", "A12", "A21", "A22"]
    assert left(unsolved) == [move["residual"] for move in unsolved["moves"]]
    assert unsolved["solved"] is False
    assert unknown["target"] is None
    assert len(unknown["terms"]) == 3


@pytest.mark.parametrize(
    "key",
    ["", "../scheme.json", "/etc/passwd", "scheme.json#2", "search:3", "search:99", "search:../2", "episode:9", "episode:-1", "<script>"],
)  # fmt: skip
def test_only_listed_games_are_opened(folder: Path, key: str) -> None:
    with pytest.raises(NotFoundError, match=r"m has no|has not recorded"):
        game(folder, key)


def test_the_ledger_compares_library_and_runs_with_the_records(folder: Path) -> None:
    rows = {row["format"]: row for row in ledger.ledger({"m": folder})}
    assert len(rows) == 84
    assert rows["2x2x2"]["known"] == {"rational": 7, "integer": 7, "ternary": 7, "mod2": 7}
    assert rows["2x2x2"]["found"]["mod2"] == {"rank": 7, "where": "m"}
    assert rows["2x2x2"]["state"] == "matched"
    assert (
        rows["3x3x4"]["library"]
        == {"mod2": {"rank": 29, "where": "3x3x4_rank29_mod2"}} | rows["3x3x4"]["library"]
    )
    assert rows["7x7x7"]["state"] == "none"
    assert ledger._state({"mod2": 7}, [{"mod2": {"rank": 6, "where": "m"}}]) == "beaten"
    assert ledger._state({"mod2": 7}, [{"mod2": {"rank": 8, "where": "m"}}]) == "above"
    assert len(ledger.ledger({}, everything=True)) > 600


def test_records_take_no_other_parameter_values() -> None:
    store = SimpleNamespace(folders=dict)
    with pytest.raises(ConfigError, match="all '2'"):
        ledger.records(SimpleNamespace(store=store), Query([("all", "2")]))  # pyright: ignore[reportArgumentType]


def changed(path: Sequence[Any], value: Any) -> dict[str, Any]:
    """The record of `SEARCHED` with another value at a place."""
    record = copy.deepcopy(SEARCHED)
    place: Any = record
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    return record


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["version"], 2), (["format"], "x"), (["shape"], [2, 2]), (["shape"], [2, 2, 2]), (["target"], [1, 1, 1, "0"]),
        (["terms", 0], "++ +0"), (["terms", 0], "++ +0 x"), (["terms"], None), (["solved"], "yes"), (["ring"], "Q"),
        (["episode"], "6"), (["moves", 0], 5), (["moves", 0, "parent", 1], 3), (["moves", 0, "parent"], []),
        (["moves", 0, "visits"], [1]), (["moves", 0, "term", 2], "<b>"), (["moves", 0, "candidates", 0], "+"),
        (["moves", 0, "candidate_prior"], [1.0]), (["moves", 0, "value", 0], None), (["moves", 0, "reward"], None),
        (["problem"], None),
    ],
)  # fmt: skip
def test_a_damaged_search_file_is_left_out(path: Sequence[Any], value: Any) -> None:
    """Whatever is wrong in it: the page never gets what it cannot draw."""
    assert is_search_record(SEARCHED)
    assert not is_search_record(changed(path, value))
