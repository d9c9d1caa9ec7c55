"""Schemes found by this project, shipped with it: the best of each format, family and ring.

Every file is a scheme file; its provenance says how the scheme was found and in what time
(`found_by`, `found_in_seconds`). The tests verify all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import permutations

from matrixrl.schemes.families import problem_named
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.programs import MODULI
from matrixrl.schemes.scheme import Format, Scheme, SchemeError, as_format, parse_scheme
from matrixrl.schemes.symmetry import reorder
from matrixrl.user_files import parse_json


@dataclass(frozen=True)
class Entry:
    """A scheme of the library.

    Attributes:
      name: name of its file, without suffix.
      scheme: the scheme.
    """

    name: str
    scheme: Scheme

    @property
    def found_by(self) -> str:
        """How the scheme was found."""
        return str(self.scheme.provenance.get("found_by", "not recorded"))

    @property
    def found_in_seconds(self) -> float | None:
        """Duration of the search in seconds; None if it was not recorded."""
        value = self.scheme.provenance.get("found_in_seconds")
        return float(value) if isinstance(value, int | float) else None

    @property
    def additions(self) -> int | None:
        """Number of additions with shared sums that the search reached; None if none was made."""
        value = self.scheme.provenance.get("additions")
        return value if isinstance(value, int) else None


@lru_cache(maxsize=1)
def all_entries() -> tuple[Entry, ...]:
    """Returns the library: formats first, sorted by format and rank, then the families by name."""
    return tuple(read_library(resources.files("matrixrl.schemes") / "library"))


def read_library(folder: Traversable) -> list[Entry]:
    """Returns the scheme files of a folder as entries: formats first, sorted by format and rank,
    then the families by name.

    Raises:
      SchemeError: if a file is malformed.
    """
    entries = []
    for file in folder.iterdir():
        if file.name.endswith(".json"):
            value = parse_json(file.read_text(encoding="utf-8"))
            entries.append(Entry(file.name.removesuffix(".json"), parse_scheme(value, file.name)))
    return sorted(entries, key=_order)


def _order(entry: Entry) -> tuple[bool, tuple[int, ...], str, int, str]:
    """Returns a sort key: formats, then the families by name."""
    problem = entry.scheme.problem
    format = tuple(problem.format) if isinstance(problem, MatrixMultiplication) else ()
    return not format, format, "" if format else problem.name, entry.scheme.rank, entry.name


def find_entry(format: Sequence[int], ring: str | None = None) -> Entry:
    """Returns the best scheme of a format, with its sides in the order that is asked for.

    Args:
      format: (n, m, p).
      ring: the ring of the scheme; None prefers the lowest rank, then the integers. An integer
        scheme serves for every ring that contains the integers and, reduced, modulo 2.

    Raises:
      SchemeError: if the library has none; the message says what it has.
    """
    fmt = as_format(tuple(format))
    wanted = {str(Format(*order)) for order in permutations(fmt)}
    best = _best([entry for entry in all_entries() if entry.scheme.problem.name in wanted], str(fmt), ring)
    return Entry(best.name, reorder(best.scheme, Format(*fmt)))


def find_named_entry(name: str, ring: str | None = None) -> Entry:
    """Returns the best scheme of a built-in problem, such as ``poly-3x3``; the ring is chosen as by
    `find_entry`.

    Raises:
      SchemeError: if the library has none, or there is no such problem.
    """
    name = problem_named(name).name
    return _best([entry for entry in all_entries() if entry.scheme.problem.name == name], name, ring)


def _best(found: list[Entry], wanted: str, ring: str | None) -> Entry:
    """Returns the best of the entries for one problem over a ring."""
    fits = [entry for entry in found if ring in (None, entry.scheme.ring)]
    if ring not in (None, "Z", *MODULI):  # a ring that contains the integers
        fits += [entry for entry in found if entry.scheme.ring == "Z"]
    if ring == "F2":
        fits += [
            Entry(f"{entry.name}_mod2", entry.scheme.mod2()) for entry in found if entry.scheme.ring == "Z"
        ]
    if not fits:
        names = list(dict.fromkeys(entry.scheme.problem.name for entry in all_entries()))
        over = f" over {ring}" if ring else ""
        raise SchemeError(
            f"the library has no scheme for {wanted}{over}; it has {', '.join(names)}, sides in any order"
        )
    return min(
        fits,
        key=lambda entry: (
            entry.scheme.rank,
            entry.scheme.ring == "F2",
            entry.additions is None,
            entry.additions or 0,
        ),
    )
