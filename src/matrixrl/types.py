"""The few names that layers share without knowing one another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jax import Array
from jaxtyping import Float32, UInt32

Cases = tuple[tuple[UInt32[Array, "B _ _"], Float32[Array, "B _ _"] | None], ...]
"""Per field, the case of each contraction and, where cases are signed, its sign."""

Functions = tuple[tuple[Float32[Array, "B _ _"], Float32[Array, "B _ _"] | None], ...]
"""Per field, an even and possibly an odd function of the contractions."""


class TokenLayout(NamedTuple):
    """How an action (u, v, w) is spelled as a sequence of tokens.

    A network draws the tokens in order; it needs to know only how many classes each has and which
    of them would make a zero vector or a non-canonical sign.

    Attributes:
      num_classes: classes of each token.
      given: per token the earlier token whose class decides which classes are legal, or -1.
      zero_after: per token the earlier tokens that spell the same vector before it; while all of
        them are class 0 the vector is still zero.
      legal: per token bool [classes of the given token or 1, classes], once the vector has a
        non-zero entry.
      legal_while_zero: likewise, while it is still zero.
    """

    num_classes: tuple[int, ...]
    given: tuple[int, ...]
    zero_after: tuple[tuple[int, ...], ...]
    legal: tuple[np.ndarray, ...]
    legal_while_zero: tuple[np.ndarray, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of one action."""
        return len(self.num_classes)
