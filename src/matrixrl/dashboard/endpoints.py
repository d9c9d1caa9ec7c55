"""All endpoints: their paths, and what they share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from matrixrl.config import ConfigError
from matrixrl.dashboard import (
    audits,
    console,
    details,
    episodes,
    games,
    hackmatrix,
    ledger,
    listing,
    metrics,
    policies,
    studies,
    study_curves,
)
from matrixrl.dashboard.query import Query
from matrixrl.dashboard.store import RunStore


class Dashboard:
    """All that the server keeps between requests.

    Args:
      runs_dir: folder that holds a folder per run.

    Attributes:
      store: run folders and their summaries.
      studies: records of studies.
      study_curves: curves of the studies that were looked at last.
      histories: metrics of the runs that were looked at last.
      tables: episode tables of the runs that were looked at last.
      audits: results of audits, and the one that runs.
      games: of HackMatrix, played in the page.
      policies: the agent that was asked last.
    """

    def __init__(self, runs_dir: Path) -> None:
        self.store = RunStore(runs_dir)
        self.studies = studies.StudyStore(self.store)
        self.study_curves = study_curves.StudyCurves()
        self.histories = metrics.MetricHistories()
        self.tables = episodes.EpisodeIndexes()
        self.audits = audits.Audits()
        self.games = hackmatrix.PlayedGames()
        self.policies = policies.Policies()

    def warm_up(self) -> None:
        """Reads summaries ahead of the first request."""
        with contextlib.suppress(ConfigError, OSError):  # a request says what is wrong
            self.store.entries()

    def close(self) -> None:
        """Ends child processes."""
        self.audits.close()
        self.policies.close()


ENDPOINTS: Mapping[str, Callable[[Dashboard, Query], Any]] = {
    "runs": listing.runs,
    "sparklines": listing.sparklines,
    "series": metrics.series,
    "series.csv": metrics.series_csv,
    "settings": details.settings,
    "records": ledger.records,
    "hackmatrix/rules": hackmatrix.rules,
}
"""Answers of `/api/NAME`."""

RUN_ENDPOINTS: Mapping[str, Callable[[Dashboard, Path, Query], Any]] = {
    "": details.run,
    "metrics": metrics.names,
    "episodes": episodes.page,
    "console": console.console,
    "audit": audits.audit,
    "games": games.games,
    "game": games.game,
    "replays": hackmatrix.replays,
    "watch": policies.watch,
}
"""Answers of `/api/runs/RUN/NAME`."""

STUDY_ENDPOINTS: Mapping[str, Callable[[Dashboard, studies.StudyEntry, Query], Any]] = {
    "": studies.study,
    "curves": study_curves.curves,
    "importance": studies.importance,
}
"""Answers of `/api/studies/STUDY/NAME`."""

QUESTIONS: Mapping[str, Callable[[Dashboard, Mapping[str, Any]], Any]] = {
    "hackmatrix/replay": hackmatrix.replay,
    "hackmatrix/play": hackmatrix.play,
    "hackmatrix/think": policies.think,
}
"""Answers of `POST /api/NAME`: computations on what the page sends as JSON, such as a file that the
user opened. They store nothing and change no run.
"""
