"""`matrixrl.dashboard()` in a program and in a notebook, and a run's own representation."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

import matrixrl
from matrixrl.api.display import sparkline_svg
from tests.cli.runs_made import make_run, ppo_settings


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("boards")
    make_run(folder, "walk", [{"episode/return": float(i)} for i in range(50)], ppo_settings())
    return folder


def test_the_page_is_served_until_it_is_stopped(runs_dir: Path) -> None:
    board = matrixrl.dashboard(runs_dir=runs_dir)
    with urllib.request.urlopen(f"{board.url}api/runs", timeout=60) as answer:
        assert [run["name"] for run in json.load(answer)["runs"]] == ["walk"]
        policy = answer.headers["content-security-policy"]
    assert "frame-ancestors 'self' http://localhost:*" in policy
    assert f'src="{board.url}"' in board._repr_html_()
    assert repr(board) == f"<dashboard {board.url}>"
    board.stop()
    board.stop()
    assert "stopped" in board._repr_html_()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(board.url, timeout=5)


def test_a_run_is_shown_by_name_and_wrong_arguments_are_refused(runs_dir: Path) -> None:
    with matrixrl.dashboard("latest", runs_dir=runs_dir, height=300) as board:
        assert board.url.endswith("/#/runs/walk")
        assert 'height="300"' in board._repr_html_()
        (runs_dir / "grid").mkdir()
        (runs_dir / "grid" / "study.json").touch()
        for study, there in (("grid", runs_dir), (runs_dir / "grid", None)):
            with matrixrl.dashboard(study, runs_dir=there) as other:
                assert other.url.endswith("/#/studies/grid")
        port = int(board.url.split(":")[2].partition("/")[0])
        with pytest.raises(matrixrl.ConfigError, match=rf"dashboard\(port={port}\): cannot be used"):
            matrixrl.dashboard(runs_dir=runs_dir, port=port)
    with pytest.raises(matrixrl.ConfigError, match="port=-1"):
        matrixrl.dashboard(runs_dir=runs_dir, port=-1)
    with pytest.raises(matrixrl.ConfigError, match="height=5"):
        matrixrl.dashboard(runs_dir=runs_dir, height=5)
    with pytest.raises(matrixrl.ConfigError, match="missing"):
        matrixrl.dashboard("missing", runs_dir=runs_dir)


def test_the_name_is_callable_whatever_was_imported_first(runs_dir: Path) -> None:
    """The package of the dashboard has the name of the function."""
    code = (
        "import sys, matrixrl\n"
        "if sys.argv[1] == 'package': import matrixrl.dashboard.server\n"
        f"with matrixrl.dashboard(runs_dir={str(runs_dir)!r}) as board: print(board.url[:7])\n"
        "import matrixrl.dashboard.audits\n"
        "from matrixrl.dashboard import query\n"
        "matrixrl.dashboard.__call__\n"
    )
    for first in ("function", "package"):
        done = subprocess.run(
            [sys.executable, "-c", code, first], capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("http://\n", "")


def test_a_run_has_a_table_and_a_curve(runs_dir: Path, tmp_path: Path) -> None:
    run = matrixrl.open("walk", runs_dir=runs_dir)
    text = run._repr_html_()
    assert "<td>finished</td>" in text
    assert "episode/return: 0 to 49" in text
    assert text.count("<polyline") == 1
    hostile = make_run(tmp_path, "x", [{"episode/return": 1.0}] * 3, None)
    hostile.rename(tmp_path / "<script>x")
    shown = matrixrl.Run(tmp_path / "<script>x")._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;x" in shown


def test_a_curve_keeps_its_extremes() -> None:
    ys = [0.0] * 100_000
    ys[77_777] = 100.0
    picture = sparkline_svg(range(100_000), ys, 'a "b" <c>', width=100, height=50)
    heights = [float(pair.split(",")[1]) for pair in picture.split('points="')[1].split('"')[0].split()]
    assert min(heights) == pytest.approx(3)
    assert len(heights) <= 400
    assert 'aria-label="a &quot;b&quot; &lt;c&gt;"' in picture
    assert sparkline_svg([], [], "nothing").count("<polyline") == 1
