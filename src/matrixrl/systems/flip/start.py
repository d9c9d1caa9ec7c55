"""Schemes that a search starts from."""

from __future__ import annotations

import json
from pathlib import Path

from matrixrl.config import ConfigError, FlipConfig, require, with_value
from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.library import all_entries
from matrixrl.schemes.problem import MatrixMultiplication, Problem, format_of
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.tensor_files import recorded_text
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import WalkRing, from_scheme, to_orbits
from matrixrl.search.flip_graph.cyclic import side_of
from matrixrl.systems.flip.table import moved_to
from matrixrl.whole_files import write_whole

START_FILE = "start.json"
"""Copy of the schemes in the run folder, so that a resumed run does not need the file."""


LIBRARY = Path("library")
"""What `--start` calls the schemes that come with matrixrl."""


def read_start(config: FlipConfig) -> list[Scheme]:
    """Returns the schemes of `--start` in the ring of the search, each proved; none without it.

    Those of other formats than the search are extended, shrunk, joined or multiplied; with `--all`
    each is for its own format.

    Raises:
      ConfigError: if the file cannot be read, or holds a scheme with other coefficients, a wrong
        one, or none that the search can start from.
    """
    path = config.graph.start
    if path is None:
        return []
    ring, problems = config.graph.ring, config.graph.problems
    schemes = _load(path)
    found, others = [], []
    for number, scheme in enumerate(schemes, start=1):
        where = f"--start {path}" + (f", scheme {number}" if len(schemes) > 1 else "")
        if path == LIBRARY and not _has_ring(scheme, ring):
            continue
        if scheme.problem in problems:
            found.append(_in_ring(scheme, ring, where))
            if config.walk.symmetry == "cyclic":
                _check_cyclic_symmetry(found[-1], where)
        elif _is_format(scheme.problem):
            others.append(_in_ring(scheme, ring, where))
    if len(problems) == 1 and _is_format(problems[0]) and others and config.walk.symmetry == "none":
        moved = moved_to(format_of(problems[0]), others, ring)
        found += [scheme for scheme in moved if scheme.rank < problems[0].standard_rank]
    if not found:
        held = ", ".join(dict.fromkeys(scheme.problem.name for scheme in schemes))
        why = (
            f"but the search is for formats up to {config.graph.formats[-1][-1]}; give another file"
            if config.graph.all
            else f"from which nothing shorter than the standard algorithm of {config.graph.name} follows; give its own "
            "--size, or another file"
        )
        raise ConfigError(f"--start {path}: has schemes of {held}, {why}")
    return found


def _is_format(problem: Problem) -> bool:
    return isinstance(problem, MatrixMultiplication)


def _has_ring(scheme: Scheme, ring: WalkRing) -> bool:
    """Returns whether walks over a ring take a scheme."""
    return ring == "F2" or (scheme.ring == "Z" and scheme.is_ternary)


def _check_cyclic_symmetry(scheme: Scheme, where: str) -> None:
    """Checks that walks with cyclic symmetry can start from a scheme.

    Raises:
      ConfigError: if it does not have the symmetry.
    """
    try:
        to_orbits(from_scheme(scheme, "F2"), side_of(scheme.problem))
    except SchemeError as error:
        raise ConfigError(f"{where}: {error}; leave out --symmetry cyclic or --start") from error


def with_problem_of_start(config: FlipConfig) -> FlipConfig:
    """Returns settings with the problem of the first scheme of `--start`, if no other is named.

    Raises:
      ConfigError: if the file cannot be read.
    """
    graph = config.graph
    if graph.start is None or graph.size is not None or graph.tensor is not None or graph.all:
        return config
    require(
        graph.start != LIBRARY, "--start library: has schemes of many formats; add --size N M P, or --all"
    )
    problem = _load(graph.start)[0].problem
    if isinstance(problem, MatrixMultiplication):
        return with_value(config, "graph.size", tuple(problem.format))
    return with_value(config, "graph.tensor", recorded_text(problem))


def _load(path: Path) -> list[Scheme]:
    """Returns the schemes of `--start`, at least one: those of a file, or of the library.

    Raises:
      ConfigError: if the file cannot be read.
    """
    if path == LIBRARY:
        return [entry.scheme for entry in all_entries()]
    try:
        return load_schemes(path)
    except SchemeError as error:
        raise ConfigError(f"--start {error}") from error


def _in_ring(scheme: Scheme, ring: WalkRing, where: str) -> Scheme:
    """Returns a scheme in the ring of the search.

    Raises:
      ConfigError: if it cannot be a start.
    """
    if ring == "F2":
        try:
            scheme = scheme.mod2()
        except SchemeError as error:
            raise ConfigError(f"{where}: {error}; the search is over F2") from error
    elif not _has_ring(scheme, ring):
        what = (
            f"is over {scheme.ring}"
            if scheme.ring != "Z"
            else f"has coefficients up to {scheme.max_coefficient}"
        )
        how = (
            "lift it first (matrixrl schemes lift), or use --ring F2"
            if scheme.ring == "F2"
            else "use --ring F2"
        )
        raise ConfigError(f"{where}: {what}, but --ring Z walks over the integers -1, 0 and 1; {how}")
    proof = verify(scheme)
    if not proof:
        raise ConfigError(f"{where}: not a correct scheme of {scheme.problem} over {ring}: {proof.message}")
    return scheme


def keep_start(directory: Path, schemes: list[Scheme]) -> None:
    """Writes the schemes to the run folder."""
    if schemes:
        write_whole(directory / START_FILE, json.dumps([scheme.to_record() for scheme in schemes]) + "\n")


def kept_start(directory: Path) -> list[Scheme]:
    """Returns the schemes that `keep_start` wrote; none if it wrote none.

    Raises:
      ConfigError: if the file is damaged.
    """
    path = directory / START_FILE
    if not path.exists():
        return []
    try:
        return load_schemes(path)
    except SchemeError as error:
        raise ConfigError(f"{error}; start a new run with --start") from error
