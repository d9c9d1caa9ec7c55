"""The loop of the delivery process, in this process, with a session that only remembers."""

from __future__ import annotations

import json
import queue
import sys
from pathlib import Path
from typing import Any

import pytest

from matrixrl.tracking.delivery import DeliveryLoop
from matrixrl.tracking.delivery_state import DeliveryState
from matrixrl.tracking.events import EpisodeRow, ScalarRow, TableSnapshot
from matrixrl.tracking.journal import Journal
from matrixrl.tracking.sinks import RefusedError, UnavailableError, wandb_client, wandb_identity
from matrixrl.tracking.sinks import wandb as wandb_sink
from matrixrl.tracking.sinks.registry import find_sink
from matrixrl.tracking.sinks.wandb_client import DeliveryMode
from matrixrl.tracking.uploader_client import delivery_settings
from tests.tracking.test_journal import StepClock, episode, new, resumed


class FakeUpload:
    """Arrives at once."""

    full_name = "e/p/a:v0"

    def done(self, seconds: float) -> bool:
        return True


class FakeSession:
    """Behaves like `WandbRun`; what was logged stays in `logged` over sessions, as on a server."""

    logged: list[tuple[int, dict[str, Any]]]
    sent: list[tuple[str, list[str]]]
    openings: list[Exception | None]

    def __init__(
        self, directory: Path, meta: object, mode: str, training_pid: int | None, on_stop: object = None
    ) -> None:
        self.mode = mode
        self.place = {"url": "http://server/run", "path": "e/p/id"}
        if self.openings and (error := self.openings.pop(0)) is not None:
            raise error
        self.starting_step = self.logged[-1][0] + 1 if self.logged else 0

    def log(self, step: int, row: dict[str, Any]) -> None:
        assert not self.logged or step > self.logged[-1][0]
        self.logged.append((step, row))

    def table(self, columns: object, rows: list[list[Any]]) -> list[list[Any]]:
        return rows

    def send_files(self, name: str, kind: str, files: list[Path], *_: object) -> FakeUpload:
        self.sent.append((name, [entry.name for path in files for entry in path.iterdir()]))
        return FakeUpload()

    def finish(self, exit_code: int, seconds: float) -> bool:
        return True


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    FakeSession.logged, FakeSession.openings, FakeSession.sent = [], [], []
    monkeypatch.setattr(wandb_client, "WandbRun", FakeSession)
    monkeypatch.setattr(
        wandb_identity,
        "choose",
        lambda reader, state: wandb_identity.Target(reader.meta, "", "", 0, False, ""),
    )
    monkeypatch.setattr(wandb_client, "resolve_mode", lambda: DeliveryMode("online", "http://server"))
    monkeypatch.setattr(
        wandb_client,
        "last_step_on_server",
        lambda path: FakeSession.logged[-1][0] if FakeSession.logged else 0,
    )
    monkeypatch.setattr("matrixrl.tracking.delivery.FIRST_RETRY_SECONDS", 0.01)
    return FakeSession


def deliver(folder: Path, finish: bool = True, **settings: Any) -> tuple[DeliveryLoop, list[str]]:
    """Run the loop on a journal that is complete; the loop and what it told the user."""
    given = {
        "training_pid": 1,
        "backlog_rows": 10_000,
        "keep_artifacts": 3,
        "artifacts": False,
        "patient": True,
    }
    commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
    told: list[str] = []
    found = find_sink("wandb")
    chosen = delivery_settings(found, **(given | settings))
    delivery = DeliveryLoop(folder, chosen, found.sink, commands, told.append)
    if finish:
        commands.put({"finish": "finished", "seconds": 20.0})
    delivery.run()
    return delivery, [json.loads(line)["notify"] for line in told]


def record(journal: Journal, clock: StepClock, count: int) -> None:
    journal.record([ScalarRow(tick, {"loss": 1 / tick.step}) for tick in clock.advance(count)])


def test_delivery_starts_at_the_first_row_that_the_server_does_not_have(
    tmp_path: Path, session: type[FakeSession]
) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 30)
    journal.close()
    session.logged += [(step, {"loss": 1 / step}) for step in range(1, 12)]
    delivery, _ = deliver(tmp_path)
    assert [step for step, _ in session.logged] == list(range(1, 31))
    assert delivery.state.confirmed_step == 30
    assert DeliveryState.load(tmp_path, "wandb") == delivery.state


def test_rows_of_a_later_attempt_follow_those_of_the_first(
    tmp_path: Path, session: type[FakeSession]
) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 10)
    journal.close()
    deliver(tmp_path)
    journal, clock = resumed(tmp_path, 6)
    record(journal, clock, 10)
    journal.close()
    deliver(tmp_path)
    assert session.logged == [(step, {"loss": 1 / step}) for step in range(1, 17)]


def test_a_backlog_is_thinned_on_the_stream_and_never_in_the_journal(
    tmp_path: Path, session: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, clock = new(tmp_path), StepClock()
    for number in range(1, 41):
        ticks = clock.advance(100)
        events: list[Any] = [ScalarRow(tick, {"loss": 1 / tick.step}) for tick in ticks[:-1]]
        events += [EpisodeRow(ticks[-1], episode(number)), TableSnapshot(ticks[-1])]
        events.append(ScalarRow(ticks[-1], {"Epoch": number, "epoch_loss": 0.5}))
        journal.record(events)
    journal.close()
    # Training goes on while the backlog is read, and ends afterwards.
    calls = iter(range(10**9))
    monkeypatch.setattr(DeliveryLoop, "finishing", property(lambda self: next(calls) > 12))
    delivery, told = deliver(tmp_path, backlog_rows=1000)
    sent = {step for step, _ in session.logged}
    marks = set(range(100, 4001, 100))
    assert marks <= sent
    left_out = sum(count for _, _, count in delivery.state.thinned)
    assert len(sent) + left_out == 4000
    assert 1000 < left_out < 3500
    assert sum("thinned" in line for line in told) == 1
    with_table = [row for step, row in session.logged if step in marks]
    assert [len(row["episode_history"]) for row in with_table] == list(range(1, 41))
    assert delivery.reader.count("stream") == 4000


def test_nothing_is_thinned_once_training_has_ended(tmp_path: Path, session: type[FakeSession]) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 2000)
    journal.close()
    delivery, _ = deliver(tmp_path, backlog_rows=10, training_pid=None)
    assert len(session.logged) == 2000
    assert delivery.state.thinned == []


def test_a_server_that_answers_badly_is_tried_again(tmp_path: Path, session: type[FakeSession]) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 5)
    journal.close()
    session.openings += [UnavailableError("500"), UnavailableError("500"), None]
    delivery, told = deliver(tmp_path)
    assert len(session.logged) == 5
    assert delivery.state.mode == "online"
    assert sum("tried again" in line for line in told) == 1


def test_a_refusal_is_final_and_told(tmp_path: Path, session: type[FakeSession]) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 5)
    journal.close()
    session.openings += [RefusedError("401 bad key")]
    delivery, told = deliver(tmp_path)
    assert session.logged == []
    assert delivery.state.mode == "none"
    assert len(told) == 1
    assert "401 bad key" in told[0]
    assert "runs sync" in told[0]


def test_a_table_beyond_the_cap_shows_its_last_rows_and_says_so(
    tmp_path: Path, session: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_client, "MAX_TABLE_ROWS", 3)
    journal, clock = new(tmp_path), StepClock()
    for number in range(1, 6):
        tick = clock.tick()
        journal.record([EpisodeRow(tick, episode(number)), TableSnapshot(tick)])
    journal.close()
    delivery, _ = deliver(tmp_path)
    assert session.sent == [("episode-history-id", ["episodes-00000.parquet"])]
    assert delivery.state.history_rows == 5
    tables = [[cells[0] for cells in row["episode_history"]] for _, row in session.logged]
    assert tables == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]
    said = [row.get("episode_history/rows") for _, row in session.logged]
    assert said[:3] == [None] * 3
    assert said[3] == "the last 3 of 4 rows; all of them are in the artifact episode-history-id"


def test_without_pyarrow_the_whole_table_stays_in_the_journal_and_one_line_says_so(
    tmp_path: Path, session: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_client, "MAX_TABLE_ROWS", 3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    journal, clock = new(tmp_path), StepClock()
    for number in range(1, 6):
        tick = clock.tick()
        journal.record([EpisodeRow(tick, episode(number)), TableSnapshot(tick)])
    journal.close()
    delivery, told = deliver(tmp_path)
    assert session.sent == []
    assert delivery.state.confirmed_step == 5
    assert sum("needs pyarrow" in line for line in told) == 1
    said = [row.get("episode_history/rows") for _, row in session.logged]
    assert said[3] == "the last 3 of 4 rows; all of them are in the journal"


def test_a_damaged_state_file_is_no_obstacle(tmp_path: Path, session: type[FakeSession]) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 5)
    journal.close()
    (tmp_path / "delivery.json").write_text('{"mode": ')
    delivery, _ = deliver(tmp_path)
    assert delivery.state.confirmed_step == 5


def test_a_run_that_another_copy_took_over_while_it_lasted_leaves_its_w_and_b_run(
    tmp_path: Path, session: type[FakeSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, clock = new(tmp_path), StepClock()
    record(journal, clock, 5)
    journal.close()
    delivery, _ = deliver(tmp_path)
    delivery._deadline = None  # as while training goes on
    monkeypatch.setattr(wandb_sink, "OWNER_SECONDS", 0.0)
    assert delivery.open is not None
    sink = delivery.open.sink
    assert isinstance(sink, wandb_sink.WandbSink)
    sink._next_check = 0.0
    own = delivery.reader.meta["attempt_tokens"]
    there = wandb_client.ServerRun("e/p/id", "n", "u", None, own, 5)
    monkeypatch.setattr(wandb_client, "server_run", lambda *_: there)
    assert delivery._work() == 0
    assert delivery.open is not None
    there = there._replace(attempts=[*own, "another"])
    assert delivery._work() > 0
    assert (delivery.open, delivery.cursor) == (None, 0)
