"""Comparison of the arrays with the referee."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from matrixrl.envs.hackmatrix.referee import GameState, HistoryEntry


def plain(value: Any) -> Any:
    """Records as dictionaries, like `dataclasses.asdict` in a fraction of its time: it copies every set and cell."""
    if type(value) is list:
        return [plain(item) for item in value]
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def comparable(game: GameState | HistoryEntry) -> dict[str, Any]:
    """All fields of a game as plain values, without the display hint and the sizes."""
    record = plain(game)
    for enemy in record["enemies"]:
        del enemy["last_known"]
    for snapshot in record.get("history", ()):
        for enemy in snapshot["enemies"]:
            del enemy["last_known"]
    record.pop("config", None)
    record["resources"] = {
        cell: resource for cell, resource in record["resources"].items() if any(resource.values())
    }
    episode = record.get("episode")
    if episode is not None:
        episode["return_"] = float(np.float32(episode["return_"]))
    return record


def differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> list[str]:
    """Where two records differ, for a readable failure; episode returns agree to single precision."""
    found = []
    for key in ours.keys() | theirs.keys():
        a, b, where = ours.get(key), theirs.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}.")
        elif isinstance(a, float) and isinstance(b, float):
            if abs(a - b) > 1e-4 * max(1.0, abs(b)):
                found.append(f"{where}: arrays {a}, referee {b}")
        elif a != b:
            found.append(f"{where}: arrays {a}, referee {b}")
    return found
