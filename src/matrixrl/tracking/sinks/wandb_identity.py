"""Finds the W&B run that belongs to a run, so that no run ever writes into the history of another
one.

A name is not an identity: two machines produce the same default name on the same day, and a W&B
run's id is made of its name. Each run therefore has a random identity (in its journal and
`run.json`), each attempt has a random token, and both are in the W&B config. A W&B run is continued
only if it carries this identity, if every token there is known here, and if the rows there are
those of the journal; otherwise the run is delivered under the next free name.

`python -m matrixrl.tracking.sinks.wandb_identity` answers whether a W&B run exists, for
`refuse_taken`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple

from matrixrl.config import ConfigError
from matrixrl.tracking.audit import same_value
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.events import EPISODE_TABLE, is_wall_clock
from matrixrl.tracking.identity import run_id
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.processes import child_environment, end_children
from matrixrl.tracking.sinks import wandb_client
from matrixrl.tracking.sinks.base import RefusedError, UnavailableError
from matrixrl.tracking.sinks.wandb_names import (
    Belonging,
    check_entity,
    check_project,
    next_names,
    set_identity_variables,
)

COMPARED_ROWS = 2000
"""The newest rows on the server that are compared with the journal before a W&B run is continued.
"""

UNSET_VARIABLES = ("WANDB_SERVICE",)
"""Of a wandb in another process, such as a notebook's: two writers would share one service."""

MAX_NAMES = 500
ASKING_SECONDS = 20.0
"""How long the start of a run waits for the answer whether its name is taken."""

Verdict = Literal["own", "other run", "other copy", "not yet"]


class Target(NamedTuple):
    """The W&B run that a run is delivered to.

    Attributes:
        meta: the journal's, with the name, id, project and entity of the W&B run.
        path: entity/project/id where the run exists already, else ""; `url` likewise.
        last_step: the last step that it has.
        waits: whether the journal does not reach yet what the server has, so that the rows cannot
            be compared.
        news: what the user has to know about its name; "" where it is the run's own.
    """

    meta: dict[str, Any]
    path: str
    url: str
    last_step: int
    waits: bool
    news: str


def choose(reader: JournalReader, state: DeliveryState) -> Target:
    """Returns the W&B run to deliver to.

    Where the name belongs to another run, `state` is changed: its `name`, and nothing in it is of
    the server then.

    Raises:
        UnavailableError: the server does not answer.
        RefusedError: the server refuses the key, the project or the entity.
    """
    meta = reader.meta
    project, entity = (
        state.own.get("project") or meta["project"],
        state.own.get("entity") or meta.get("entity") or None,
    )
    if state.place:
        entity, project, _ = str(state.place["path"]).split("/", 2)
    try:
        check_project(project, "project")
        if entity is not None:
            check_entity(entity, "entity")
    except ConfigError as error:
        raise RefusedError(str(error)) from error
    news = ""
    for name, identity, sweep in islice(_candidates(meta, state), MAX_NAMES):
        found = wandb_client.server_run(project, entity, identity)
        own = {**meta, "name": name, "run_id": identity, "project": project, "entity": entity, "sweep": sweep}
        if found is None and state.place.get("path", "").rpartition("/")[2] == identity:
            # It was deleted on the server, where its id cannot be used again.
            news = f"the W&B run {name} was deleted there; this run is delivered as"
            state.forget_destination()
            continue
        verdict = "own" if found is None else whose(reader, state, found, sweep is not None)
        if verdict in ("own", "not yet"):
            state.name = "" if name == meta["name"] else name
            how = "allow" if sweep else "never" if found is None else "must"
            path, url, last = ("", "", 0) if found is None else (found.path, found.url, found.last_step)
            notice = f"{news} {name}" if news else ""
            return Target({**own, "resume": how}, path, url, last, verdict == "not yet", notice)
        assert found is not None
        if verdict == "other copy":
            news = (
                f"another copy of this run continued the W&B run {name}; this copy is delivered as a new run,"
            )
        elif not news:
            news = f"{found.url} is another run of the name {name}; this run is delivered as"
        state.forget_destination()
    raise RefusedError(f"no free name after {meta['name']} among {MAX_NAMES}")


def _candidates(meta: Mapping[str, Any], state: DeliveryState) -> Iterator[tuple[str, str, Any]]:
    """Yields name, id and sweep of the W&B runs that may be this run's, the most likely first."""
    name = state.name or str(meta["name"])
    if not state.name:
        if sweep := meta.get("sweep"):
            yield name, sweep["run_id"], sweep
        yield name, str(meta["run_id"]), None
    else:
        yield name, run_id(name), None
    for other in next_names(name):
        yield other, run_id(other), None


def whose(
    reader: JournalReader, state: DeliveryState, found: wandb_client.ServerRun, in_sweep: bool = False
) -> Verdict:
    """Returns whose W&B run this is, by its identity, its attempts and its rows."""
    identity = reader.meta.get("identity")
    tokens = set(reader.meta.get("attempt_tokens", ()))
    if in_sweep and not found.identity and not found.attempts and found.last_step == 0:
        return "own"  # the agent's server made it for this trial
    if found.identity != identity:
        return "other run"
    if not set(found.attempts) <= tokens:
        return "other copy" if identity else "other run"
    known_here = state.place.get("path") == found.path
    # Without an identity, of an older matrixrl, only the rows say whose it is.
    known = state.confirmed_step if known_here and identity else 0
    if found.last_step <= known:
        return "own"
    compared, verdict = _compare(reader, found, known)
    if verdict == "own" and identity is None and not (compared or known_here or found.attempts):
        return "other run"
    if verdict == "other copy" and identity is None:
        return "other run"
    return verdict


def _compare(reader: JournalReader, found: wandb_client.ServerRun, known: int) -> tuple[int, Verdict]:
    """Compares rows on the server with the journal's, those of superseded attempts included.

    Returns:
        The number of rows that agree, and the verdict.
    """
    first = max(known, found.last_step - COMPARED_ROWS) + 1
    recorded = reader.recorded_rows(first, found.last_step)
    reached, agreeing = reader.last_stream_step(), 0
    for row in wandb_client.server_rows(found.path, first, found.last_step):
        there = _comparable(row.values)
        if row.step not in recorded:
            if row.step < reached:
                return agreeing, "other copy"
            return agreeing, "not yet"
        if not any(_agree(_comparable(ours), there) for ours in recorded[row.step]):
            return agreeing, "other copy"
        agreeing += 1
    return agreeing, "own"


def _comparable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the metrics that a resumed run computes alike."""
    return {
        name: value
        for name, value in values.items()
        if not is_wall_clock(name) and not name.startswith(EPISODE_TABLE)
    }


def _agree(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    return ours.keys() == theirs.keys() and all(
        same_value(value, theirs[name]) for name, value in ours.items()
    )


def refuse_taken(name: str, belonging: Belonging) -> None:
    """Refuses a name that W&B knows already, before anything of the run is visible.

    The question is asked by a process of its own and waited for at most `ASKING_SECONDS`: without
    an answer (no key, no network, offline mode) the run starts, and delivery finds a free name
    later.

    Args:
        name: the name given by the user; in a sweep the trial's run is asked for instead.

    Raises:
        ConfigError: there is a W&B run of this name, or the trial's run belongs to another
            training.
    """
    project, entity, sweep = belonging
    identity = sweep["run_id"] if sweep else run_id(name)
    found = _ask({"project": project, "entity": entity, "run_id": identity})
    if not found:
        return
    if sweep is None:
        raise ConfigError(
            f"--run-name {name}: W&B has a run of this name ({found['url']}); continue it with --resume-run {name}, "
            "or choose another name"
        )
    if found["identity"] or found["attempts"] or found["last_step"]:
        raise ConfigError(
            f"WANDB_RUN_ID={identity}: {found['url']} is the run of another training; let `wandb agent` start each "
            "trial, continue that training with --resume-run, or unset WANDB_SWEEP_ID and WANDB_RUN_ID"
        )


def _ask(question: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-m", "matrixrl.tracking.sinks.wandb_identity"],
            input=json.dumps(question),
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=child_environment({}, UNSET_VARIABLES),
            timeout=ASKING_SECONDS,
        )
        return json.loads(answer.stdout.splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


def main() -> None:
    """Answers one question on standard input: the W&B run as JSON, or null where there is none or
    it is unknown.
    """
    question = json.loads(sys.stdin.readline())
    set_identity_variables(None)
    answer = None
    if wandb_client.resolve_mode().mode == "online":
        try:
            found = wandb_client.server_run(question["project"], question["entity"], question["run_id"])
            answer = None if found is None else found._asdict()
        except (UnavailableError, RefusedError):
            answer = None
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    end_children()
    os._exit(0)


if __name__ == "__main__":
    main()
