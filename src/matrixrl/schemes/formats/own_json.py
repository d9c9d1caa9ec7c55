"""Our own JSON: a scheme as an object with format, ring, rank, u, v, w; or a list of such objects.

C is row-major and not transposed, so nothing is left open.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from matrixrl.schemes.formats.draft import FormatError, NotASchemeError
from matrixrl.schemes.scheme import Scheme, SchemeError, render_json

NAME = "json"
TITLE = "our own JSON"
SUFFIX = ".json"
HOLDS_SEVERAL = True

_MARKS = {"u", "v", "w"}


def is_ours(value: Any) -> bool:
    """Returns true if an object has a field that only our files have."""
    return isinstance(value, dict) and not ("n" in value and "format" not in value and "problem" not in value)


def parse(value: Any) -> Scheme:
    """Returns the scheme in a JSON value.

    Raises:
      NotASchemeError: if it has none of the factors.
      FormatError: if a field is wrong.
    """
    try:
        return Scheme.from_record(value)
    except SchemeError as error:
        looks_like_one = isinstance(value, dict) and bool(_MARKS & value.keys())
        raise (FormatError if looks_like_one else NotASchemeError)(str(error)) from error


def write(schemes: Sequence[Scheme]) -> bytes:
    """Returns the content of a file."""
    if len(schemes) == 1:
        return render_json(schemes[0].to_record()).encode()
    return (json.dumps([scheme.to_record() for scheme in schemes]) + "\n").encode()
