"""A small deterministic trainer, run as a process by the tests: it plays, trains, checkpoints, and resumes.

Every number is a function of the step, so that a test knows what a run that was never disturbed looks like.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path

from matrixrl.config import ConfigError, TrackingConfig
from matrixrl.tracking.events import EpisodeRow, Event, MoveRow, ScalarRow, TableSnapshot
from matrixrl.tracking.journal import TrackingError
from matrixrl.tracking.run import Run, open_run

GAMES = 3
MOVES = 4
UPDATES = 5
PRETRAIN = 10


def epoch_events(run: Run, epoch: int, sleep: float) -> None:
    """One epoch: a batch of games, weight updates, the epoch's row with the table."""
    first_episode = (epoch - 1) * GAMES
    for move in range(1, MOVES + 1):
        ticks = run.clock.advance(GAMES)
        events: list[Event] = [
            MoveRow(tick, first_episode + game + 1, move, [game, move, -1], -1.0, float(MOVES - move))
            for game, tick in enumerate(ticks)
        ]
        if move == MOVES:
            for game, tick in enumerate(ticks):
                number = first_episode + game + 1
                solved = game == 0
                values = {
                    "Global Episode": number,
                    "Epoch": epoch,
                    "Episode in Epoch": game + 1,
                    "Reward": -math.sin(number),
                    "Residual": 0.0 if solved else 2.0,
                    "Rank": 7 + epoch % 3 if solved else None,
                    "Steps": MOVES,
                    "Solved": solved,
                }
                events.append(EpisodeRow(tick, values))
            events.append(ScalarRow(ticks[-1], {"episode/reward": -math.sin(epoch), "episode/count": GAMES}))
        run.record(events)
        time.sleep(sleep)
    for _ in range(UPDATES):
        tick = run.clock.tick()
        run.record(
            [ScalarRow(tick, {"train/loss": 1 / tick.step, "train/steps_per_second": time.time() % 1})]
        )
        time.sleep(sleep)
    tick = run.clock.tick()
    run.record([ScalarRow(tick, {"Epoch": epoch, "epoch_loss": math.exp(-epoch / 10)}), TableSnapshot(tick)])


def save(run: Run, epoch: int) -> None:
    """A checkpoint: written whole, renamed, recorded."""
    folder = run.directory / "checkpoints"
    folder.mkdir(exist_ok=True)
    path = folder / f"{epoch:06d}.json"
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps({"epoch": epoch, "clock": run.clock.step}))
    draft.replace(path)
    run.record_file(path, kind="checkpoint", aliases=["best"] if epoch == 2 else [])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--sleep", type=float, default=0.0)
    parser.add_argument("--resume")
    parser.add_argument("--name")
    parser.add_argument("--wandb", action="store_true")
    parser.add_argument("--track", nargs="*", default=())
    parser.add_argument("--moves", action="store_true")
    parser.add_argument("--console", default="epochs")
    parser.add_argument("--finish-seconds", type=float, default=30.0)
    parser.add_argument("--backlog-rows", type=int, default=10_000)
    parser.add_argument("--keep-artifacts", type=int, default=3)
    parser.add_argument("--no-artifact", action="store_true")
    parser.add_argument("--hold", type=float, default=0.0)
    parser.add_argument("--fail-at", type=int)
    arguments = parser.parse_args()
    config = TrackingConfig(
        runs_dir=arguments.runs_dir,
        wandb=arguments.wandb,
        track=tuple(arguments.track),
        resume_run=arguments.resume,
        run_name=arguments.name,
        record_moves=arguments.moves,
        console=arguments.console,
        finish_seconds=arguments.finish_seconds,
        backlog_rows=arguments.backlog_rows,
        keep_artifacts=arguments.keep_artifacts,
        no_artifact=arguments.no_artifact,
    )
    try:
        started = time.perf_counter()
        with open_run(
            config, system="matmul", name_prefix="matmul-2x2x2", run_config={"epochs": arguments.epochs}
        ) as run:
            opened = time.perf_counter() - started
            done = 0
            saved = sorted(run.directory.glob("checkpoints/*.json"))
            if saved:
                state = json.loads(saved[-1].read_text())
                done = state["epoch"]
                run.restore_clock(state["clock"])
            else:
                for step in range(PRETRAIN):
                    run.record([ScalarRow(run.clock.tick(), {"pretrain/loss": 1 / (step + 1)})])
                    run.progress("pretrain", step + 1, PRETRAIN)
                    time.sleep(arguments.sleep)
            for epoch in range(done + 1, arguments.epochs + 1):
                if epoch == arguments.fail_at:
                    raise ArithmeticError("planned failure")
                epoch_events(run, epoch, arguments.sleep)
                save(run, epoch)
            trained = time.perf_counter() - started
            time.sleep(arguments.hold)
            report = run.finish()
    except (ConfigError, TrackingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    result = {
        "name": run.name, "opened": opened, "trained": trained, "pending": report.pending_rows,
        "finished": time.perf_counter() - started - trained, "command": report.command, "pid": os.getpid(),
    }  # fmt: skip
    try:
        print(json.dumps(result), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads it; the interpreter flushes it once more
    return 0


if __name__ == "__main__":
    sys.exit(main())
