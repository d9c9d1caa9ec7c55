"""Conversion of a state to a scenario, its canonical text and its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from matrixrl.envs.hackmatrix.referee.state import (
    PROGRAM_NUMBER,
    Enemy,
    GameState,
    HistoryEntry,
    Player,
    Transmission,
)
from matrixrl.envs.hackmatrix.scenario.reading import FORMAT, VERSION, Rng, ScenarioReplay


def dump(
    state: GameState,
    *,
    meta: Mapping[str, Any] | None = None,
    rng: Rng | None = None,
    replay: ScenarioReplay | None = None,
) -> dict[str, Any]:
    """Returns the scenario of a state with every field present, as plain JSON values."""
    player = state.player
    scenario: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "meta": dict(meta or {}),
        "config": {
            "enemy_slots": state.config.enemy_slots,
            "transmission_slots": state.config.transmission_slots,
            "undo_depth": state.config.undo_depth,
        },
        "stage": state.stage,
        "turn": state.turn,
        "player": _write_player(player),
        "owned_programs": _write_programs(state.owned_programs),
        "exit": {"row": state.exit[0], "col": state.exit[1]},
        **_write_board(state),
        "enemies": [_write_enemy(enemy, with_origin=True) for enemy in state.enemies],
        "transmissions": [_write_transmission(item, with_origin=True) for item in state.transmissions],
        "flags": {
            "show_activated": state.flags.show_activated,
            "scheduled_tasks_disabled": state.flags.scheduled_tasks_disabled,
            "step_active": state.flags.step_active,
        },
        "atk_plus_uses": state.atk_plus_uses,
        "schedule": {
            "interval": state.schedule.interval,
            "next_turn": state.schedule.next_turn,
            "pending_siphon_spawns": state.schedule.pending_siphon_spawns,
        },
        "history": [_write_snapshot(snapshot) for snapshot in state.history],
        "episode": {
            "done": state.episode.done,
            "outcome": state.episode.outcome,
            "steps": state.episode.steps,
            "return": float(state.episode.return_),
        },
    }
    if rng is not None:
        scenario["rng"] = {"impl": rng.impl, "key": list(rng.key)}
    if replay is not None:
        written: dict[str, Any] = {"actions": list(replay.actions)}
        if replay.keys is not None:
            written["keys"] = [list(key) for key in replay.keys]
        if replay.expect is not None:
            written["expect"] = list(replay.expect)
        scenario["replay"] = written
    return scenario


def dump_text(state: GameState, **beside: Any) -> str:
    """Returns `dump` as JSON text for a file, one top-level key or list item per line. Same
    arguments.
    """
    lines = []
    for key, value in dump(state, **beside).items():
        text = json.dumps(value)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n    " + ",\n    ".join(json.dumps(item) for item in value) + "\n  ]"
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def canonical_text(state: GameState, rng: Rng | None = None) -> str:
    """Returns the canonical text of a dump: keys sorted, no spaces, cells by row then column, no
    ``meta`` and ``replay``.
    """
    scenario = dump(state, rng=rng)
    del scenario["meta"]
    return json.dumps(scenario, sort_keys=True, separators=(",", ":"), allow_nan=False)


def state_hash(state: GameState, rng: Rng | None = None) -> str:
    """Computes the SHA-256 of the canonical text, in hexadecimal."""
    return hashlib.sha256(canonical_text(state, rng).encode()).hexdigest()


def _write_player(player: Player) -> dict[str, int]:
    return {
        "row": player.row,
        "col": player.col,
        "hp": player.hp,
        "credits": player.credits,
        "energy": player.energy,
        "data_siphons": player.data_siphons,
        "attack_damage": player.attack_damage,
        "score": player.score,
    }


def _write_programs(names: Iterable[str]) -> list[str]:
    return sorted(names, key=PROGRAM_NUMBER.__getitem__)


def _write_board(board: GameState | HistoryEntry) -> dict[str, Any]:
    return {
        "blocks": [
            {
                "row": cell[0],
                "col": cell[1],
                "kind": block.kind,
                "points": block.points,
                "program": block.program,
                "hidden_kind": block.hidden_kind,
                "spawn_count": block.spawn_count,
                "siphoned": cell in board.siphoned_cells,
            }
            for cell, block in sorted(board.blocks.items())
        ],
        "data_siphons": [list(cell) for cell in sorted(board.data_siphons)],
        "resources": [
            {"row": cell[0], "col": cell[1], "credits": resource.credits, "energy": resource.energy}
            for cell, resource in sorted(board.resources.items(), key=lambda item: item[0])
        ],
        "siphoned_cells": [list(cell) for cell in sorted(board.siphoned_cells - set(board.blocks))],
        "siphon_centers": [list(cell) for cell in sorted(board.siphon_centers)],
    }


def _write_enemy(enemy: Enemy, *, with_origin: bool) -> dict[str, Any]:
    origin = {"from_siphon": enemy.from_siphon, "from_schedule": enemy.from_schedule} if with_origin else {}
    return {
        "type": enemy.type,
        "row": enemy.row,
        "col": enemy.col,
        "hp": enemy.hp,
        "stunned": enemy.stunned,
        "disabled_turns": enemy.disabled_turns,
        **origin,
        "last_known": None if enemy.last_known is None else list(enemy.last_known),
    }


def _write_transmission(item: Transmission, *, with_origin: bool) -> dict[str, Any]:
    origin = {"from_siphon": item.from_siphon, "from_schedule": item.from_schedule} if with_origin else {}
    return {
        "row": item.row,
        "col": item.col,
        "enemy_type": item.enemy_type,
        "turns_left": item.turns_left,
        **origin,
    }


def _write_snapshot(snapshot: HistoryEntry) -> dict[str, Any]:
    return {
        "player": _write_player(snapshot.player),
        "turn": snapshot.turn,
        "owned_programs": _write_programs(snapshot.owned_programs),
        "enemies": [_write_enemy(enemy, with_origin=False) for enemy in snapshot.enemies],
        "transmissions": [_write_transmission(item, with_origin=False) for item in snapshot.transmissions],
        **_write_board(snapshot),
        "show_activated": snapshot.show_activated,
        "scheduled_tasks_disabled": snapshot.scheduled_tasks_disabled,
        "atk_plus_uses": snapshot.atk_plus_uses,
    }
