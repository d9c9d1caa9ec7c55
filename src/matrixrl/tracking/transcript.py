"""`console.log`: what the console showed, read back and compared with the lines that the journal's rows make."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from matrixrl.tracking.console import TRANSCRIPT_FILE, episode_line, move_line, row_line
from matrixrl.tracking.local import JournalReader

# The kinds of lines and the table of the journal that each comes from.
TABLES = {"epoch": "stream", "episode": "episodes", "move": "moves"}


class Line(NamedTuple):
    """A line of the console at a step; `kind` is `epoch`, `episode` or `move`."""

    step: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.step}\t{self.kind}\t{self.text}\n"


def read_transcript(directory: Path) -> Iterator[Line]:
    """The lines of `console.log`; a line that was cut off is left out."""
    path = directory / TRANSCRIPT_FILE
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for line in file:
            parts = line[:-1].split("\t", 2)
            if line.endswith("\n") and len(parts) == 3 and parts[0].isdigit():
                yield Line(int(parts[0]), parts[1], parts[2])


def journal_lines(reader: JournalReader, kind: str, after_id: int = 0) -> Iterator[Line]:
    """The lines of one kind that the journal's rows make, in the order of recording, superseded rows included."""
    names = list(reader.episode_columns)
    if kind == "epoch":
        for row in reader.stream(history=False, after_id=after_id):
            if (text := row_line(row.metrics)) is not None:
                yield Line(row.step, kind, text)
    elif kind == "episode":
        for episode in reader.episodes(history=False, after_id=after_id):
            values = dict(zip(names, episode.values, strict=True))
            yield Line(episode.step, kind, episode_line(values))
    else:
        for move in reader.moves(history=False, after_id=after_id):
            yield Line(move.step, kind, move_line(move.move, move.episode, move.reward, move.residual))


def complete_transcript(directory: Path) -> int:
    """Append to `console.log` the lines that a kill kept from it, so that a resumed run continues a whole one.

    Returns:
        How many lines were appended.
    """
    path = directory / TRANSCRIPT_FILE
    if path.exists():
        cut_partial_line(path)
    last: dict[str, int] = {}
    count: dict[str, int] = {}
    for line in read_transcript(directory):
        last[line.kind] = line.step
    for line in read_transcript(directory):
        if line.step == last[line.kind]:
            count[line.kind] = count.get(line.kind, 0) + 1
    appended = 0
    with JournalReader(directory) as reader, path.open("a", encoding="utf-8") as file:
        missing = []
        for kind, table in TABLES.items():
            shown = reader.ids(table, last[kind])[: count[kind]] if kind in last else []
            missing.append(journal_lines(reader, kind, shown[-1] if shown else 0))
        # Line by line: without a transcript (the run folder came from elsewhere) this is the whole history.
        for line in heapq.merge(*missing, key=lambda line: line.step):
            file.write(str(line))
            appended += 1
    return appended


def cut_partial_line(path: Path) -> None:
    """Take off what stands behind the last newline of a file: a kill came while it was written."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        tail = min(end, 1 << 16)
        file.seek(end - tail)
        keep = file.read(tail).rfind(b"\n") + 1
        file.truncate(end - tail + keep)
