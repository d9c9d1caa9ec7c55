"""What wrappers of HackMatrix have in common: the game's properties and masks as they are."""

from __future__ import annotations

from typing import Any

from jax import Array
from jaxtyping import Bool

from matrixrl.envs.base import in_standard_settings
from matrixrl.envs.hackmatrix.env import EnvParams


@in_standard_settings
class GameWrapper:
    """HackMatrix, or a wrapper of it, behind a state whose field `game` is the state of the inner
    one.

    Args:
      game: the inner environment.
    """

    def __init__(self, game: Any) -> None:
        self.game = game

    @property
    def default_params(self) -> EnvParams:
        """Default parameters of the game."""
        return self.game.default_params

    @property
    def num_actions(self) -> int:
        """28 actions (rule 4)."""
        return self.game.num_actions

    def legal_action_mask(self, state: Any) -> Bool[Array, "28"]:
        """Returns the mask of valid actions (rule 20)."""
        return self.game.legal_action_mask(state.game)

    def legal_action_mask_batch(self, states: Any) -> Bool[Array, "B 28"]:
        """Returns the masks of B games."""
        return self.game.legal_action_mask_batch(states.game)
