"""What an agent makes of a position, for drawing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Thoughts:
    """An agent's view of a position; one of a game that is over holds nothing.

    Attributes:
      probabilities: of the actions [28], zero where illegal; empty where there is nothing to choose.
      value: the return it expects from here on, discounted, in the game's rewards.
      chosen: the action it takes next.
    """

    probabilities: Sequence[float] = ()
    value: float | None = None
    chosen: int | None = None

    def top(self, count: int) -> list[tuple[int, float]]:
        """Up to `count` actions of positive probability with it, the likeliest first; the chosen one is among them."""
        order = sorted(range(len(self.probabilities)), key=lambda action: -self.probabilities[action])
        best = [action for action in order if self.probabilities[action] > 0][:count]
        if best and self.chosen is not None and self.chosen not in best:
            best[-1] = self.chosen
        return [(action, self.probabilities[action]) for action in best]
