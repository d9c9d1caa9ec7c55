"""``matrixrl schemes reduce``: fewer additions, by shared sums and by other bases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from matrixrl.cli.progress import complain, working
from matrixrl.cli.schemes_export import load_correct, require_seconds
from matrixrl.schemes.cheaper import Cheaper, find_cheaper
from matrixrl.schemes.formulas import num_additions
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.reduction import reduced_program
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.user_files import display_path


@dataclass(frozen=True)
class Reduce:
    """Search for a scheme of the same rank that needs fewer additions; exit status 1 if the scheme
    is wrong, 2 if a file cannot be read or written.
    """

    file: Annotated[Path, tyro.conf.Positional]
    """Scheme file, file of solutions, or run folder (its best scheme)."""

    output: Path | None = None
    """Scheme file to which the cheapest scheme is written."""

    number: int = 1
    """Index of the scheme in a file that holds several, from 1."""

    seconds: float = 10.0
    """Time limit in seconds of the search."""

    flips: bool = False
    """Also visit schemes that are not equivalent to the given one: two products with a common
    factor exchange a part.
    """

    search: bool = False
    """Also walk on the flip graph: short walks from a pool of the cheapest schemes of the same
    rank, then `--flips` from the best of them. Over F2, or with coefficients -1, 0, 1.
    """

    target: int | None = None
    """Number of additions at which the search stops."""

    seed: int = 0
    """Seed of the random choices."""

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require_seconds(self.seconds)


def run_command(command: Reduce) -> int:
    """Runs the command; returns the exit status."""
    try:
        return _reduce(command)
    except SchemeError as error:
        complain(str(error))
        return 2


def _reduce(command: Reduce) -> int:
    loaded = load_correct(command.file, command.number)
    if loaded is None:
        return 1
    scheme, _ = loaded
    written = num_additions(scheme)
    shared = reduced_program(scheme, seconds=min(1.0, command.seconds), seed=command.seed)
    best, program, moves, seconds = scheme, shared, 0, 0.0
    is_of_matrices = isinstance(scheme.problem, MatrixMultiplication)
    is_searched = is_of_matrices or command.search
    if is_searched:  # other bases of a problem without known symmetries are not searched
        with working(f"searching for fewer additions: {scheme.problem} in {scheme.rank} multiplications"):
            found = _find(command, scheme)
        moves, seconds = found.moves, found.seconds
        if (found.scheme.rank, found.program.num_additions) < (scheme.rank, shared.num_additions):
            best, program = found.scheme, found.program
    kind = (
        "a neighbouring or equivalent scheme" if command.flips or command.search else "an equivalent scheme"
    )
    print(f"{scheme.problem} in {scheme.rank} multiplications")
    print(f"  {written:>6,} additions as written")
    print(f"  {shared.num_additions:>6,} with shared sums")
    if is_searched:
        print(f"  {program.num_additions:>6,} with shared sums, in {kind}")
    if best.rank < scheme.rank:
        print(f"  a product became zero: {best.rank} multiplications")
    parts = {
        "a": program.left.num_additions,
        "b": program.right.num_additions,
        "c": program.result.num_additions,
    }
    print(f"  of them {parts['a']:,} on A, {parts['b']:,} on B and {parts['c']:,} for C")
    if command.output is not None:
        source = {
            "additions": program.num_additions,
            "reduced_by": f"{moves:,} moves, seed {command.seed}",
        }
        best.with_provenance(**source).save(command.output)
        print(f"scheme: {display_path(command.output)}")
    if command.json:
        print(
            json.dumps(
                {
                    "problem": scheme.problem.name,
                    "format": list(scheme.format) if is_of_matrices else None,
                    "rank": best.rank,
                    "additions_written": written,
                    "additions_shared": shared.num_additions,
                    "additions": program.num_additions,
                    "additions_by_map": parts,
                    "moves": moves,
                    "seconds": seconds,
                    "output": command.output and str(command.output),
                }
            )
        )
    return 0


def _find(command: Reduce, scheme: Scheme) -> Cheaper:
    """Runs the search that was asked for."""
    if command.search:
        from matrixrl.search.flip_graph.additions import cheapest_of_pool

        return cheapest_of_pool(scheme, seconds=command.seconds, seed=command.seed, target=command.target)
    return find_cheaper(
        scheme,
        seconds=command.seconds,
        seed=command.seed,
        flips=command.flips,
        target=command.target,
    )
