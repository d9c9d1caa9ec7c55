"""Scenarios: one JSON object that is a whole game state, for tests, bug reports and replays.

`load` reads and checks, `dump` writes every field, `state_hash` identifies a state. Nothing here
accesses a file: a scenario is a dict or its JSON text. Loading draws nothing and computes nothing.

A hand-written scenario contains only the fields that differ from the defaults::

    load({"format": "hackmatrix-scenario", "version": 1, "player": {"row": 2, "col": 3}}).state

One topic per file: `fields` (checked JSON values), `reading`, `writing`, `replay`.
"""

from matrixrl.envs.hackmatrix.scenario.fields import ScenarioError
from matrixrl.envs.hackmatrix.scenario.reading import Rng, Scenario, ScenarioReplay, load
from matrixrl.envs.hackmatrix.scenario.replay import ReplayStep, run_replay
from matrixrl.envs.hackmatrix.scenario.writing import canonical_text, dump, dump_text, state_hash

__all__ = [
    "ReplayStep",
    "Rng",
    "Scenario",
    "ScenarioError",
    "ScenarioReplay",
    "canonical_text",
    "dump",
    "dump_text",
    "load",
    "run_replay",
    "state_hash",
]
