"""A report: one HTML file with the pages of some runs, their data included.

It is the dashboard itself, with the answers of the server stored in the file. Scripts are modules
under names of an import map, whose addresses are `data:` URLs; nothing is loaded from elsewhere,
and the file's own content security policy forbids it. Curves and tables are thinned, so that a
report can be sent.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import posixpath
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import matrixrl
from matrixrl.config import ConfigError, require
from matrixrl.dashboard import (
    console,
    details,
    episodes,
    games,
    hackmatrix,
    listing,
    metrics,
    studies,
    study_curves,
)
from matrixrl.dashboard.endpoints import Dashboard
from matrixrl.dashboard.query import Query, as_json
from matrixrl.dashboard.server import static_files
from matrixrl.dashboard.store import FolderListing, RunStore
from matrixrl.studies.record import RUNS_FOLDER
from matrixrl.tracking.identity import RUN_FILE

POINTS = 300
"""Maximum number of points of a curve."""

MAX_METRICS = 200
"""Maximum number of metrics of a run; those of single agents are left out first."""

MAX_ROWS = 2_000
"""Maximum number of rows of an episode table; of more, evenly spaced ones are kept, the first and
the last included.
"""

MAX_LINES = 500
MAX_GAMES = {"scheme": 20, "solution": 5, "search": 10}
"""Maximum number of games of each kind."""

MAX_REPLAYS = 10

STUDY_POINTS = 100
"""Maximum number of points of a curve of a study."""

MAX_STUDY_METRICS = 5
"""Maximum number of metrics of a study, that of the objective first."""

IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*\(\s*|\bimport\s*)(['"])(\.{1,2}/[^'"]+)\2""")
"""Imports of modules by relative paths."""

API, REPORT_API = "/static/lib/api.js", "/static/lib/report.js"


class ChosenRuns(RunStore):
    """Some runs, wherever they are stored.

    Args:
      folders: of the runs, with different names.
      study_folders: of the studies; their curves are those of all of their runs.
    """

    def __init__(self, folders: Sequence[Path], study_folders: Sequence[Path] = ()) -> None:
        super().__init__(folders[0].parent)
        runs = {folder.name: folder for folder in folders}
        own = tuple(runs)
        of_studies: dict[str, dict[str, str]] = {}
        for study in study_folders:
            names = [path.parent.name for path in sorted((study / RUNS_FOLDER).glob(f"*/{RUN_FILE}"))]
            keys = {name: name if name in own else f"{study.name}:{name}" for name in names}
            runs |= {key: study / RUNS_FOLDER / name for name, key in keys.items() if key not in runs}
            of_studies[study.name] = keys
        self._chosen = FolderListing(runs, own, {study.name: study for study in study_folders}, of_studies)

    def listing(self) -> FolderListing:
        """Returns the folders of the runs by name."""
        return self._chosen


def report(
    folders: Sequence[Path],
    title: str,
    replays: Mapping[str, str] | None = None,
    study_folders: Sequence[Path] = (),
) -> str:
    """Returns the text of the file.

    Args:
      folders: of the runs.
      title: of the page.
      replays: texts of scenario files by name, shown with the first HackMatrix run, or by
        themselves.
      study_folders: of studies whose pages are included.

    Raises:
      ConfigError: if two runs have one name, or a replay is faulty.
    """
    folders = [folder.resolve() for folder in folders]
    study_folders = [folder.resolve() for folder in study_folders]
    repeated = sorted(
        {
            name
            for names in ([folder.name for folder in folders], [folder.name for folder in study_folders])
            for name in names
            if names.count(name) > 1
        }
    )
    require(not repeated, f"runs report: {', '.join(repeated)} is given twice, from different folders")
    dashboard = Dashboard(folders[0].parent)
    dashboard.store = ChosenRuns(folders, study_folders)
    dashboard.studies = studies.StudyStore(dashboard.store)
    try:
        data = collected(dashboard, folders, replays or {})
    finally:
        dashboard.close()
    return page(data, title)


# Data


def collected(dashboard: Dashboard, folders: Sequence[Path], replays: Mapping[str, str]) -> dict[str, Any]:
    """Returns all answers that the page may ask for."""
    keys = [folder.name for folder in folders]
    answers: dict[str, Any] = {"hackmatrix/rules": hackmatrix.rules()}
    curves: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    given = frames_of_files(replays)
    for folder in folders:
        key = folder.name
        answers[f"runs/{key}"] = {**details.run(dashboard, folder, Query()), "run_dir": key}
        answers[f"runs/{key}/metrics"] = metrics.names(dashboard, folder, Query())
        answers[f"runs/{key}/console"] = console.console(
            dashboard, folder, Query([("lines", str(MAX_LINES))])
        )
        answers[f"runs/{key}/audit"] = {"state": "none", "agrees": None, "answer": {}, "is_current": True}
        curves[key] = curves_of(dashboard, folder)
        tables[key] = table_of(dashboard, folder)
        answers |= games_of(dashboard, folder)
        shown = {**replays_of(folder), **(given if answers[f"runs/{key}"]["system"] == "hackmatrix" else {})}
        if shown:
            answers[f"runs/{key}/replays"] = {"replays": list(shown)}
            answers |= {f"runs/{key}/replays?{name}": frames for name, frames in shown.items()}
        answers[f"runs/{key}"]["replays"] = len(shown)
    for entry in dashboard.studies.entries():
        answers |= study_answers(dashboard, entry, keys)
    settings = details.settings(dashboard, Query([("run", key) for key in keys]))
    sparklines = listing.sparklines(dashboard, Query([("run", key) for key in keys]))
    listed = listing.runs(dashboard, Query([("sort", "name")]))
    return {
        "runs": listed["runs"],
        "studies": listed.get("studies", []),
        "answers": answers,
        "curves": curves,
        "tables": tables,
        "groups": settings["groups"],
        "sparklines": sparklines["sparklines"],
    }


def study_answers(dashboard: Dashboard, entry: studies.StudyEntry, keys: Sequence[str]) -> dict[str, Any]:
    """Returns the answers of the page of a study: its trials, importance, and curves of a few
    metrics, by each setting and by all of them.

    Args:
      keys: of the runs that have pages; the names of others are no links.
    """
    where = f"studies/{entry.key}"
    answer = studies.study(dashboard, entry, Query())
    rows = [{**row, "run": row["run"] if row["run"] in keys else None} for row in answer["rows"]]
    found = {
        where: {**answer, "study_dir": entry.key, "rows": rows},
        f"{where}/importance": studies.importance(dashboard, entry, Query()),
    }
    first = study_curve(dashboard, entry, {})
    others = [name for name in first["metrics"] if name != first["metric"]]
    others.sort(key=lambda name: not name.startswith(first["metric"].split("/")[0]))
    names = [first["metric"], *others][:MAX_STUDY_METRICS]
    for metric in names:
        for by in ("", *(axis["name"] for axis in answer["axes"])):
            for x in study_curves.AXES:
                curve = study_curve(dashboard, entry, {"metric": metric, "by": by, "x": x})
                found[f"{where}/curves?{metric}|{by}|{x}"] = {**curve, "metrics": sorted(names)}
    return found


def study_curve(
    dashboard: Dashboard, entry: studies.StudyEntry, parameters: Mapping[str, str]
) -> dict[str, Any]:
    """Returns the curves of a study once all of its runs are read."""
    items = [(name, value) for name, value in parameters.items() if value]
    query = Query([*items, ("points", str(STUDY_POINTS))])
    answer = study_curves.curves(dashboard, entry, query)
    while answer["unread"]:
        answer = study_curves.curves(dashboard, entry, query)
    for group in answer["groups"]:
        group |= {name: rounded(group[name]) for name in ("x", "y", "low", "high")}
    return answer


def curves_of(dashboard: Dashboard, folder: Path) -> dict[str, Any]:
    """Returns the thinned curves of a run by metric, on each axis."""
    found: dict[str, Any] = {}
    with dashboard.histories.of(folder) as history:
        history.update()
        names = [name for name in history.names if name != metrics.EPOCH]
        names.sort(key=lambda name: name.startswith(("agent/", "setting/")))
        names = names[:MAX_METRICS]
        history.update(names)
        for name in names:
            curve = history.curve(name, POINTS)
            if not curve.x.size:
                continue
            axes = {axis: rounded(history.on_axis(curve.x, axis)) for axis in metrics.AXES}
            found[name] = {"x": axes, "y": rounded(curve.y)}
            if not np.array_equal(curve.low, curve.high):
                found[name] |= {"low": rounded(curve.low), "high": rounded(curve.high)}
    return found


def rounded(values: np.ndarray) -> list[float | None]:
    """Returns values with six significant digits; None for what is no number."""
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values.tolist()]


def table_of(dashboard: Dashboard, folder: Path) -> dict[str, Any]:
    """Returns the episode table of a run, thinned to `MAX_ROWS` rows."""
    total = episodes.page(dashboard, folder, Query([("count", "1")]))["total"]
    found: dict[str, Any] = {"columns": {}, "rows": [], "steps": []}
    kept = np.unique(np.linspace(0, max(total - 1, 0), min(total, MAX_ROWS)).round().astype(int))
    wanted = set(kept.tolist())
    for start in range(0, max(total, 1), episodes.MAX_PAGE):
        places = [place for place in range(start, start + episodes.MAX_PAGE) if place in wanted]
        if places or not found["columns"]:
            asked = [("start", str(start)), ("count", str(episodes.MAX_PAGE))]
            part = episodes.page(dashboard, folder, Query(asked))
            found["columns"] = part["columns"]
            for place in places:
                if place - start < len(part["rows"]):
                    found["rows"].append(part["rows"][place - start])
                    found["steps"].append(part["steps"][place - start])
    return {**found, "total": total}


def games_of(dashboard: Dashboard, folder: Path) -> dict[str, Any]:
    """Returns the recorded games of a run, the first ones of each kind."""
    listed = games.games(dashboard, folder, Query())["games"]
    kept: list[dict[str, Any]] = []
    for kind, most in MAX_GAMES.items():
        kept += [entry for entry in listed if entry["kind"] == kind][:most]
    answers: dict[str, Any] = {f"runs/{folder.name}/games": {"games": kept, "episodes": None}}
    for entry in kept:
        found = games.game(dashboard, folder, Query([("id", entry["id"])]))
        answers[f"runs/{folder.name}/game?{entry['id']}"] = found
    return answers


def replays_of(folder: Path) -> dict[str, Any]:
    """Returns the frames of the replay files of a run; files that are damaged are left out."""
    found: dict[str, Any] = {}
    for name, path in list(hackmatrix.replay_files(folder).items())[:MAX_REPLAYS]:
        try:
            found[name] = hackmatrix.frames_of(hackmatrix.read_scenario(path.read_text()))
        except (ConfigError, OSError, UnicodeDecodeError):
            continue
    return found


def frames_of_files(replays: Mapping[str, str]) -> dict[str, Any]:
    """Returns the frames of replay files.

    Raises:
      ConfigError: if one is faulty, naming it.
    """
    found = {}
    for name, text in replays.items():
        try:
            found[name] = hackmatrix.frames_of(hackmatrix.read_scenario(text))
        except ConfigError as error:
            raise ConfigError(f"--replay {name}: {error}") from error
    return found


# Page


def page(data: Mapping[str, Any], title: str) -> str:
    """Returns the HTML file."""
    files = {
        path: file.content.decode() for path, file in static_files().items() if path.startswith("/static/")
    }
    styles = "\n".join(text for path, text in sorted(files.items()) if path.endswith(".css"))
    imports = {module_name(path): data_url("text/javascript", text) for path, text in modules(files).items()}
    import_map = json.dumps({"imports": imports}, separators=(",", ":"))
    entry = f"import {json.dumps(module_name('/static/app.js'))};"
    icon = data_url("image/svg+xml", files["/static/icon.svg"])
    policy = (
        f"default-src 'none'; script-src {source_hash(import_map)} {source_hash(entry)} data:; "
        f"style-src {source_hash(styles)}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    body = re.search(r"<body>.*</body>", files["/static/index.html"], re.DOTALL)
    assert body is not None
    note = (
        f"Report of matrixrl {matrixrl.__version__}, made on {time.strftime('%Y-%m-%d at %H:%M')}. Curves have at most "
        f"{POINTS} points and tables {MAX_ROWS:,} rows; the journals of the runs have all."
    )
    content = body[0].replace('"static/icon.svg"', f'"{icon}"')
    content = content.replace("</body>", f'<footer class="report-note">{html.escape(note)}</footer>\n</body>')
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{html.escape(policy, quote=True)}">',
        f"<title>{html.escape(title)}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        '<meta name="referrer" content="no-referrer">',
        f'<link rel="icon" href="{icon}">',
        f"<style>{styles}</style>",
        f'<script type="application/json" id="report-data">{script_json(data)}</script>',
        f'<script type="importmap">{import_map}</script>',
        f'<script type="module">{entry}</script>',
    ]
    lines = "\n".join(head)
    return f'<!doctype html>\n<html lang="en">\n<head>\n{lines}\n</head>\n{content}\n</html>\n'


def modules(files: Mapping[str, str]) -> dict[str, str]:
    """Returns the modules of the page, importing one another by name; the module that asks the
    server is replaced by one that answers from the page.
    """
    found = {}
    for path, text in files.items():
        if not path.endswith(".js") or path == API:
            continue
        folder = posixpath.dirname(path)

        def named(match: re.Match[str], folder: str = folder) -> str:
            target = posixpath.normpath(posixpath.join(folder, match[3]))
            return f"{match[1]}{match[2]}{module_name(target)}{match[2]}"

        found[API if path == REPORT_API else path] = IMPORT.sub(named, text)
    return found


def module_name(path: str) -> str:
    """Returns the name of a module in the import map."""
    return f"matrixrl{path.removeprefix('/static')}"


def data_url(media_type: str, text: str) -> str:
    """Returns a text as an address."""
    return f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}"


def source_hash(text: str) -> str:
    """Returns the source expression of an inline script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def script_json(value: Any) -> str:
    """Returns JSON that can stand in a script element: no character of it begins a tag."""
    text = json.dumps(as_json(value), allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def names_for(folders: Iterable[Path]) -> str:
    """Returns a title from the names of runs."""
    names = [folder.resolve().name for folder in folders]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
