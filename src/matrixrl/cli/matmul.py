"""`matrixrl matmul train` and `bench`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from matrixrl import presets
from matrixrl.cli.parse import parse
from matrixrl.config import ConfigError, MatmulConfig, as_record


def run(name: str, arguments: Sequence[str]) -> int:
    """Run the subcommand `name`."""
    if name == "train":
        return train(read_config(arguments))
    from matrixrl.cli.matmul_bench import bench

    return bench(arguments)


def read_config(arguments: Sequence[str]) -> MatmulConfig:
    """Settings from a command line: the preset's, with whatever flags say otherwise."""
    default = presets.matmul(_preset(arguments))
    return parse(
        MatmulConfig,
        arguments,
        prog="matrixrl matmul train",
        description="Discover a matrix-multiplication algorithm: demonstrations, self-play, proof.",
        default=default,
    )


def _preset(arguments: Sequence[str]) -> str:
    """The preset decides the defaults of all other flags, so it is read before them."""
    name = presets.quick().preset
    for index, argument in enumerate(arguments):
        if argument == "--preset":
            if index + 1 == len(arguments):
                raise ConfigError(f"--preset: name one of {', '.join(presets.MATMUL)}")
            name = arguments[index + 1]
        elif argument.startswith("--preset="):
            name = argument.partition("=")[2]
    return name


def train(config: MatmulConfig) -> int:
    """Train, and say what was found. Returns the exit status."""
    began = time.perf_counter()
    from matrixrl.devices.machine import describe_machine, use_compilation_cache
    from matrixrl.tracking.run import open_run
    from matrixrl.training.discoveries import SCHEME_FILE, Discoveries
    from matrixrl.training.loop import StopRequest, TrainingDivergedError, run_loop
    from matrixrl.training.matmul import MatmulTrainer
    from matrixrl.training.parameters import params_sha256

    n, m, p = config.game.size
    use_compilation_cache()
    run = open_run(
        config.tracking,
        system="matmul",
        name_prefix=f"matmul-{n}x{m}x{p}",
        run_config={**as_record(config), **describe_machine(), "shown": config.demonstration.shown},
    )
    with StopRequest() as stop, run:
        discoveries = Discoveries(
            run.directory,
            {
                "source": f"matrixrl {config.preset}, seed {config.seed}",
                "shown": config.demonstration.shown,
                "run": run.name,
                "run_id": run.run_id,
            },
        )
        trainer = MatmulTrainer(config, discoveries)
        try:
            state, ending = run_loop(trainer, trainer.init(), run, stop)
        except OSError as error:
            raise ConfigError(
                f"{run.directory}: {error.strerror or error}; the journal keeps what was recorded. Free some space, or "
                f"name another folder with --runs-dir"
            ) from error
        except TrainingDivergedError as error:
            run.warn(str(error))
            report = run.finish("crashed")
            print(f"matrixrl: {error}", file=sys.stderr)
            return 1
        seconds = time.perf_counter() - began
        best, verdict = discoveries.best, discoveries.verdict
        run.note(summary(config, discoveries, seconds))
        digest = params_sha256(state.device.params)
        report = run.finish(ending)
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
