"""The ledger of records: `/api/records`. Best known ranks beside those of the library and of the
runs in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.dashboard.games import BestScheme, best_scheme, best_schemes
from matrixrl.dashboard.query import Query
from matrixrl.schemes.library import all_entries
from matrixrl.schemes.records import all_records, extended_records

if TYPE_CHECKING:
    from matrixrl.dashboard.endpoints import Dashboard

COLUMNS = ("rational", "integer", "ternary", "mod2")
"""Classes of coefficients with a column; a scheme counts in its own and in those that contain
it.
"""

COUNTS_IN = {
    "ternary": ("ternary", "integer", "rational", "mod2"),
    "integer": ("integer", "rational", "mod2"),
    "rational": ("rational",),
    "mod2": ("mod2",),
}


def records(dashboard: Dashboard, query: Query) -> dict[str, Any]:
    """Returns a row for each format: `/api/records`; `all=1` has those up to 16x16x16."""
    everything = query.choice("all", ("0", "1")) == "1"
    return {"rows": ledger(dashboard.store.folders(), everything), "columns": list(COLUMNS)}


def ledger(folders: Mapping[str, Path], everything: bool = False) -> list[dict[str, Any]]:
    """Returns the rows of the ledger.

    Args:
      folders: of runs by key, whose best schemes count.
      everything: includes the formats beyond 8x8x8.
    """
    library: dict[tuple[int, ...], dict[str, dict[str, Any]]] = {}
    for entry in all_entries():
        _enter(library, best_scheme(entry.scheme), entry.name)
    found: dict[tuple[int, ...], dict[str, dict[str, Any]]] = {}
    for key, folder in folders.items():
        for scheme in best_schemes(folder):
            _enter(found, scheme, key)
    rows = []
    for record in extended_records() if everything else all_records():
        key = tuple(record.format)
        known = {name: record.rank(name) for name in COLUMNS}
        rows.append(
            {
                "format": str(record.format),
                "standard": record.naive,
                "known": known,
                "source": record.source,
                "alphatensor": {"standard": record.alphatensor_standard, "mod2": record.alphatensor_mod2},
                "library": library.get(key, {}),
                "found": found.get(key, {}),
                "state": _state(known, [library.get(key, {}), found.get(key, {})]),
            }
        )
    return rows


def _enter(
    table: dict[tuple[int, ...], dict[str, dict[str, Any]]], scheme: BestScheme | None, where: str
) -> None:
    """Notes a scheme in each class of coefficients in which it counts, if it is the best there."""
    if scheme is None:
        return
    ranks = table.setdefault(scheme.sides, {})
    for name in COUNTS_IN.get(scheme.coefficients, ()):
        if name not in ranks or scheme.rank < ranks[name]["rank"]:
            ranks[name] = {"rank": scheme.rank, "where": where}


def _state(known: dict[str, int | None], tables: list[dict[str, dict[str, Any]]]) -> str:
    """Returns `beaten`, `matched` or `above` for the best class of coefficients, or `none`."""
    gaps = [
        entry["rank"] - rank
        for ranks in tables
        for name, entry in ranks.items()
        if (rank := known[name]) is not None
    ]
    if not gaps:
        return "none"
    best = min(gaps)
    return "beaten" if best < 0 else "matched" if best == 0 else "above"
