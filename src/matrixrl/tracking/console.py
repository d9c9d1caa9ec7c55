"""The console tracker: shows what the journal committed, live on a terminal and in plain lines elsewhere.

`console.log` in the run folder keeps every line of the most talkative level, so that the audit can compare the console
with the journal whatever was shown on the screen.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from matrixrl.tracking.events import EpisodeRow, Event, MoveRow, Note, Scalar, ScalarRow

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

TRANSCRIPT_FILE = "console.log"
REFRESH_SECONDS = 0.5
PLAIN_INTERVAL_SECONDS = 10.0

# Which lines each level puts on the screen; `note` is always shown.
SHOWN = {
    "quiet": frozenset[str](),
    "epochs": frozenset({"epoch"}),
    "episodes": frozenset({"epoch", "episode"}),
    "steps": frozenset({"epoch", "episode", "move"}),
}

# A row of hackmatrix has some forty metrics: the line shows these.
CHUNK_METRICS = (
    "episode/return",
    "episode/highest_stage",
    "episode/win_rate",
    "train/mean_reward",
    "train/total_loss",
    "train/entropy",
    "train/approx_kl",
    "train/explained_variance",
    "train/steps_per_second",
    "train/logging_overhead_pct",
)


def show_value(value: Scalar) -> str:
    """A value as the console shows it: six significant digits, yes or no, a dash for none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def episode_line(values: Mapping[str, Scalar]) -> str:
    """`Episode 12 | Epoch: 2 | ... | Reward: -7 | Residual: 0 | ...`: the columns of the table in their order."""
    (_, number), *rest = values.items()
    return " | ".join([f"Episode {number}", *(f"{name}: {show_value(value)}" for name, value in rest)])


def move_line(move: int, episode: int, reward: float, residual: float) -> str:
    """`Step XX [Ep YY] | Reward: ... | Residual: ...` (tracking contract, rule 6)."""
    return f"Step {move:2d} [Ep {episode}] | Reward: {show_value(reward)} | Residual: {show_value(residual)}"


def row_line(metrics: Mapping[str, float | int]) -> str | None:
    """The line of a stream row that ends an epoch, a chunk or an evaluation; None for any other row."""
    if "Epoch" in metrics:
        head, prefixes = f"Epoch {metrics['Epoch']}", ("epoch_", "eval/")
    elif "train/update_step" in metrics:
        chosen = [(name, metrics[name]) for name in CHUNK_METRICS if name in metrics]
        parts = [f"{name.split('/')[1]}: {show_value(value)}" for name, value in chosen]
        return " | ".join([f"Update {metrics['train/update_step']}", *parts])
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


def pretrain_line(step: int, metrics: Mapping[str, float | int]) -> str | None:
    """The line of a pre-training row, shown now and then; None for any other row."""
    parts = [
        f"{n.removeprefix('pretrain/')}: {show_value(v)}"
        for n, v in metrics.items()
        if n.startswith("pretrain/")
    ]
    return " | ".join([f"Pre-training, step {step}", *parts]) if parts else None


def line_of(event: Event) -> tuple[str, str] | None:
    """Kind (`epoch`, `episode`, `move`) and text of the line of an event, or None where it has none."""
    match event:
        case ScalarRow(_, metrics):
            text = row_line(metrics)
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
    """

    def __init__(self, level: str, directory: Path) -> None:
        self._level = level
        self._shown = SHOWN[level]
        self._transcript = (directory / TRANSCRIPT_FILE).open("a", encoding="utf-8")
        self._terminal = sys.stdout.isatty() and level != "quiet"
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._next_refresh = 0.0
        self._next_plain = time.monotonic() + PLAIN_INTERVAL_SECONDS
        self._pretrain = ""

    def show(self, events: Iterable[Event]) -> None:
        """Show the lines of events that the journal just committed.

        Raises:
            OSError: `console.log` cannot be written.
        """
        kept: list[tuple[int, str, str]] = []
        screen: list[str] = []
        for event in events:
            if isinstance(event, Note):
                screen.append(f"{'warning: ' if event.level == 'warning' else ''}{event.text}")
                continue
            line = line_of(event)
            if line is not None:
                kept.append((event.tick.step, *line))
                if line[0] in self._shown:
                    screen.append(line[1])
            elif isinstance(event, ScalarRow) and self._level != "quiet":
                self._pretraining(event, screen)
        self._append(kept)
        if screen:
            self._print("\n".join(screen))

    def progress(self, phase: str, done: int, total: int) -> None:
        """Draw how far a phase has come; nothing where there is no terminal."""
        if not self._terminal:
            return
        now = time.monotonic()
        if now < self._next_refresh and done < total:
            return
        self._next_refresh = now + REFRESH_SECONDS
        if self._progress is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            # Without its refresh thread, which would cost more than all other tracking.
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                auto_refresh=False, transient=True,
            )  # fmt: skip
            self._progress.start()
        for other in [name for name in self._tasks if name != phase]:
            self._progress.remove_task(self._tasks.pop(other))
        label = f"{phase} {self._pretrain}" if phase.startswith("pre") else phase
        if phase not in self._tasks:
            self._tasks[phase] = self._progress.add_task(label, total=total)
        self._progress.update(self._tasks[phase], completed=done, total=total, description=label)
        self._progress.refresh()

    def close(self, message: str) -> None:
        """Take the bar away, show the last line, close the transcript."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._print(message)
        self._transcript.close()

    def _pretraining(self, event: ScalarRow, screen: list[str]) -> None:
        loss = event.metrics.get("pretrain/loss")
        if loss is not None:
            self._pretrain = f"loss {show_value(loss)}"
        if not self._terminal and time.monotonic() >= self._next_plain:
            line = pretrain_line(event.tick.step, event.metrics)
            if line is not None:
                self._next_plain = time.monotonic() + PLAIN_INTERVAL_SECONDS
                screen.append(line)

    def _append(self, lines: Iterable[tuple[int, str, str]]) -> None:
        text = "".join(f"{step}\t{kind}\t{line}\n" for step, kind, line in lines)
        if text:
            self._transcript.write(text)
            self._transcript.flush()

    def _print(self, text: str) -> None:
        try:
            if self._progress is not None:
                self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, flush=True)
        except BrokenPipeError:
            # Whoever read the output has left; the run goes on, and what follows goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
