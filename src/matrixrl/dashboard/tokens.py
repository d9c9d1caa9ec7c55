"""Terms from the tokens of recorded moves, without JAX: the spelling of `envs/matmul/factors.py`.

A vector is cut into groups of consecutive entries; a token is a number whose digits are the entries
of a group. Over the ternary integers a second run of tokens has the signs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matrixrl.config import MatmulConfig
from matrixrl.config.matmul import group_sizes

Term = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class TokenReader:
    """Reads the actions of a run.

    Attributes:
      shape: lengths of u, v and w.
      groups: sizes of the groups of each of them.
      values: entry of each digit.
      splits_signs: signs have tokens of their own.
    """

    shape: tuple[int, int, int]
    groups: tuple[tuple[int, ...], ...]
    values: tuple[int, ...]
    splits_signs: bool

    @staticmethod
    def of(config: MatmulConfig) -> TokenReader:
        """Returns the reader of a run with these settings."""
        game = config.game
        most = 1 if game.ring == "F2" else game.max_coefficient
        values = (0, 1) if game.ring == "F2" else (*range(most + 1), *range(-most, 0))
        splits_signs = game.ring == "Z" and most == 1 and not config.transforms
        groups = tuple(
            (length,)
            if config.transforms
            else group_sizes(length, len(values), config.network.max_token_classes)
            for length in game.shape
        )
        return TokenReader(game.shape, groups, (0, 1) if splits_signs else values, splits_signs)

    def term(self, action: Sequence[int]) -> Term | None:
        """Returns u, v and w of an action; None if it has another number of tokens, or one that is
        too large.
        """
        sizes = [size for groups in self.groups for size in groups]
        if len(action) != len(sizes) * (1 + self.splits_signs):
            return None
        if not all(
            0 <= token < len(self.values) ** size for token, size in zip(action, sizes * 2, strict=False)
        ):
            return None
        entries = self._spelled(action[: len(sizes)], sizes)
        if self.splits_signs:
            negative = self._spelled(action[len(sizes) :], sizes)
            entries = [entry * (1 - 2 * sign) for entry, sign in zip(entries, negative, strict=True)]
        a, b, _ = self.shape
        return tuple(entries[:a]), tuple(entries[a : a + b]), tuple(entries[a + b :])

    def _spelled(self, tokens: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """Returns the entries of groups: the digits of their tokens, the most significant first."""
        base, entries = len(self.values), []
        for token, size in zip(tokens, sizes, strict=True):
            entries += [self.values[token // base**place % base] for place in reversed(range(size))]
        return entries
