"""The few names that layers share without knowing one another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class TokenLayout(NamedTuple):
    """How an action (u, v, w) is spelled as a sequence of tokens, each one group of vector entries.

    A network draws the tokens in order; it needs to know only how many classes each has and which of them would make
    a zero vector or a non-canonical sign.

    Attributes:
      num_classes: classes of each token, `base ** entries`.
      vector: which of u (0), v (1), w (2) each token belongs to.
      starts_vector: the token is the first of its vector.
      legal_while_zero: per token a bool array [classes]: legal while every earlier entry of the vector is zero. Class
        0 is all zeros; when some earlier entry is non-zero every class is legal.
    """

    num_classes: tuple[int, ...]
    vector: tuple[int, ...]
    starts_vector: tuple[bool, ...]
    legal_while_zero: tuple[np.ndarray, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of one action."""
        return len(self.num_classes)
