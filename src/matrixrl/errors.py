"""Text of errors for one-line messages.

Standard library only; every layer may import this module.
"""

from __future__ import annotations


def first_line(error: BaseException, limit: int | None = None) -> str:
    """Returns the first line of an error's text, or the name of its type if it has none.

    Args:
      limit: maximum number of characters.
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:limit]
