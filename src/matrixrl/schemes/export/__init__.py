"""A scheme as code and as data for other programs: ``matrixrl schemes export``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from matrixrl.schemes.export.c_source import c_source
from matrixrl.schemes.export.data import m_text
from matrixrl.schemes.export.latex import latex_source
from matrixrl.schemes.export.plan import Plan, make_plan, plan_of
from matrixrl.schemes.export.python_source import jax_source, numpy_source
from matrixrl.schemes.formats import render
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.user_files import display_path
from matrixrl.whole_files import write_whole

Target = Literal["numpy", "jax", "c", "latex", "json", "m", "npz"]
TARGETS: tuple[str, ...] = get_args(Target)

SUFFIXES: dict[str, str] = {
    "numpy": ".py",
    "jax": ".py",
    "c": ".c",
    "latex": ".tex",
    "json": ".json",
    "m": ".m",
    "npz": ".npz",
}

_CODE = {"numpy": numpy_source, "jax": jax_source, "c": c_source, "latex": latex_source}

__all__ = ["SUFFIXES", "TARGETS", "Plan", "Target", "export", "make_plan", "plan_of", "write"]


def export(scheme: Scheme, target: Target, *, seconds: float = 1.0, seed: int = 0) -> bytes:
    """Returns the content of the file for a target.

    Args:
      scheme: a correct scheme.
      target: the kind of file.
      seconds: time limit of the search for shared sums.
      seed: seed of that search.

    Raises:
      SchemeError: if the scheme is wrong, or the target cannot express it.
    """
    if target in _CODE:
        return _CODE[target](make_plan(scheme, seconds=seconds, seed=seed)).encode()
    if target == "m":
        return m_text(scheme).encode()
    return render([scheme], target)


def write(content: bytes, path: Path) -> None:
    """Writes a file completely, then renames it into place.

    Raises:
      SchemeError: if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content, fsync=True)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise SchemeError(f"cannot write {display_path(path)}: {reason}") from error
