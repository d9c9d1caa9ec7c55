"""Scenarios: one JSON object that is a whole game state, for tests, bug reports and replays.

`load` reads and checks, `dump` writes with every field present, `state_hash` names a state. Nothing here touches a
file: a scenario is a dict or its JSON text. Loading draws nothing and computes nothing.

A hand-written scenario gives only what matters::

    load({"format": "hackmatrix-scenario", "version": 1, "player": {"row": 2, "col": 3}}).state

One idea per file: `fields` (JSON values under check), `reading`, `writing`, `replay`.
"""

from matrixrl.envs.hackmatrix.scenario.fields import ScenarioError
from matrixrl.envs.hackmatrix.scenario.reading import Replay, Rng, Scenario, load
from matrixrl.envs.hackmatrix.scenario.replay import ReplayStep, run_replay
from matrixrl.envs.hackmatrix.scenario.writing import canonical_text, dump, dump_text, state_hash

__all__ = [
    "Replay",
    "ReplayStep",
    "Rng",
    "Scenario",
    "ScenarioError",
    "canonical_text",
    "dump",
    "dump_text",
    "load",
    "run_replay",
    "state_hash",
]
