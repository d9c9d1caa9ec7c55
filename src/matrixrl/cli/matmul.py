"""`matrixrl matmul train` and `bench`."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from matrixrl import presets
from matrixrl.cli.parse import parse
from matrixrl.cli.resume import flag_value, resumed_settings, run_folder
from matrixrl.config import ConfigError, MatmulConfig, TrackingConfig, as_record
from matrixrl.tracking.identity import find_run

if TYPE_CHECKING:
    from matrixrl.training.loop import StopRequest


def run(name: str, arguments: Sequence[str]) -> int:
    """Run the subcommand `name`."""
    if name == "train":
        return train(read_config(arguments))
    from matrixrl.cli.matmul_bench import bench

    return bench(arguments)


def read_config(arguments: Sequence[str]) -> MatmulConfig:
    """Settings from a command line: the preset's, or those of the run to resume, with whatever flags say otherwise."""
    reference = flag_value(arguments, "--resume-run", "a run's name, its id, or latest")
    if reference is not None and not {"-h", "--help"} & set(arguments):
        folder = run_folder(arguments, reference, "matmul")
        return resumed_settings(MatmulConfig, folder, reference, partial(_parse, arguments))[0]
    preset = flag_value(arguments, "--preset", f"one of {', '.join(presets.MATMUL)}")
    return _parse(arguments, presets.matmul(presets.quick().preset if preset is None else preset))


def _parse(arguments: Sequence[str], default: MatmulConfig) -> MatmulConfig:
    return parse(
        MatmulConfig,
        arguments,
        prog="matrixrl matmul train",
        description="Discover a matrix-multiplication algorithm: demonstrations, self-play, proof.",
        default=default,
    )


def train(config: MatmulConfig) -> int:
    """Train, and say what was found. Returns the exit status."""
    if config.benchmark:
        from matrixrl.cli.matmul_benchmark import benchmark_tracking

        return benchmark_tracking(config)
    began = time.perf_counter()
    from matrixrl.training.loop import StopRequest

    expiry = GraceExpiry(config.checkpoint.grace_seconds)
    with StopRequest(config.checkpoint.grace_seconds, expiry) as stop:
        return _train(config, stop, expiry, began)


class GraceExpiry:
    """Ends the process when its grace time is over, in the middle of whatever it does; the journal loses nothing.

    Attributes:
      command: continues the run, once there is one.
    """

    def __init__(self, grace_seconds: float) -> None:
        self.command: str | None = None
        self._grace_seconds = grace_seconds

    def __call__(self, number: signal.Signals) -> None:
        """Say so, and leave with the status of a process that was stopped by the signal."""
        after = f"; continue with: {self.command}" if self.command else ""
        text = (
            f"matrixrl: not finished {self._grace_seconds:g} s after {number.name}; stopped at once{after}\n"
        )
        # Straight to the file: the main thread may hold the stream's lock.
        os.write(2, text.encode())
        os._exit(128 + number)


def resume_command(config: MatmulConfig, name: str, *flags: str) -> str:
    """The command that continues a run."""
    folder = config.tracking.runs_dir
    where = () if folder == TrackingConfig().runs_dir else ("--runs-dir", str(folder))
    return shlex.join(["matrixrl", "matmul", "train", "--resume-run", name, *where, *flags])


def _train(config: MatmulConfig, stop: StopRequest, expiry: GraceExpiry, began: float) -> int:
    from matrixrl.checkpoints.store import CheckpointStore
    from matrixrl.devices.machine import describe_machine, use_compilation_cache
    from matrixrl.tracking.run import open_run
    from matrixrl.training.discoveries import SCHEME_FILE, Discoveries
    from matrixrl.training.keeper import CheckpointError, Keeper
    from matrixrl.training.loop import TrainingDivergedError, run_loop
    from matrixrl.training.matmul import MatmulTrainer
    from matrixrl.training.parameters import params_sha256

    n, m, p = config.game.size
    use_compilation_cache()
    settings = {**as_record(config), **describe_machine(), "shown": config.demonstration.shown}
    changes: dict[str, tuple[Any, Any]] = {}
    if config.tracking.resume_run is not None:
        # Before the run is opened: a run that cannot go on stays as it is.
        folder = find_run(config.tracking.runs_dir, config.tracking.resume_run, "matmul")
        CheckpointStore(folder).newest()
        changes = resumed_settings(MatmulConfig, folder, folder.name, lambda _: config)[1]
    run = open_run(config.tracking, system="matmul", name_prefix=f"matmul-{n}x{m}x{p}", run_config=settings)
    expiry.command = resume_command(config, run.name)
    with run:
        discoveries = Discoveries(
            run.directory,
            {
                "source": f"matrixrl {config.preset}, seed {config.seed}",
                "shown": config.demonstration.shown,
                "run": run.name,
                "run_id": run.run_id,
            },
        )
        keeper = Keeper(config.checkpoint, run, settings)
        trainer = MatmulTrainer(config, discoveries)
        try:
            checkpoint = keeper.resume()
            for name, (old, new) in changes.items():
                run.note(f"changed on resume: {name} from {old} to {new}")
            state = trainer.resume(checkpoint) if run.resumed else trainer.init()
            state, ending = run_loop(trainer, state, run, stop, keeper)
        except OSError as error:
            raise ConfigError(
                f"{run.directory}: {error.strerror or error}; the journal keeps what was recorded. Free some space, or "
                f"name another folder with --runs-dir"
            ) from error
        except TrainingDivergedError as error:
            keeper.settle()
            lower = f"{config.optimizer.learning_rate / 2:g}"
            command = resume_command(config, run.name, "--learning-rate", lower)
            text = f"{error}; {keeper.where}; go on from there with: {command}"
            run.warn(text)
            run.finish("crashed")
            print(f"matrixrl: {text}", file=sys.stderr)
            return 1
        except CheckpointError as error:
            run.warn(str(error))
            run.finish("crashed")
            print(f"matrixrl: {error}; free some space, then: {expiry.command}", file=sys.stderr)
            return 1
        finally:
            keeper.close()
        discoveries.settle()
        seconds = time.perf_counter() - began
        best, verdict = discoveries.best, discoveries.verdict
        run.note(summary(config, discoveries, seconds))
        digest = params_sha256(state.device.params)
        left = config.tracking.finish_seconds
        if stop.seconds_left is not None:
            left = min(left, stop.seconds_left / 2)
        report = run.finish(ending, left)
    if ending == "interrupted":
        print(
            f"matrixrl: stopped at step {run.clock.step}, {keeper.where}; continue with: {expiry.command}",
            file=sys.stderr,
        )
    if best is not None and verdict is not None and not config.json:
        from matrixrl.schemes.formulas import formulas

        print(formulas(best))
        print(f"\npicture  {run.directory / 'scheme.png'}\nscheme   {run.directory / SCHEME_FILE}")
    if config.json:
        result: dict[str, Any] = {
            "run_name": run.name,
            "run_id": run.run_id,
            "run_dir": str(run.directory),
            "best_rank": best.rank if best else None,
            "scheme": SCHEME_FILE if best else None,
            "ring": best.ring if best else None,
            "verified": best is not None,
            "shown": config.demonstration.shown,
            "verdict": verdict.message if verdict else None,
            "episodes": state.progress.episodes,
            "epochs": state.progress.epoch,
            "global_step": run.clock.step,
            "params_sha256": digest,
            "seconds": round(seconds, 3),
            "status": report.status,
            "pending_rows": report.pending_rows,
        }
        print(json.dumps(result))
    return 128 + stop.signal if stop.signal is not None and ending == "interrupted" else 0


def summary(config: MatmulConfig, discoveries: Any, seconds: float) -> str:
    """The line that says what the run found and what it had been shown."""
    shown = config.demonstration.shown
    size = "x".join(map(str, config.game.size))
    best = discoveries.best
    if best is None:
        return f"{size}: no game was solved within {config.game.moves} multiplications ({shown}, {seconds:.0f} s)"
    over = "the integers" if best.ring == "Z" else "F2"
    return (
        f"{size} in {best.rank} multiplications, verified over {over}, {shown}: "
        f"{discoveries.verdict.message.partition(' ')[2]}; {seconds:.0f} s, {discoveries.num_verified} solved games"
    )
