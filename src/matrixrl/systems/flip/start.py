"""Schemes that a search starts from."""

from __future__ import annotations

import json
from pathlib import Path

from matrixrl.config import ConfigError, FlipConfig, with_value
from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.problem import MatrixMultiplication, Problem
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.tensor_files import recorded_text
from matrixrl.schemes.verify import verify
from matrixrl.search.flip_graph import from_scheme, to_orbits
from matrixrl.search.flip_graph.cyclic import side_of
from matrixrl.whole_files import write_whole

START_FILE = "start.json"
"""Copy of the schemes in the run folder, so that a resumed run does not need the file."""


def read_start(config: FlipConfig) -> list[Scheme]:
    """Returns the schemes of `--start` in the ring of the search, each proved; none without it.

    Raises:
      ConfigError: if the file cannot be read, or holds a scheme of another problem, with other
        coefficients, or a wrong one.
    """
    path = config.graph.start
    if path is None:
        return []
    problem = config.graph.problems[0]
    schemes = _load(path)
    found = []
    for number, scheme in enumerate(schemes, start=1):
        where = f"--start {path}" + (f", scheme {number}" if len(schemes) > 1 else "")
        found.append(_in_ring(scheme, problem, config.graph.ring, where))
        if config.walk.symmetry == "cyclic":
            _check_cyclic_symmetry(found[-1], where)
    return found


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
    if graph.start is None or graph.size is not None or graph.tensor is not None:
        return config
    problem = _load(graph.start)[0].problem
    if isinstance(problem, MatrixMultiplication):
        return with_value(config, "graph.size", tuple(problem.format))
    return with_value(config, "graph.tensor", recorded_text(problem))


def _load(path: Path) -> list[Scheme]:
    """Returns the schemes of `--start`, at least one.

    Raises:
      ConfigError: if the file cannot be read.
    """
    try:
        return load_schemes(path)
    except SchemeError as error:
        raise ConfigError(f"--start {error}") from error


def _in_ring(scheme: Scheme, problem: Problem, ring: str, where: str) -> Scheme:
    """Returns a scheme in the ring of the search.

    Raises:
      ConfigError: if it cannot be a start.
    """
    if scheme.problem != problem:
        raise ConfigError(
            f"{where}: a scheme of {scheme.problem}, but the search is for {problem}; give its own size or another file"
        )
    if ring == "F2":
        try:
            scheme = scheme.mod2()
        except SchemeError as error:
            raise ConfigError(f"{where}: {error}; the search is over F2") from error
    elif scheme.ring != "Z" or not scheme.is_ternary:
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
        raise ConfigError(f"{where}: not a correct scheme of {problem} over {ring}: {proof.message}")
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
