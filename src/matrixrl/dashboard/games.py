"""Recorded games of tensor decomposition: `/api/runs/RUN/games` and `/api/runs/RUN/game`.

Every scheme that a run found is a game, its terms in order. Runs with `--record-search` have whole
games with their search trees, and runs with `--record-moves` the moves of every episode. A game is
sent as its start tensor and its terms: the page subtracts them one by one.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from matrixrl.config import ConfigError, MatmulConfig, from_record
from matrixrl.dashboard.query import NotFoundError, Query
from matrixrl.dashboard.search_records import SPELLING, is_search_record
from matrixrl.dashboard.tokens import TokenReader
from matrixrl.run_layout import SEARCH_FOLDER
from matrixrl.schemes.files import load_schemes, scheme_files
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.problem import MatrixMultiplication, Problem, as_problem
from matrixrl.schemes.records import coefficients_of, judge, judge_scheme
from matrixrl.schemes.rings import IN_WORDS, MODULUS
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify
from matrixrl.tracking.journal_reader import JournalReader, MoveRecord
from matrixrl.user_files import UserFileError, read_json

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

SEARCH_NAME = re.compile(r"epoch-(\d{6,9})\.json")

MAX_LISTED = 1_000
"""Maximum number of games of each kind in a list."""

MAX_ENTRIES = 500_000
"""Largest tensor that is sent; the terms of larger ones are shown without it."""


@dataclass(frozen=True)
class GameEntry:
    """A game in the list of a run.

    Attributes:
      id: identifies it within the run; never a path.
      kind: `scheme`, `solution` or `search`.
      title: in words.
      rank: number of terms.
    """

    id: str
    kind: str
    title: str
    rank: int


# Lists


def games(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns the recorded games of a run: `/api/runs/RUN/games`."""
    del dashboard, query
    entries = [GameEntry(key, kind, title, scheme.rank) for key, kind, title, scheme in _schemes(folder)]
    for epoch, path in sorted(search_files(folder).items(), reverse=True)[:MAX_LISTED]:
        if (entry := _search_entry(epoch, path)) is not None:
            entries.append(entry)
    with JournalReader(folder) as reader:
        episodes = reader.move_episodes()
    return {
        "games": [vars(entry) for entry in entries],
        "episodes": None if episodes is None else {"first": episodes[0], "last": episodes[1]},
    }


def game(dashboard: Dashboard, folder: Path, query: Query) -> dict[str, Any]:
    """Returns a recorded game of a run: `/api/runs/RUN/game?id=...`.

    Raises:
      NotFoundError: if the run has no such game.
    """
    del dashboard
    wanted = query.text("id")
    kind, _, number = wanted.partition(":")
    if kind == "episode" and number.isascii() and number.isdigit() and len(number) < 16:
        return {"id": wanted, **_episode(folder, int(number))}
    if kind == "search" and number.isascii() and number.isdigit() and len(number) < 16:
        path = search_files(folder).get(int(number))
        record = None if path is None else _search_record(path)
        if record is not None:
            return {"id": wanted, **search_game(record)}
    for key, _, title, scheme in _schemes(folder):
        if key == wanted:
            return {"id": wanted, **scheme_game(scheme, title)}
    raise NotFoundError(f"game {wanted[:80]!r}: {folder.name} has no such game")


def _schemes(folder: Path) -> Iterator[tuple[str, str, str, Scheme]]:
    """Yields id, kind, title and scheme of the scheme files of a run, the best first."""
    try:
        files = scheme_files(folder)
    except SchemeError:  # it has found none yet
        return
    for path in files:
        found = _read_schemes(path)
        is_list = path.stem.endswith("_solutions")
        for number, scheme in enumerate(found[:MAX_LISTED], 1):
            over = IN_WORDS[scheme.ring]
            text = f"{scheme.problem} in {scheme.rank} multiplications, {over}"
            if is_list:
                yield f"{path.name}#{number}", "solution", f"solution {number}: {text}", scheme
            else:
                yield path.name, "scheme", f"best scheme: {text}", scheme


def _read_schemes(path: Path) -> tuple[Scheme, ...]:
    """Returns the schemes in a file; none if it is damaged."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return _kept_schemes(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _kept_schemes(path: Path, modified: int, size: int) -> tuple[Scheme, ...]:
    del modified, size  # of this content
    try:
        return tuple(load_schemes(path))
    except SchemeError:
        return ()


class BestScheme(NamedTuple):
    """What the ledger needs of a scheme.

    Attributes:
      sides: of the matrices, sorted.
      coefficients: class of coefficients in which it competes.
    """

    sides: tuple[int, ...]
    rank: int
    coefficients: str


def best_schemes(folder: Path) -> list[BestScheme]:
    """Returns the best schemes of matrix multiplication of a run, one per file."""
    try:
        files = scheme_files(folder, best_only=True)
    except SchemeError:
        return []
    found = []
    for path in files:
        with contextlib.suppress(OSError):
            status = path.stat()
            found.append(_best_of(path, status.st_mtime_ns, status.st_size))
    return [best for best in found if best is not None]


@lru_cache(maxsize=8_192)
def _best_of(path: Path, modified: int, size: int) -> BestScheme | None:
    del modified, size  # of this content
    try:
        scheme = load_schemes(path)[0]
    except (SchemeError, IndexError):
        return None
    return best_scheme(scheme)


def best_scheme(scheme: Scheme) -> BestScheme | None:
    """Returns what the ledger needs of a scheme; None if it is not of matrix multiplication."""
    if not isinstance(scheme.problem, MatrixMultiplication):
        return None
    return BestScheme(tuple(sorted(scheme.format)), scheme.rank, coefficients_of(scheme))


def search_files(folder: Path) -> dict[int, Path]:
    """Returns the files of games with search trees by epoch."""
    try:
        names = [entry.name for entry in (folder / SEARCH_FOLDER).iterdir()]
    except OSError:
        return {}
    matches = (SEARCH_NAME.fullmatch(name) for name in names)
    return {int(found[1]): folder / SEARCH_FOLDER / found[0] for found in matches if found}


# Games


def scheme_game(scheme: Scheme, title: str) -> dict[str, Any]:
    """Returns a scheme as a game that plays its terms in their order."""
    verdict = judge_scheme(scheme)
    proof = verify(scheme)
    return {
        **_problem_facts(scheme.problem),
        "title": title,
        "ring": scheme.ring,
        "modulus": MODULUS.get(scheme.ring, 0),
        "target": _flat(scheme.problem.tensor() % MODULUS.get(scheme.ring, 0) if scheme.ring == "F2" else scheme.problem.tensor()),
        "basis": "standard",
        "terms": [_entries(term) for term in zip(*scheme.factors, strict=True)],
        "moves": [],
        "solved": bool(proof),
        "verified": proof.message if not proof else "",
        "formulas": formulas(scheme).splitlines(),
        "rank": scheme.rank,
        "record": _record_facts(verdict.message, verdict.record, verdict.naive),
        "provenance": {str(name): value for name, value in scheme.provenance.items()},
    }  # fmt: skip


def search_game(record: dict[str, Any]) -> dict[str, Any]:
    """Returns a game that was recorded with its search trees."""
    problem = _problem_named(record["problem"])
    modulus = 2 if record["ring"] == "F2" else 0
    is_standard = record["standard_basis"]
    terms = [spelled(term) for term in record["terms"]]
    end = "solved" if record["solved"] else "not solved"
    shown: dict[str, Any] = {
        "title": f"epoch {record['epoch']:,}, game {record['episode']:,}: {end}",
        "ring": record["ring"],
        "modulus": modulus,
        "shape": record["shape"],
        "target": record["target"],
        "basis": "standard" if is_standard else "changed",
        "terms": terms,
        "moves": record["moves"],
        "solved": record["solved"],
        "rank": record["rank"],
        "problem": record["problem"],
        "labels": _plain_labels(record["shape"]),
        "row_lengths": record["shape"],
        "provenance": {"epoch": record["epoch"], "episode": record["episode"]},
    }
    if problem is not None:
        fits = list(problem.sides) == list(record["shape"])
        facts = _problem_facts(problem)
        shown |= facts if fits and is_standard else {"row_lengths": facts["row_lengths"]} if fits else {}
        verdict = judge(problem, record["rank"], "mod2" if modulus else "ternary")
        shown["record"] = _record_facts(verdict.message, verdict.record, verdict.naive)
        if is_standard and record["solved"] and fits:
            shown["formulas"] = formulas(_as_scheme(problem, record["ring"], terms)).splitlines()
    return shown


def _episode(folder: Path, number: int) -> dict[str, Any]:
    """Returns an episode whose moves were recorded.

    Moves are recorded in the basis of the game, which is not recorded with them. The start of a
    solved game is the sum of its terms. An unsolved one started from the standard basis if the
    residual after each move is the recorded one; otherwise its start is unknown.
    """
    with JournalReader(folder) as reader:
        try:
            config = from_record(MatmulConfig, reader.config())
        except ConfigError as error:
            raise NotFoundError(
                f"episode {number}: {folder.name} has no moves that can be read: {error}"
            ) from error
        moves = list(reader.moves(episode=number))
    tokens = TokenReader.of(config)
    terms = [tokens.term(move.action) for move in moves]
    known = [term for term in terms if term is not None]
    if not moves or len(known) != len(terms):
        raise NotFoundError(f"episode {number}: {folder.name} has not recorded its moves")
    modulus = 2 if config.game.ring == "F2" else 0
    is_solved = moves[-1].residual == 0
    problem, start, basis = None, None, "unknown"
    for candidate in config.game.problems:
        tensor = _padded(candidate.tensor(), config.game.shape)
        if _residuals(tensor, known, modulus) == [move.residual for move in moves]:
            problem, start, basis = candidate, tensor, "standard"
    if start is None and is_solved and moves[0].move == 1:
        start, basis = _total(known, config.game.shape, modulus), "changed"
    shown: dict[str, Any] = {
        "title": f"episode {number:,}: {'solved' if is_solved else 'not solved'}",
        "problem": problem.name if problem is not None else config.game.name,
        "ring": config.game.ring,
        "modulus": modulus,
        "shape": list(config.game.shape),
        "labels": _plain_labels(config.game.shape),
        "row_lengths": list(config.game.shape),
        "target": None if start is None else _flat(start % modulus if modulus else start),
        "basis": basis,
        "terms": [_entries(term) for term in known],
        "moves": [_move_facts(move) for move in moves],
        "solved": is_solved,
        "rank": len(known),
        "provenance": {"episode": number, "step": moves[-1].step},
    }
    if problem is not None and problem.sides == config.game.shape:
        shown |= _problem_facts(problem)
    return shown


def _move_facts(move: MoveRecord) -> dict[str, Any]:
    return {"move": move.move, "reward": move.reward, "residual": move.residual}


def _search_entry(epoch: int, path: Path) -> GameEntry | None:
    """Returns the entry of a search file in the list; None if it is damaged."""
    try:
        status = path.stat()
    except OSError:
        return None
    return _kept_entry(epoch, path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=4_096)
def _kept_entry(epoch: int, path: Path, modified: int, size: int) -> GameEntry | None:
    del modified, size  # of this content
    record = _search_record(path)
    if record is None:
        return None
    end = "solved" if record["solved"] else "not solved"
    title = f"epoch {epoch:,}, game {record['episode']:,}: {len(record['terms'])} terms, {end}"
    return GameEntry(f"search:{epoch}", "search", title, len(record["terms"]))


def _search_record(path: Path) -> dict[str, Any] | None:
    """Returns the content of a search file; None if it is damaged or of a later version."""
    try:
        record = read_json(path)
    except UserFileError:
        return None
    return record if is_search_record(record) else None


def spelled(text: str) -> list[list[int]]:
    """Returns a term that is written as ``+00- 0+00 00++``."""
    return [[SPELLING.get(character, 0) for character in word] for word in text.split(" ")]


def _problem_named(name: Any) -> Problem | None:
    """Returns the problem of a name; None for one that is not built in."""
    from matrixrl.schemes.tensor_files import problem_from_text

    try:
        if re.fullmatch(r"\d+x\d+x\d+", str(name)):
            return as_problem([int(side) for side in str(name).split("x")])
        return problem_from_text(str(name)) if re.fullmatch(r"[a-z]+(-[0-9x]+)?", str(name)) else None
    except SchemeError:
        return None


def _problem_facts(problem: Problem) -> dict[str, Any]:
    return {
        "problem": problem.name,
        "shape": list(problem.sides),
        "labels": [list(labels) for labels in problem.labels],
        "row_lengths": list(problem.row_lengths),
    }


def _record_facts(message: str, record: int | None, standard: int) -> dict[str, Any]:
    return {"message": message, "rank": record, "standard": standard}


def _as_scheme(problem: Problem, ring: Any, terms: Sequence[Sequence[Sequence[int]]]) -> Scheme:
    u, v, w = (np.array([term[index] for term in terms], np.int64) for index in range(3))
    return Scheme(problem, ring, u, v, w)


def _plain_labels(shape: Sequence[int]) -> list[list[str]]:
    """Returns names of entries that are numbered through, for a basis without names."""
    return [
        [f"{letter}{index + 1}" for index in range(side)] for letter, side in zip("xyz", shape, strict=True)
    ]


def _entries(term: Sequence[Any]) -> list[list[Any]]:
    """Returns vectors as numbers; what is no integer is a text such as ``1/2``."""
    return [
        [int(value) if isinstance(value, int | np.integer) else str(value) for value in vector]
        for vector in term
    ]


def _flat(tensor: np.ndarray) -> list[int] | None:
    return [int(value) for value in tensor.ravel()] if tensor.size <= MAX_ENTRIES else None


def _padded(tensor: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.pad(tensor, [(0, whole - side) for whole, side in zip(shape, tensor.shape, strict=True)])


def _product(term: Sequence[Sequence[int]]) -> np.ndarray:
    u, v, w = (np.array(vector, np.int64) for vector in term)
    return np.einsum("i,j,k->ijk", u, v, w)


def _total(terms: Sequence[Sequence[Sequence[int]]], shape: Sequence[int], modulus: int) -> np.ndarray:
    total = sum((_product(term) for term in terms), np.zeros(tuple(shape), np.int64))
    return total % modulus if modulus else total


def _residuals(start: np.ndarray, terms: Sequence[Sequence[Sequence[int]]], modulus: int) -> list[float]:
    """Returns the sum of absolute entries after each term."""
    found, residual = [], start.astype(np.int64)
    for term in terms:
        residual = residual - _product(term)
        residual = residual % modulus if modulus else residual
        found.append(float(np.abs(residual).sum()))
    return found
