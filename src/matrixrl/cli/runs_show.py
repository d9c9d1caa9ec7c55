"""`matrixrl runs show`: one run, once or live until it ends (`--follow`)."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import tyro

from matrixrl.cli.progress import say
from matrixrl.cli.resume import recorded_settings
from matrixrl.cli.runs_agents import agents_lines
from matrixrl.cli.runs_common import Common, main_metrics, names_of, number, perform
from matrixrl.cli.runs_list import summary_table
from matrixrl.cli.settings import command_words, settings_of_system
from matrixrl.config import ConfigError, as_record, require, settings_toml
from matrixrl.tracking.chart import chart
from matrixrl.tracking.identity import LOCK_FILE, Lock, find_run
from matrixrl.tracking.journal import JournalError
from matrixrl.tracking.journal_reader import JournalReader
from matrixrl.tracking.series import read_series
from matrixrl.tracking.spec import SystemSpec
from matrixrl.tracking.status import terminal_width
from matrixrl.tracking.summary import RunSummary, summarize

POLL_SECONDS = 1.0
"""Interval in seconds at which `--follow` asks for new rows."""

READ_SHARE = 0.1
"""Maximum share of the time that `--follow` spends on reading the journal of a long run."""


@dataclass(frozen=True, kw_only=True)
class Show(Common):
    """Show a run: state, attempts, warnings, and charts of its main metrics."""

    run: tyro.conf.Positional[str]
    """Name or id of a run, or `latest`."""

    metric: tuple[str, ...] = ()
    """Metrics to draw instead of the main ones."""

    config: bool = False
    """Print the run's settings only, as TOML that `--config FILE` of its trainer reads."""

    follow: bool = False
    """Show the run live until it ends, or until Ctrl-C. In a pipe: one line per recorded row."""


class Shown(NamedTuple):
    """What `show` prints, and its answer for scripts."""

    lines: list[str]
    answer: dict[str, Any]
    is_running: bool


def run_command(command: Show) -> int:
    """Runs the command; returns the exit status."""
    return perform(command, show)


def show(command: Show) -> tuple[int, dict[str, Any]]:
    """Shows one run: its summary, attempts, last warnings and charts."""
    require(
        not (command.config and command.follow),
        "runs show: --config prints the settings once: leave --follow out",
    )
    directory = find_run(command.runs_dir, command.run, flag="runs show")
    if command.config:
        return 0, _show_settings(directory, summarize(directory), command)
    if command.follow:
        return 0, follow(directory, command)
    shown = look(directory, command)
    if not command.json:
        print("\n".join(shown.lines))
    return 0, shown.answer


def look(directory: Path, command: Show) -> Shown:
    """Reads a run as it is now.

    Raises:
        ConfigError: if a requested metric is not there.
    """
    summary = summarize(directory)
    with JournalReader(directory) as reader:
        spec = reader.spec
        # A renamed metric is found by both of its names.
        asked = {name: names_of(name, spec) for name in command.metric}
        wanted = {name for names in asked.values() for name in names}
        names, series = read_series(reader, lambda name: name in wanted or bool(main_metrics(spec, [name])))
        attempts = [attempt._asdict() for attempt in reader.attempts()]
        warnings = [note.text for note in reader.notes() if note.level == "warning"]
        if summary.state == "damaged" and not reader.damage:
            reader.fault()
        damage = list(reader.damage)
        agents = agents_lines(reader, directory, asked or main_metrics(spec, names))
    found = {name: next((known for known in asked[name] if known in series), None) for name in asked}
    if unknown := [name for name, known in found.items() if known is None]:
        raise ConfigError(
            f"--metric {unknown[0]}: not in {directory.name}; it has {', '.join(names) or 'no metrics'}"
            + (f" ({damage[0]})" if damage else "")
        )
    metrics = [name for name in found.values() if name is not None] or main_metrics(spec, names)
    lines = summary_table([summary])
    for attempt in attempts:
        ended = attempt["status"] or ("running" if summary.state == "running" else "no end recorded")
        lines.append(
            f"attempt {attempt['attempt']}: {ended}, process {attempt['pid']} on {attempt['host']}, "
            f"from step {attempt['start_step']:,}"
        )
    lines += [f"warning: {text}" for text in [*damage, *warnings[-5:]]]
    for name in metrics:
        label, shown = "epoch" if name.startswith("epoch_") else "step", series[name]
        last = shown.last if isinstance(shown.last, int | float) else None
        lines += ["", *chart(name, shown.xs, shown.ys, x_label=label, last_value=last).split("\n")]
    lines += agents
    last = {name: series[name].last for name in metrics}
    answer = {**dataclasses.asdict(summary), "attempt_list": attempts, "warnings": warnings, "damage": damage}
    return Shown(lines, {**answer, "last": last}, summary.state == "running")


def follow(directory: Path, command: Show) -> dict[str, Any]:
    """Shows a run until it ends, or until Ctrl-C. Reads only."""
    live = sys.stdout.isatty() and not command.json
    try:
        if live:
            return _redraw(directory, command)
        return _print_rows(directory, command)
    except KeyboardInterrupt:
        if live:
            print()
        # Stopping to look on is no failure.
        return look(directory, command).answer


def _redraw(directory: Path, command: Show) -> dict[str, Any]:
    """Redraws the complete output in place until the run ends."""
    drawn = 0
    while True:
        began = time.monotonic()
        shown = _look_patiently(directory, command)
        if shown is not None:
            width = terminal_width()
            lines = [line[:width] for line in shown.lines]
            if shown.is_running:
                lines.append(
                    f"live, {time.strftime('%H:%M:%S')}; Ctrl-C ends the display, not the run"[:width]
                )
            height = _terminal_height()
            lines = lines if len(lines) < height else [*lines[: height - 2], "..."]
            # To the start of the last output; then each line is cleared before it is written.
            up = f"\x1b[{drawn}A" if drawn else ""
            sys.stdout.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
            sys.stdout.flush()
            drawn = len(lines)
            if not shown.is_running:
                return shown.answer
        time.sleep(max(POLL_SECONDS, (time.monotonic() - began) / READ_SHARE))


def _terminal_height() -> int:
    import shutil

    return max(shutil.get_terminal_size((80, 24)).lines, 6)


def _look_patiently(directory: Path, command: Show) -> Shown | None:
    """Returns what there is to see; None while the journal cannot be read at this moment."""
    try:
        return look(directory, command)
    except JournalError:
        if Lock.owner(directory / LOCK_FILE) is None:
            raise
        return None
    except ConfigError:
        # A run that has just been started has no journal yet, or no row with the metric.
        if Lock.owner(directory / LOCK_FILE) is None:
            raise
        return None


def _print_rows(directory: Path, command: Show) -> dict[str, Any]:
    """Prints a line for each row of the stream that has a metric to show, until the run ends.

    Rows that are there already are summarised by the last one.
    """
    after, first = 0, True
    say(f"following {directory.name}: a line per row, until the run ends")
    while True:
        began = time.monotonic()
        # Asked first: rows that are written before the end are read after it.
        is_running = Lock.owner(directory / LOCK_FILE) is not None
        try:
            with JournalReader(directory) as reader:
                lines, after = _new_rows(reader, command, after)
        except (JournalError, ConfigError):
            if not is_running:
                raise
            lines = []
        for line in lines[-1:] if first else lines:
            print(line)
        first = first and not lines
        sys.stdout.flush()
        if not is_running:
            shown = look(directory, command)
            summary = shown.answer
            say(f"{directory.name}: {summary['state']} at step {summary['last_step']:,}")
            return summary
        time.sleep(max(POLL_SECONDS, (time.monotonic() - began) / READ_SHARE))


def _new_rows(reader: JournalReader, command: Show, after: int) -> tuple[list[str], int]:
    """Returns the lines of the rows after a step, and the last step."""
    spec = reader.spec
    asked = {name for metric in command.metric for name in names_of(metric, spec)}
    lines: list[str] = []
    for row in reader.stream(after=after):
        after = row.step
        shown = [name for name in row.metrics if name in asked] if asked else _of_row(spec, row.metrics)
        if shown:
            values = "  ".join(f"{name} {number(row.metrics[name])}" for name in shown)
            lines.append(f"step {row.step:,}  {values}")
    return lines, after


def _of_row(spec: SystemSpec | None, metrics: Mapping[str, Any]) -> Sequence[str]:
    """Returns the main metrics of a row; without a spec the first ones."""
    if spec is None:
        return list(itertools.islice(metrics, 4))
    return main_metrics(spec, metrics)


def _show_settings(directory: Path, summary: RunSummary, command: Show) -> dict[str, Any]:
    """Prints the settings of a run's newest attempt as TOML, and returns them for `--json`."""
    if command.metric:
        raise ConfigError("runs show: --config prints the settings only: leave --metric out")
    kind = settings_of_system(summary.system)
    if kind is None:
        raise ConfigError(f"runs show {directory.name} --config: {summary.system} has no settings file")
    settings = recorded_settings(kind, directory)
    if not command.json:
        trainer = f"matrixrl {' '.join(command_words(summary.system))} --config FILE"
        say(settings_toml(settings, f"Settings of {directory.name}, for: {trainer}").rstrip("\n"))
    return {"name": summary.name, "run_id": summary.run_id, "settings": as_record(settings)}
