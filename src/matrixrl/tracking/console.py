"""Console tracker: shows what the journal committed, live on a terminal or as plain lines.

The screen shows tables for people (`tracking.screen`) above a status line (`tracking.status`).
`console.log` in the run folder keeps every line of the most detailed level in a fixed form, so that
the audit can compare the console with the journal whatever was shown on the screen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from matrixrl.tracking import status
from matrixrl.tracking.events import EpisodeRow, Event, LogMessage, MoveRow, Scalar, ScalarRow
from matrixrl.tracking.screen import Screen, show
from matrixrl.tracking.spec import ConsoleMetric, SystemSpec
from matrixrl.tracking.status import Status

TRANSCRIPT_FILE = "console.log"

# Which lines each level puts on the screen; `note` is always shown.
SHOWN = {
    "quiet": frozenset[str](),
    "epochs": frozenset({"epoch"}),
    "episodes": frozenset({"epoch", "episode"}),
    "steps": frozenset({"epoch", "episode", "move"}),
}


def show_value(value: Scalar) -> str:
    """Returns a value as in `console.log`: six significant digits, yes or no, a dash for None."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def episode_line(values: Mapping[str, Scalar]) -> str:
    """Returns `Episode 12 | Epoch: 2 | ... | Reward: -7 | ...`: the columns in their order."""
    (_, number), *rest = values.items()
    return " | ".join([f"Episode {number}", *(f"{name}: {show_value(value)}" for name, value in rest)])


def move_line(move: int, episode: int, reward: float, residual: float) -> str:
    """Returns `Step XX [Ep YY] | Reward: ... | Residual: ...` (tracking contract, rule 6)."""
    # SQLite keeps no sign of a zero: with the sum the journal's row gives the same line.
    return (
        f"Step {move:2d} [Ep {episode}] | Reward: {show_value(reward + 0)} | "
        f"Residual: {show_value(residual + 0)}"
    )


def row_line(metrics: Mapping[str, float | int], spec: SystemSpec | None) -> str | None:
    """Returns the line of a stream row: an epoch, an evaluation, or a row with the first console
    metric of its system; None for any other row.
    """
    key = None if spec is None else spec.row_key
    if "Epoch" in metrics:
        head, prefixes = f"Epoch {metrics['Epoch']}", ("epoch_", "eval/")
    elif spec is not None and key in metrics:
        first, *others = spec.console
        chosen = [(metric.short, metrics[metric.name]) for metric in others if _is_written(metric, metrics)]
        parts = [f"{name}: {show_value(value)}" for name, value in chosen]
        return " | ".join([f"{first.title.capitalize()} {metrics[first.name]}", *parts])
    elif any(name.startswith("eval/") for name in metrics):
        head, prefixes = "Evaluation", ("eval/",)
    else:
        return None
    parts = []
    for name, value in metrics.items():
        if name.startswith(prefixes):
            label = name.removeprefix("epoch_").replace("eval/", "evaluated " if "Epoch" in metrics else "")
            parts.append(f"{label.replace('_', ' ')}: {show_value(value)}")
    return " | ".join([head, *parts])


def _is_written(metric: ConsoleMetric, metrics: Mapping[str, float | int]) -> bool:
    """Returns true if a row's line in `console.log` has the metric."""
    return metric.transcript and metric.name in metrics


def row_marks(spec: SystemSpec | None) -> tuple[str, ...]:
    """Returns texts of which a stream row contains at least one, as JSON, if it has a line."""
    key = None if spec is None else spec.row_key
    return ('"Epoch"', '"eval/', *([] if key is None else [json.dumps(key)]))


def line_of(event: Event, spec: SystemSpec | None) -> tuple[str, str] | None:
    """Returns kind (`epoch`, `episode`, `move`) and text of an event's line in `console.log`; None
    if it has none.
    """
    match event:
        case ScalarRow(_, metrics):
            text = row_line(metrics, spec)
            return None if text is None else ("epoch", text)
        case EpisodeRow(_, values):
            return "episode", episode_line(values)
        case MoveRow():
            return "move", move_line(event.move, event.episode, event.reward, event.residual)
        case _:
            return None


class Console:
    """Shows committed events on the screen and appends their lines to `console.log`.

    Args:
        level: `quiet`, `epochs`, `episodes` or `steps`.
        directory: the run folder.
        spec: of the run's system.
    """

    def __init__(self, level: str, directory: Path, spec: SystemSpec | None = None) -> None:
        self._spec = spec
        self._shown = SHOWN[level]
        self._transcript = (directory / TRANSCRIPT_FILE).open("a", encoding="utf-8")
        self._screen = Screen(spec)
        self._status = Status(shown=level != "quiet")
        self._loss = ""
        status.begin_use(self._status)

    def show(self, events: Iterable[Event]) -> None:
        """Shows the lines of events that the journal just committed.

        Raises:
            OSError: `console.log` cannot be written.
        """
        kept: list[tuple[int, str, str]] = []
        lines: list[str] = []
        elapsed, width = self._status.elapsed, self._status.width
        for event in events:
            if isinstance(event, LogMessage):
                self._screen.interrupt()
                lines.append(f"{'warning: ' if event.level == 'warning' else ''}{event.text}")
                continue
            line = line_of(event, self._spec)
            if line is not None:
                kept.append((event.tick.step, *line))
                if line[0] in self._shown:
                    lines += self._screen.lines(event, elapsed, width)
            elif isinstance(event, ScalarRow) and "pretrain/loss" in event.metrics:
                self._loss = f"loss {show(event.metrics['pretrain/loss'])}"
        self._append(kept)
        if lines:
            self._status.line("\n".join(lines))

    def progress(self, phase: str, done: int, total: int, unit: str = "", best: str = "") -> None:
        """Shows the progress of a phase; see `Status.progress`."""
        self._status.progress(
            phase, done, total, unit, best or (self._loss if phase.startswith("pre") else "")
        )

    def close(self, message: str) -> None:
        """Removes the status line, shows the last line, closes the transcript."""
        status.end_use(self._status)
        self._status.line(message)
        self._transcript.close()

    def _append(self, lines: Iterable[tuple[int, str, str]]) -> None:
        text = "".join(f"{step}\t{kind}\t{line}\n" for step, kind, line in lines)
        if text:
            self._transcript.write(text)
            self._transcript.flush()
