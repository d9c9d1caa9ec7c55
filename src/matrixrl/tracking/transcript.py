"""`console.log`: reads it back, and formats the lines that it should have from the journal."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from matrixrl.tracking.console import TRANSCRIPT_FILE, episode_line, move_line, row_line, row_marks
from matrixrl.tracking.events import Kind
from matrixrl.tracking.journal_reader import JournalReader

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
    """Yields the lines of `console.log` without a line that was cut off."""
    path = directory / TRANSCRIPT_FILE
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for text in file:
            if text.endswith("\n") and (line := _parsed(text[:-1])) is not None:
                yield line


def _parsed(text: str) -> Line | None:
    parts = text.split("\t", 2)
    return Line(int(parts[0]), parts[1], parts[2]) if len(parts) == 3 and parts[0].isdigit() else None


def read_backwards(directory: Path) -> Iterator[Line]:
    """Yields the lines of `console.log`, the last one first; reads no more than is needed."""
    path = directory / TRANSCRIPT_FILE
    if not path.exists():
        return
    with path.open("rb") as file:
        position = file.seek(0, 2)
        tail = b""
        while position > 0:
            size = min(position, 1 << 16)
            position -= size
            file.seek(position)
            first, *whole = (file.read(size) + tail).split(b"\n")
            for text in reversed(whole):
                if (line := _parsed(text.decode(errors="replace"))) is not None:
                    yield line
            tail = first
        if (line := _parsed(tail.decode(errors="replace"))) is not None:
            yield line


def journal_lines(reader: JournalReader, kind: str, after_id: int = 0) -> Iterator[Line]:
    """Yields the lines of one kind that the journal's rows make, in the order of recording,
    superseded rows included.
    """
    names = list(reader.episode_columns)
    if kind == "epoch":
        spec = reader.spec
        for row in reader.stream(history=False, after_id=after_id):
            if (text := row_line(row.metrics, spec)) is not None:
                yield Line(row.step, kind, text)
    elif kind == "episode":
        for episode in reader.episodes(history=False, after_id=after_id):
            values = dict(zip(names, episode.values, strict=True))
            yield Line(episode.step, kind, episode_line(values))
    else:
        for move in reader.moves(history=False, after_id=after_id):
            yield Line(move.step, kind, move_line(move.move, move.episode, move.reward, move.residual))


def parsed_line(text: str) -> tuple[int, str]:
    """Returns step and text of a line that `read_texts` or `journal_texts` yielded."""
    step, _, rest = text.split("\t", 2)
    return int(step), rest


def read_texts(directory: Path, kind: str) -> Iterator[str]:
    """Yields the lines of one kind of `console.log` unchanged, without the newline; see
    `read_transcript`.
    """
    path, field = directory / TRANSCRIPT_FILE, f"\t{kind}\t"
    if not path.exists():
        return
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for text in file:
            # A cheap test first: most lines of a long transcript are of another kind.
            if field in text and text.endswith("\n"):
                step, _, rest = text.partition("\t")
                if step.isdigit() and rest.startswith(field[1:]):
                    yield text[:-1]


def journal_texts(reader: JournalReader, kind: str) -> Iterator[str]:
    """Yields the lines of `journal_lines` as `console.log` has them, without the newline, several
    times as fast.

    Rows whose values have the types of their columns are formatted by one template, the others one
    by one.
    """
    if kind == "epoch":
        spec = reader.spec
        for row in reader.stream(history=False, containing=row_marks(spec)):
            if (text := row_line(row.metrics, spec)) is not None:
                yield f"{row.step}\t{kind}\t{text}"
        return
    columns = MOVE_COLUMNS if kind == "move" else reader.episode_columns
    template = MOVE_TEMPLATE if kind == "move" else _episode_template(reader.episode_columns)
    for identity, values in reader.typed_rows(TABLES[kind], columns):
        if values is not None:
            yield template % values
        else:
            line = next(journal_lines(reader, kind, after_id=identity - 1), None)
            if line is not None:
                yield str(line)[:-1]


MOVE_COLUMNS: Mapping[str, Kind] = {"move": "int", "episode": "int", "reward": "float", "residual": "float"}
MOVE_TEMPLATE = "%d\tmove\tStep %2d [Ep %d] | Reward: %.6g | Residual: %.6g"

FORMS: Mapping[Kind, str] = {"int": "%d", "float": "%.6g", "bool": "%s", "str": "%s"}


def _episode_template(columns: Mapping[str, Kind]) -> str:
    """Returns a template that makes the text of `episode_line` of a step and values."""
    (_, first), *rest = columns.items()
    parts = [f"Episode {FORMS[first] if first == 'int' else '%s'}"]
    parts += [f"{name.replace('%', '%%')}: {FORMS[kind]}" for name, kind in rest]
    return "%d\tepisode\t" + " | ".join(parts)


def complete_transcript(directory: Path) -> int:
    """Appends the lines to `console.log` that a kill prevented, before a run is resumed.

    Returns:
        Number of lines appended.
    """
    path = directory / TRANSCRIPT_FILE
    if path.exists():
        cut_partial_line(path)
    appended = 0
    with JournalReader(directory) as reader, path.open("a", encoding="utf-8") as file:
        missing = []
        for kind, table in TABLES.items():
            missing.append(journal_lines(reader, kind, _last_shown(reader, kind, table)))
        # Line by line: without a transcript (a copied run folder) this is the complete history.
        for line in heapq.merge(*missing, key=lambda line: line.step):
            file.write(str(line))
            appended += 1
    return appended


def _last_shown(reader: JournalReader, kind: str, table: str) -> int:
    """Returns the id of the last row that the transcript has a line of; 0 if it has none."""
    if reader.is_empty(table):
        return 0
    lines = (line for line in read_backwards(reader.directory) if line.kind == kind)
    last = next(lines, None)
    if last is None:
        return 0
    ids = reader.ids(table, last.step)
    # The end of the file has as many lines of the step as were shown, unless earlier attempts
    # showed some of it too.
    if reader.has_superseded(table, last.step):
        lines = (line for line in read_transcript(reader.directory) if line.kind == kind)
        shown = sum(line.step == last.step for line in lines)
    else:
        shown = 1 + sum(1 for _ in takewhile(lambda line: line.step == last.step, lines))
    return ids[min(shown, len(ids)) - 1] if ids else 0


def cut_partial_line(path: Path) -> None:
    """Truncates a file after its last newline: a kill interrupted the line after it."""
    with path.open("r+b") as file:
        end = file.seek(0, 2)
        tail = min(end, 1 << 16)
        file.seek(end - tail)
        keep = file.read(tail).rfind(b"\n") + 1
        file.truncate(end - tail + keep)
