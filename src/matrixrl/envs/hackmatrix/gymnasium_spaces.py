"""Gymnasium spaces whose `sample` accepts the masks that `action_masks` returns.

`Discrete.sample` of Gymnasium requires int8 masks, MaskablePPO and boolean indexing require bool
ones. These spaces accept both and otherwise behave as the usual ones.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete
from gymnasium.vector.utils import batch_space


class MaskableDiscrete(Discrete):
    """`Discrete` whose `sample` also accepts a mask of booleans."""

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """Draws a random action, among those of the mask (bool or int8 [n]) if there is one."""
        return super().sample(None if mask is None else _as_int8(mask), probability)


class MaskableMultiDiscrete(MultiDiscrete):
    """`MultiDiscrete` whose `sample` also accepts masks of booleans, as an array or one for each
    action.
    """

    def sample(self, mask: Any = None, probability: Any = None) -> Any:
        """Draws random actions, among those of the masks (bool or int8 [num_envs, n]) if there are
        any.
        """
        return super().sample(None if mask is None else tuple(map(_as_int8, mask)), probability)


@batch_space.register(MaskableDiscrete)
def _batch(space: MaskableDiscrete, n: int = 1) -> MaskableMultiDiscrete:
    return MaskableMultiDiscrete(np.full(n, space.n), start=np.full(n, space.start))


def _as_int8(mask: Any) -> Any:
    """Converts a mask of booleans to int8; returns anything else unchanged, for Gymnasium to
    check.
    """
    return mask.astype(np.int8) if isinstance(mask, np.ndarray) and mask.dtype == np.bool_ else mask
