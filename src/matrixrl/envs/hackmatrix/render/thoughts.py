"""An agent's evaluation of a position, for drawing next to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Thoughts:
    """An agent's view of a position; empty for a game that is over.

    Attributes:
      probabilities: of the actions [28], zero where illegal; empty if there is no choice.
      value: the discounted return the agent expects from here, in the game's rewards.
      chosen: the action it takes next.
    """

    probabilities: Sequence[float] = ()
    value: float | None = None
    chosen: int | None = None

    def top(self, count: int) -> list[tuple[int, float]]:
        """Returns up to `count` actions with their positive probabilities, the likeliest first, the
        chosen one included.
        """
        order = sorted(range(len(self.probabilities)), key=lambda action: -self.probabilities[action])
        best = [action for action in order if self.probabilities[action] > 0][:count]
        if best and self.chosen is not None and self.chosen not in best:
            best[-1] = self.chosen
        return [(action, self.probabilities[action]) for action in best]
