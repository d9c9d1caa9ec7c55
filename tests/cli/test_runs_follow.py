from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from matrixrl.cli import runs_show
from matrixrl.cli.runs_show import Show, run_command
from matrixrl.tracking.events import ScalarRow
from matrixrl.tracking.run import Run
from tests.cli.runs_made import MANY, make_run, many_rows, open_made, ppo_settings


def pauses(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Each pause of `--follow` performs the next step instead of sleeping."""
    left = list(steps)
    clock = SimpleNamespace(
        monotonic=time.monotonic, strftime=time.strftime, sleep=lambda seconds: left.pop(0)()
    )
    monkeypatch.setattr(runs_show, "time", clock)


def record(run: Run, value: float) -> None:
    run.record([ScalarRow(run.clock.advance(10)[-1], {"episode/return": value, "other": 1.0})])


def stop() -> None:
    raise KeyboardInterrupt


def test_in_a_pipe_each_new_row_is_a_line_until_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_made(tmp_path, "live")
    record(run, 1.0)
    record(run, 2.0)

    def two_more() -> None:
        record(run, 3.0)
        record(run, 4.56789)

    def end() -> None:
        record(run, 5.0)
        run.finish("finished")

    pauses(monkeypatch, two_more, lambda: None, end)
    capsys.readouterr()
    assert run_command(Show(run="live", runs_dir=tmp_path, follow=True)) == 0
    assert capsys.readouterr().out.splitlines() == [
        "following live: a line per row, until the run ends",
        "step 20  episode/return 2",
        "step 30  episode/return 3",
        "step 40  episode/return 4.57",
        "live finished: 50 steps in " + str(tmp_path / "live"),  # the run's own last line
        "step 50  episode/return 5",
        "live: finished at step 50",
    ]


def test_ctrl_c_ends_the_display_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_made(tmp_path, "live")
    record(run, 1.0)
    pauses(monkeypatch, lambda: None, stop)
    capsys.readouterr()
    assert run_command(Show(run="live", runs_dir=tmp_path, follow=True, json=True)) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (answer["state"], answer["last"]) == ("running", {"episode/return": 1.0})
    record(run, 2.0)
    run.finish("finished")


def test_on_a_terminal_it_is_redrawn_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_made(tmp_path, "live")
    record(run, 1.0)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "60")
    pauses(monkeypatch, lambda: record(run, 8.0), lambda: run.finish("finished"))
    capsys.readouterr()
    assert run_command(Show(run="live", runs_dir=tmp_path, follow=True)) == 0
    text = capsys.readouterr().out
    drawings = text.split("episode/return   last ")
    assert [drawing[:2].strip() for drawing in drawings[1:]] == ["1", "8", "8"]
    assert "Ctrl-C ends the display, not the run" in drawings[1]
    assert f"\x1b[{_lines(text)}A" in drawings[1]
    assert "Ctrl-C" not in drawings[-1]


def _lines(text: str) -> int:
    """Number of lines of the first drawing."""
    return text.partition("\x1b[J")[0].count("\n")


def test_it_leaves_the_folder_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path, "done", [{"episode/return": 1.0}])

    def state() -> dict[str, tuple[int, int]]:
        return {
            str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]
        }

    before = state()
    assert run_command(Show(run="done", runs_dir=tmp_path, follow=True)) == 0
    assert state() == before
    assert "done: finished at step 10" in capsys.readouterr().out


def test_follow_and_config_do_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(Show(run="x", runs_dir=tmp_path, follow=True, config=True)) == 2
    assert "--config prints the settings once" in capsys.readouterr().err


def test_means_over_agents_are_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = ppo_settings(num_seeds=2, sweep=("learning_rate=1e-3,3e-4",))
    make_run(tmp_path, "many", many_rows(), config, MANY)
    capsys.readouterr()
    assert run_command(Show(run="many", runs_dir=tmp_path)) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "metric mean IQM 95 % interval of the mean agents" in lines
    assert "episode/return 5.50 5.50 4.23 to 6.77 all 4" in lines
    assert "4.50 4.50 3.52 to 5.48 learning_rate 1e-3" in lines
    assert "6.50 6.50 5.52 to 7.48 learning_rate 3e-4" in lines
    make_run(tmp_path, "single", [{"episode/return": 1.0}], ppo_settings())
    capsys.readouterr()
    assert run_command(Show(run="single", runs_dir=tmp_path)) == 0
    assert "IQM" not in capsys.readouterr().out
