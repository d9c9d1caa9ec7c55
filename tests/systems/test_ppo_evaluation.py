"""Results of evaluated episodes."""

from __future__ import annotations

import numpy as np
import pytest

from matrixrl.config import ConfigError
from matrixrl.systems.ppo.evaluation import EpisodeResults


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_is_refused(bad: float) -> None:
    values = {"return": np.array([1.0, bad, 2.0, bad]), "steps": np.array([3, 3, 3, 3])}
    with pytest.raises(ConfigError, match=r"episode 1 of seed 5 is -?(nan|inf).*2 of 4 episodes"):
        EpisodeResults(5, True, 10, values, np.zeros(4, bool), 0.1)
    values["return"] = np.array([1.0, 2.0, 3.0, 2.0])
    assert EpisodeResults(5, True, 10, values, np.zeros(4, bool), 0.1).as_record()["return"]["mean"] == 2
