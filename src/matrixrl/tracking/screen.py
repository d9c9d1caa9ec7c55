"""Rows of the journal as a person reads them: tables whose columns stay aligned, with units and few digits.

`console.log` keeps the same rows with six digits and their recorded names (`tracking.console`), for the audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matrixrl.tracking.events import EpisodeRow, Event, MoveRow, Scalar, ScalarRow
from matrixrl.tracking.numbers import clock, percent, significant

HEADER_INTERVAL = 20
"""Number of rows after which the names of the columns are repeated."""

Form = Callable[[Scalar], str]


def show(value: Scalar) -> str:
    """Returns a value with three significant digits: yes or no, a dash where there is none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    # Counts that the journal keeps as floating-point numbers, such as residuals.
    return significant(int(value) if float(value).is_integer() and abs(value) < 1e15 else value)


def _share(value: Scalar) -> str:
    return percent(value) if isinstance(value, int | float) else "-"


def _percent(value: Scalar) -> str:
    return f"{significant(float(value))} %" if isinstance(value, int | float) else "-"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        metric: recorded name. Metrics of several formats (`epoch_best_rank_2x2x3`) share the column of their stem.
        head: what stands above it.
        width: number of characters, with the space before it.
        rank: columns of a lower rank stay where the terminal is too narrow for all.
        form: returns a value's text.
        always: show the column even where a row lacks the metric.
    """

    metric: str
    head: str
    width: int
    rank: int
    form: Form = show
    always: bool = False


ELAPSED = Column("", "elapsed", 9, 4)

EPOCH = (
    Column("Epoch", "epoch", 7, 0),
    Column("epoch_success_rate", "solved", 9, 1, _share),
    Column("epoch_best_rank", "best rank", 11, 2, always=True),
    Column("epoch_loss", "loss", 9, 3),
    Column("epoch_policy_loss", "policy", 9, 6),
    Column("epoch_value_loss", "value", 9, 7),
    Column("epoch_grad_norm", "gradient", 10, 10),
    Column("epoch_learning_rate", "rate", 10, 9),
    Column("epoch_replay_size", "kept games", 12, 8),
    Column("epoch_simulations_per_second", "sims/s", 10, 5),
    Column("train/logging_overhead_pct", "tracking", 10, 11, _percent),
)

CHUNK = (
    Column("train/update_step", "update", 8, 0),
    Column("episode/return", "return", 8, 1, always=True),
    Column("episode/highest_stage", "stage", 7, 2, always=True),
    Column("episode/win_rate", "won", 8, 3, _share, always=True),
    Column("episode/count", "episodes", 10, 9),
    Column("train/mean_reward", "reward", 9, 12),
    Column("train/total_loss", "loss", 9, 10),
    Column("train/entropy", "entropy", 9, 6),
    Column("train/approx_kl", "KL", 10, 7),
    Column("train/explained_variance", "explained", 11, 8, _share),
    Column("train/learning_rate", "rate", 10, 11),
    Column("train/steps_per_second", "steps/s", 10, 5),
    Column("train/logging_overhead_pct", "tracking", 10, 13, _percent),
)

EPISODE = (
    Column("Global Episode", "episode", 11, 0),
    Column("Epoch", "epoch", 7, 1),
    Column("Episode in Epoch", "game", 7, 2),
    Column("Reward", "reward", 9, 3),
    Column("Residual", "residual", 10, 5),
    Column("Rank", "rank", 7, 4),
    Column("Update", "update", 9, 1),
    Column("Return", "return", 9, 3),
    Column("Steps", "steps", 7, 6),
    Column("Highest Stage", "stage", 7, 4),
    Column("Final Score", "score", 11, 5),
    Column("Solved", "solved", 8, 7),
    Column("Won", "won", 6, 7),
)


class Screen:
    """Makes lines of events; remembers which table stands last on the screen, and so when its head is due."""

    def __init__(self) -> None:
        self._head: tuple[Column, ...] = ()
        self._rows = 0

    def lines(self, event: Event, elapsed: float, width: int | None) -> list[str]:
        """Returns the lines of an event; none where it has none.

        Args:
            elapsed: seconds since the run was opened.
            width: number of columns of the terminal; None for any number.
        """
        match event:
            case ScalarRow(_, metrics) if "train/update_step" in metrics:
                return self._row(_columns(CHUNK, metrics, ()), metrics, width, elapsed)
            case ScalarRow(_, metrics):
                lines = []
                if "Epoch" in metrics and (own := [name for name in metrics if name.startswith("epoch_")]):
                    lines += self._row(_columns(EPOCH, metrics, own), metrics, width, elapsed)
                return lines + self._evaluation(metrics)
            case EpisodeRow(_, values):
                return self._row(_columns(EPISODE, values, values), values, width)
            case MoveRow():
                self.interrupt()
                text = f"Step {event.move:2d} [Ep {event.episode}] | Reward: {show(event.reward)}"
                return [f"{text} | Residual: {show(event.residual)}"]
            case _:
                return []

    def interrupt(self) -> None:
        """Notes that other text was printed: the next row of a table gets its head again."""
        self._head, self._rows = (), 0

    def _row(
        self,
        columns: Sequence[Column],
        values: Mapping[str, Scalar],
        width: int | None,
        elapsed: float | None = None,
    ) -> list[str]:
        kept = [*columns, *([] if elapsed is None else [ELAPSED])]
        while width is not None and len(kept) > 1 and sum(column.width for column in kept) > width:
            kept.remove(max(kept, key=lambda column: column.rank))
        lines = []
        if self._head != tuple(kept) or self._rows == HEADER_INTERVAL:
            lines.append("".join(_cell(column.head, column.width) for column in kept))
            self._head, self._rows = tuple(kept), 0
        self._rows += 1
        cells = [
            _cell(clock(elapsed or 0.0) if column is ELAPSED else _text(column, values), column.width)
            for column in kept
        ]
        return [*lines, "".join(cells)]

    def _evaluation(self, metrics: Mapping[str, float | int]) -> list[str]:
        """Returns a sentence for each format that was evaluated."""
        names = {"rank": "rank", "residual": "residual", "steps": "steps", "solved": "solved"}
        formats: dict[str, list[str]] = {}
        for metric, value in metrics.items():
            if not metric.startswith("eval/"):
                continue
            name, _, size = metric.removeprefix("eval/").partition("_")
            if name not in names:
                name, size = metric.removeprefix("eval/"), ""
            text = _share(value) if name == "solved" else show(value)
            formats.setdefault(size, []).append(f"{name} {text}")
        if formats:
            self.interrupt()
        when = f" after epoch {metrics['Epoch']:,}" if "Epoch" in metrics else ""
        return [
            f"evaluation{when}{f', {size}' if size else ''}: {', '.join(parts)}"
            for size, parts in formats.items()
        ]


def _columns(
    known: Sequence[Column], values: Mapping[str, Scalar], also: Sequence[str] | Mapping[str, Scalar]
) -> list[Column]:
    """Returns the columns that a row has values for, and columns for those metrics that no table knows."""
    found = [column for column in known if column.always or _metrics_of(column, values)]
    named = {metric for column in known for metric in _metrics_of(column, values)}
    for metric in also:
        if metric not in named:
            head = metric.removeprefix("epoch_").replace("_", " ")
            found.append(Column(metric, head, max(len(head), 8) + 2, 20))
    return found


def _metrics_of(column: Column, values: Mapping[str, Scalar]) -> list[str]:
    if column.metric in values:
        return [column.metric]
    formats = [
        name for name in values if name.startswith(f"{column.metric}_") and "x" in name.rpartition("_")[2]
    ]
    return formats if column.metric == "epoch_best_rank" else []


def _text(column: Column, values: Mapping[str, Scalar]) -> str:
    return ", ".join(column.form(values[name]) for name in _metrics_of(column, values)) or "-"


def _cell(text: str, width: int) -> str:
    return f" {text}".rjust(width)
