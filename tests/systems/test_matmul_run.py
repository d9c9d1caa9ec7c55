"""A whole run in small, through the command line: what the journal holds, and that it is the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.core import Tracer

from matrixrl.config import MatmulConfig
from matrixrl.envs.matmul.factors import ActionCodec
from matrixrl.schemes.scheme import Scheme
from matrixrl.schemes.verify import verify
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.spec import EPISODE_COLUMNS as MATMUL_EPISODE_COLUMNS
from matrixrl.tracking.audit import audit
from matrixrl.tracking.events import is_wall_clock
from matrixrl.tracking.transcript import read_transcript
from tests.systems.conftest import (
    EPISODES,
    EPOCHS,
    EVALUATED,
    PRETRAINING,
    TINY,
    UPDATES,
    Result,
    shared_program,
    train,
)

TABLE = [*MATMUL_EPISODE_COLUMNS]


def episode(row) -> dict:
    return dict(zip(TABLE, row.values, strict=True))


def without_clock(run: Result) -> list[tuple[int, dict]]:
    return [
        (row.step, {name: value for name, value in row.metrics.items() if not is_wall_clock(name)})
        for row in run.stream
    ]


def test_run_ends_well(tiny_run: Result) -> None:
    assert tiny_run.status == 0
    assert tiny_run.errors == ""
    assert audit(tiny_run.directory).agrees


def test_clock_counts_weight_updates_and_moves(tiny_run: Result) -> None:
    moves = sum(episode(row)["Steps"] for row in tiny_run.episodes)
    assert len(tiny_run.moves) == moves
    assert tiny_run.summary["global_step"] == PRETRAINING + EPOCHS * UPDATES + moves


def test_stream_has_every_row_at_its_own_growing_step(tiny_run: Result) -> None:
    steps = [row.step for row in tiny_run.stream]
    assert steps == sorted(set(steps))
    kinds = [
        "pretrain" if "pretrain/loss" in row.metrics
        else "epoch" if "epoch_loss" in row.metrics
        else "eval" if "eval/rank" in row.metrics
        else "episode"
        for row in tiny_run.stream
    ]  # fmt: skip
    assert kinds[:PRETRAINING] == ["pretrain"] * PRETRAINING
    assert steps[:PRETRAINING] == list(range(1, PRETRAINING + 1))
    assert kinds.count("epoch") == EPOCHS
    assert kinds.count("eval") == EPOCHS // 2
    # Every game of self-play is counted by exactly one stream row.
    counted = sum(row.metrics.get("episode/count", 0) for row in tiny_run.stream)
    assert counted == EPOCHS * EPISODES
    assert len(tiny_run.stream) == PRETRAINING + EPOCHS + EPOCHS // 2 + kinds.count("episode")


def test_each_epochs_row_stands_at_its_last_weight_update_and_carries_its_number(tiny_run: Result) -> None:
    epochs = [row for row in tiny_run.stream if any(name.startswith("epoch_") for name in row.metrics)]
    assert [row.metrics["Epoch"] for row in epochs] == list(range(1, EPOCHS + 1))
    played = 0
    for number, row in enumerate(epochs, start=1):
        played += sum(
            episode(game)["Steps"]
            for game in tiny_run.episodes
            if episode(game)["Epoch"] == number and game.step < row.step
        )
        assert row.step == PRETRAINING + number * UPDATES + played
    for row in tiny_run.stream:
        if any(name.startswith(("epoch_", "eval/")) for name in row.metrics):
            assert "Epoch" in row.metrics


def test_epoch_losses_are_means_over_all_updates_of_the_epoch(tiny_run: Result, tmp_path: Path) -> None:
    """With one chunk per epoch nothing can be split wrongly; the same seed must give the same means."""
    for row in tiny_run.stream:
        if "epoch_loss" in row.metrics:
            policy, value = row.metrics["epoch_policy_loss"], row.metrics["epoch_value_loss"]
            assert row.metrics["epoch_loss"] == pytest.approx(policy + 0.25 * value, rel=1e-4)
    # Losses move little within this run: leaving a chunk out of a sum over seven would show as a seventh or more.
    last_pretraining = tiny_run.stream[PRETRAINING - 1].metrics["pretrain/value_loss"]
    for row in tiny_run.stream:
        if "epoch_loss" in row.metrics:
            assert row.metrics["epoch_value_loss"] == pytest.approx(last_pretraining, rel=0.12)


def test_episode_table_is_complete(tiny_run: Result) -> None:
    games = sorted((episode(row) for row in tiny_run.episodes), key=lambda game: game["Global Episode"])
    total = EPOCHS * EPISODES + EPOCHS // 2 * EVALUATED
    assert [game["Global Episode"] for game in games] == list(range(1, total + 1))
    assert tiny_run.summary["episodes"] == total
    in_epoch = [game["Episode in Epoch"] for game in games]
    assert in_epoch == [1, 2, 3, 4, 5] * EPOCHS + [1, 2, 3]
    assert TABLE == ["Global Episode", "Epoch", "Episode in Epoch", "Reward", "Residual", "Rank", "Steps", "Solved"]  # fmt: skip
    for game in games:
        assert game["Solved"] == (game["Residual"] == 0)
        assert game["Rank"] == -game["Reward"]
        if game["Solved"]:
            assert game["Rank"] == game["Steps"]
        else:
            assert game["Steps"] == 2  # the step limit
            assert game["Rank"] > game["Steps"]


def test_moves_add_up_to_their_episodes_and_replay_to_the_logged_residuals(tiny_run: Result) -> None:
    """Each move's residual is that of the tensor after this very move, played again from the recorded actions.

    Games start from signed permutations of the target: those are recovered from nothing but the sum of absolute
    values, so the last move of a solved game must leave 0 and every other at least 1.
    """
    by_number = {episode(row)["Global Episode"]: row for row in tiny_run.episodes}
    for number, row in by_number.items():
        game = episode(row)
        moves = [move for move in tiny_run.moves if move.episode == number]
        assert [move.move for move in moves] == list(range(1, game["Steps"] + 1))
        assert sum(move.reward for move in moves) == game["Reward"]
        assert moves[-1].residual == game["Residual"]
        assert moves[-1].step == row.step
        assert all(move.residual > 0 for move in moves[:-1])
    steps = [move.step for move in tiny_run.moves]
    assert steps == sorted(set(steps))


def test_evaluation_row_speaks_of_all_its_games(tiny_run: Result) -> None:
    """Three games, two at a time: the best and the share of solved ones are those of both batches."""
    (row,) = [row for row in tiny_run.stream if "eval/rank" in row.metrics]
    games = [episode(game) for game in tiny_run.episodes][-EVALUATED:]
    assert row.metrics["eval/rank"] == min(game["Rank"] for game in games)
    assert row.metrics["eval/solved"] == pytest.approx(sum(game["Solved"] for game in games) / EVALUATED)
    best = min(games, key=lambda game: (game["Rank"], game["Residual"], game["Steps"]))
    assert row.metrics["eval/residual"] == best["Residual"]
    assert row.metrics["eval/steps"] == best["Steps"]


def test_console_keeps_the_episodes_of_the_table(tiny_run: Result) -> None:
    lines = [line.text for line in read_transcript(tiny_run.directory) if line.kind == "episode"]
    assert sorted(int(line.split(" ")[1]) for line in lines) == sorted(episode(row)["Global Episode"] for row in tiny_run.episodes)  # fmt: skip


def test_found_scheme_is_right_drawn_and_says_what_was_shown(tiny_run: Result) -> None:
    scheme = Scheme.load(tiny_run.scheme)
    assert verify(scheme)
    assert scheme.rank == 2
    record = json.loads(tiny_run.scheme.read_text())
    assert record["format"] == [1, 2, 1]
    assert record["ring"] == "Z"
    assert record["provenance"]["shown"] == "standard algorithm shown"
    assert record["provenance"]["run"] == tiny_run.directory.name
    assert tiny_run.scheme.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    assert "C11 =" in tiny_run.scheme.with_suffix(".txt").read_text()
    summary = tiny_run.summary
    assert summary["shown"] == "standard algorithm shown"
    assert "standard algorithm shown" in tiny_run.output
    assert {"run_name", "run_id", "run_dir", "best_rank", "scheme", "verified", "episodes", "global_step", "params_sha256", "seconds"} <= set(summary)  # fmt: skip
    assert summary["best_rank"] == 2
    assert summary["verified"] is True
    assert Path(summary["run_dir"], summary["scheme"]) == tiny_run.scheme
    assert len(summary["params_sha256"]) == 64


@pytest.mark.slow
def test_same_seed_gives_the_same_run_and_another_seed_another(tiny_run: Result, tmp_path: Path) -> None:
    again = train(tmp_path / "same", "--seed", "3")
    assert again.summary["params_sha256"] == tiny_run.summary["params_sha256"]
    assert without_clock(again) == without_clock(tiny_run)
    assert [row.values for row in again.episodes] == [row.values for row in tiny_run.episodes]
    assert [row[2:7] for row in again.moves] == [row[2:7] for row in tiny_run.moves]
    other = train(tmp_path / "other", "--seed", "4")
    assert other.summary["params_sha256"] != tiny_run.summary["params_sha256"]


def test_a_game_that_lies_about_being_solved_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof multiplies matrices by itself: a decoder that is wrong on the host cannot slip through."""
    honest = ActionCodec.decode

    def lying(self: ActionCodec, tokens):
        u, v, w = honest(self, tokens)
        # Only where the host reads a played game, which is not traced.
        return (u, v, w) if isinstance(w, Tracer) else (u, v, 0 * w)

    monkeypatch.setattr(ActionCodec, "decode", lying)
    with pytest.raises(RuntimeError, match=r"no scheme of 1x2x1.*defect of matrixrl"):
        train(tmp_path, "--seed", "3")
    (directory,) = [entry for entry in tmp_path.iterdir() if not entry.name.startswith(".")]
    assert not (directory / "scheme.json").exists()


def assert_stopped_in_one_line(result: Result) -> int:
    """Returns the step that the line names."""
    assert result.status == 1
    (line,) = result.errors.splitlines()
    assert "loss is nan at step" in line or "loss is inf at step" in line
    assert "--learning-rate" in line
    step = int(line.split("at step ")[1].split(":")[0])
    # What was recorded before stays, and nothing of the chunk that diverged.
    assert all(np.isfinite(list(row.metrics.values())).all() for row in result.stream)
    assert all(row.step < step for row in result.stream)
    assert audit(result.directory).agrees
    return step


def test_divergence_stops_with_one_line_that_names_metric_and_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parameters are NaN from the second chunk of updates on: the programs are those of the other runs."""
    chunks: list[int] = []

    def poisoned(config: MatmulConfig) -> MatmulProgram:
        program = shared_program(config)
        learn = program.learn

        def diverging(params: Any, *more: Any) -> Any:
            chunks.append(len(chunks))
            scale = np.float32("nan" if len(chunks) > 1 else 1)
            return learn(jax.tree.map(lambda leaf: leaf * scale, params), *more)

        monkeypatch.setitem(program.__dict__, "learn", diverging)
        return program

    monkeypatch.setattr("tests.systems.conftest.shared_program", poisoned)
    result = train(tmp_path, "--seed", "3")
    assert assert_stopped_in_one_line(result) == 4
    assert [row.step for row in result.stream] == [1, 2, 3]


@pytest.mark.slow
def test_a_learning_rate_that_is_too_high_diverges(tmp_path: Path) -> None:
    diverging = ["--learning-rate", "1e30", "--warmup-steps", "0", "--max-grad-norm", "1e30"]
    assert_stopped_in_one_line(train(tmp_path, *diverging, "--policy", "tokens", "--no-rank-profile"))


def test_tracked_numbers_reach_the_offline_file_of_wandb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matrixrl.tracking.sinks.wandb_client import fragments, offline_rows

    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": str(home), "NETRC": str(home / "netrc"), "WANDB_MODE": "offline", "WANDB_API_KEY": "",
        "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_ERROR_REPORTING": "false",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    result = train(tmp_path / "runs", "--seed", "3", "--wandb", base=TINY)
    (file,) = fragments(result.directory)
    rows = {row.step: row.values for row in offline_rows(file)}
    assert list(rows) == [row.step for row in result.stream]
    for row in result.stream:
        sent = {name: value for name, value in rows[row.step].items() if not name.startswith(("_", "episode_history"))}  # fmt: skip
        assert sent == pytest.approx(row.metrics)
    report = audit(result.directory)
    assert report.agrees, report.gaps
    assert report.checks["W&B offline file"] == len(result.stream)
    assert result.summary["pending_rows"] == len(result.stream)


@pytest.mark.slow
def test_one_agent_for_several_formats(tmp_path: Path) -> None:
    """Games take turns; each format has its own step limit, scheme, files and figures."""
    formats = ("1x2x1", "2x1x2")
    runs = tmp_path / "several"
    result = train(runs, "--sizes", *formats, "--episodes-per-epoch", "6", "--no-tighten-step-limit")
    assert result.status == 0
    assert result.directory.name.startswith("matmul-1x2x1-2x1x2")
    found = result.summary["formats"]
    assert {name: values["best_rank"] for name, values in found.items()} == {"1x2x1": 2, "2x1x2": 4}
    for name in formats:
        scheme = Scheme.load(result.directory / found[name]["scheme"])
        assert verify(scheme)
        assert "x".join(map(str, scheme.format)) == name
        assert f"{name} in {scheme.rank} multiplications" in result.output
        assert any(f"eval/rank_{name}" in row.metrics for row in result.stream)
        solutions = json.loads((result.directory / f"scheme_{name}_solutions.json").read_text())
        assert len(solutions) == found[name]["solutions"] >= 1
    last = [row for row in result.stream if "epoch_loss" in row.metrics][-1]
    assert (last.metrics["epoch_best_rank_1x2x1"], last.metrics["epoch_best_rank_2x1x2"]) == (2, 4)


@pytest.mark.slow
def test_programs_that_are_compiled_ahead_are_compiled_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jax.config.update("jax_log_compiles", True)
    try:
        assert train(tmp_path, "--seed", "4").status == 0
    finally:
        jax.config.update("jax_log_compiles", False)
    said = [record.getMessage() for record in caplog.records]
    for name in ("init", "learn", "start_games", "play_move", "keep"):
        assert sum(f"Compiling jit({name})" in text for text in said) == 1, name
