"""`matrixrl matmul flip`."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matrixrl.cli import session
from matrixrl.cli.checkpoints import choose_checkpoint
from matrixrl.cli.embedding import EMBEDDING
from matrixrl.cli.resume import flag_value, recorded_settings
from matrixrl.cli.settings import read_settings
from matrixrl.config import (
    DEFAULT_MOVES,
    ConfigError,
    FlipConfig,
    MatmulConfig,
    TrackingConfig,
    default_walkers,
    require,
    with_value,
)
from matrixrl.devices.coordinator import SINGLE, Coordinator
from matrixrl.tracking.identity import find_run, has_checkpoint, read_run_file
from matrixrl.tracking.numbers import duration, plural, significant
from matrixrl.tracking.status import Status, activity, use

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.schemes.scheme import Scheme
    from matrixrl.search.flip_graph.ray_walkers import RayWalkers
    from matrixrl.systems.flip.policy import TrainedPolicy
    from matrixrl.systems.flip.state import FlipState
    from matrixrl.systems.flip.trainer import FlipTrainer
    from matrixrl.systems.matmul.discoveries import Discoveries
    from matrixrl.tracking.recorder import Recorder

RING_IN_WORDS = {"F2": "F2", "Z": "the integers -1, 0, 1"}


def default_settings() -> FlipConfig:
    """Returns the default settings: every round is recorded."""
    # Without a reference problem: the settings are checked once the command line is read.
    return FlipConfig(tracking=TrackingConfig(log_interval=1))


def run(name: str, arguments: Sequence[str]) -> int:
    """Runs the subcommand; returns its exit status."""
    del name
    return train(read_config(arguments))


def read_config(arguments: Sequence[str]) -> FlipConfig:
    """Reads the settings from a command line, and checks the schemes to start from and the agent.

    Raises:
      ConfigError: if a setting, a scheme or an agent is not allowed.
    """
    config = read_settings(
        FlipConfig,
        arguments,
        {"default": default_settings},
        "default",
        system="flip",
        words="matmul flip",
        description="Search for schemes of low rank by random walks on flip graphs, on all cores.",
    )
    if config.place.on == "local":
        given = (
            None if {"-h", "--help"} & set(arguments) else flag_value(arguments, "--ray-address", "HOST:PORT")
        )
        if given is not None:
            raise ConfigError(f"--ray-address {given}: is for --on ray; add it, or leave the address out")
        # Recorded: the result depends on the number of walkers.
        config = with_value(config, "walk.num_walkers", config.walk.walkers)
    if config.tracking.resume_run is not None:
        return config
    if config.graph.start is not None:
        from matrixrl.systems.flip.start import read_start, with_problem_of_start

        config = with_problem_of_start(config)
        read_start(config)
    if config.walk.refine_with is not None:
        # From here on the agent is identified by its folder: a run that is started meanwhile must
        # not become `latest`.
        folder = str(_agent_settings(config)[0])
        config = dataclasses.replace(config, walk=dataclasses.replace(config.walk, refine_with=folder))
    return config


def _agent_settings(config: FlipConfig) -> tuple[Path, MatmulConfig]:
    """Returns the folder and the settings of the run that `--refine-with` names.

    Raises:
      ConfigError: if there is no such run with a checkpoint, or its agent does not fit the search.
    """
    from matrixrl.systems.flip.policy import check_policy

    reference = config.walk.refine_with
    assert reference is not None
    folder = Path(reference)
    if read_run_file(folder) is None:
        folder = find_run(
            config.tracking.runs_dir, reference, "matmul", flag="--refine-with", has_something=has_checkpoint
        )
    folder = folder.resolve()
    flag = f"--refine-with {reference}"
    system = (read_run_file(folder) or {}).get("system")
    require(system == "matmul", f"{flag}: a run of {system}; give a run of `matrixrl matmul train`")
    settings = recorded_settings(MatmulConfig, folder)
    check_policy(settings, config.graph.problems, config.graph.ring, flag)
    require(
        has_checkpoint(folder),
        f"{flag}: there is no whole checkpoint in {folder}; one is written every --save-interval seconds of training",
    )
    return folder, settings


def read_policy(config: FlipConfig) -> TrainedPolicy | None:
    """Returns the agent of `--refine-with` with its newest checkpoint; None without it.

    Raises:
      ConfigError: if it cannot be read.
    """
    if config.walk.refine_with is None:
        return None
    from matrixrl.systems.flip.policy import TrainedPolicy

    folder, settings = _agent_settings(config)
    return TrainedPolicy(settings, choose_checkpoint("--refine-with", folder).host_arrays("params/"))


def train(config: FlipConfig, coordinator: Coordinator = SINGLE) -> int:
    """Searches, and prints the schemes found. Returns the exit status.

    Raises:
      ConfigError: if a cluster is asked for and does not answer; there is no run folder then.
    """
    if EMBEDDING.get() is None and "jax" not in sys.modules:
        # The walks need no accelerator, and JAX would reserve its memory.
        os.environ["JAX_PLATFORMS"] = "cpu"
    if config.place.on == "local":
        return session.train(flip_session(config), coordinator)
    with cluster_walkers(config) as walkers:
        if config.walk.num_walkers is None:
            config = with_value(config, "walk.num_walkers", default_walkers(walkers.cores))
        return session.train(flip_session(config, walkers), coordinator)


@contextmanager
def cluster_walkers(config: FlipConfig) -> Iterator[RayWalkers]:
    """Yields walkers on the cluster of the settings, connected.

    Raises:
      ConfigError: if the extra is missing, or the cluster does not answer.
    """
    from matrixrl.studies.engine import cores
    from matrixrl.studies.ray_cluster import connect

    place = config.place
    starting = Status(shown=config.tracking.console != "quiet")
    try:
        with use(starting), activity("connecting to the Ray cluster"):
            ray = connect(place.ray_address, place.jobs or cores())
    except ConfigError as error:
        if config.tracking.resume_run is None:
            raise
        raise ConfigError(
            f"{error}; --ray-address names another cluster, and --on local walks on this machine"
        ) from error
    try:
        from matrixrl.search.flip_graph.ray_walkers import RayWalkers

        yield RayWalkers(ray, place.jobs)
    finally:
        ray.shutdown()


def flip_session(
    config: FlipConfig, walkers: RayWalkers | None = None
) -> session.Session[FlipConfig, FlipTrainer]:
    """Returns the session of the search for the shared command.

    Args:
      walkers: those of a cluster; None for this machine.
    """

    def make_trainer(config: FlipConfig, run: Recorder) -> FlipTrainer:
        from matrixrl.systems.flip.start import read_start
        from matrixrl.systems.flip.trainer import FlipTrainer
        from matrixrl.systems.matmul.discoveries import Discoveries

        provenance = {
            "source": "matrixrl flip graph",
            "found_by": found_by(config),
            "seed": config.seed,
            "run": run.name,
            "run_id": run.run_id,
        }
        discoveries = [
            Discoveries(run.directory, provenance, f"scheme_{problem}" if config.graph.all else "scheme")
            for problem in config.graph.problems
        ]
        start = [] if run.resumed else read_start(config)
        policy = None if run.resumed else read_policy(config)
        if walkers is None:
            return FlipTrainer(config, discoveries, start, policy)
        parallel = min(walkers.cores, config.place.jobs or walkers.cores)
        return FlipTrainer(
            config,
            discoveries,
            start,
            policy,
            walkers=walkers,
            warm_walks=max(1, parallel),
            place=walkers.place,
        )

    def summarize(trainer: FlipTrainer, state: FlipState, seconds: float) -> str:
        trainer.finalize(state)
        return summary(trainer, state, seconds)

    return session.Session(
        system="flip",
        name_prefix=f"flip-{config.graph.name}",
        config=config,
        verb="searches",
        describe=describe,
        make_trainer=make_trainer,
        summarize=summarize,
        show=show,
        result=result,
        # Start and compilation may take longer than a short --time.
        min_chunks=1,
    )


def found_by(config: FlipConfig) -> str:
    """Returns the command of a search, as a scheme's provenance has it."""
    graph = config.graph
    if graph.all:
        what = f"--all --max {max(max(sizes) for sizes in graph.formats)}"
    elif graph.formats:
        what = f"--size {' '.join(map(str, graph.formats[0]))}"
    else:
        what = f"--tensor {graph.problems[0].name}"
    start = "" if graph.start is None else f" --start {graph.start.name}"
    start += _walk_flags(config)
    walkers = f"--num-walkers {config.walk.walkers}"
    return f"matrixrl matmul flip {what} --ring {graph.ring}{start} --seed {config.seed} {walkers}"


def _walk_flags(config: FlipConfig) -> str:
    """Returns the flags of the symmetry, the moves and the choice of starts that are not the
    defaults.
    """
    walk = config.walk
    flags = "" if walk.symmetry == "none" else f" --symmetry {walk.symmetry}"
    for name, value in walk.moves.items():
        if value != DEFAULT_MOVES[walk.symmetry][name]:
            flags += f" --{name.replace('_', '-')} {value}"
    if walk.restart_choice != "uniform":
        flags += f" --restart-choice {walk.restart_choice}"
    if walk.refine_with is not None:
        return f"{flags} --refine-with {Path(walk.refine_with).name}"
    return flags if walk.move == "none" else f"{flags} --long-range {walk.move}"


def describe(config: FlipConfig) -> str:
    """Returns what is searched, and what ends it, in a line."""
    from matrixrl.schemes.problem import coefficients_of_ring

    graph = config.graph
    over = RING_IN_WORDS[graph.ring]
    ends = []
    if graph.all:
        what = f"{plural(len(graph.formats), 'format')} up to {'x'.join(map(str, graph.formats[-1]))}"
        ends.append("the best known rank of each")
    else:
        problem = graph.problems[0]
        what = f"matrix multiplication {problem}" if graph.formats else f"{problem}, {problem.title},"
        rank = graph.target_rank or problem.best_known_rank(coefficients_of_ring(graph.ring))
        if rank is not None:
            ends.append(f"rank {rank}" + ("" if graph.target_rank else ", the best known"))
    if graph.flips is not None:
        ends.append(f"{graph.flips:,} flips")
    if config.time is not None:
        ends.append(config.time)
    start = "" if graph.start is None else f", from {graph.start.name}"
    start += _walk_flags(config).replace(" --", ", --")
    where = " on a Ray cluster" if config.place.on == "ray" else ""
    return (
        f"{what} over {over}{start}; until {' or '.join(ends)}; {config.walk.walkers} walkers{where}, "
        f"seed {config.seed}"
    )


def show(outcome: session.TrainingResult[FlipTrainer]) -> None:
    """Prints the best scheme, or where the schemes of all formats are."""
    from matrixrl.schemes.formulas import formulas

    trainer, directory = outcome.trainer, outcome.run.directory
    if trainer.several:
        print(f"schemes  {directory / 'scheme_*.json'}")
        return
    found = trainer.discoveries[0]
    if found.best is not None:
        print(formulas(found.best))
        print(f"\npicture  {directory / f'{found.stem}.png'}\nscheme   {directory / found.scheme_file}")


def result(outcome: session.TrainingResult[FlipTrainer]) -> dict[str, Any]:
    """Returns what was found as JSON values.

    `ring` is that of the search, and `scheme` a file of a scheme over it; `lifted` is the file of
    the same scheme over the integers.
    """
    trainer = outcome.trainer
    of_problems = [_found(trainer.config, found) for found in trainer.discoveries]
    state: FlipState = outcome.state
    values: dict[str, Any] = {} if trainer.several else of_problems[0]
    if trainer.several:
        values = {
            "ring": trainer.config.graph.ring,
            "verified": all(found["verified"] for found in of_problems),
        }
    return {
        **values,
        "formats": {
            problem.name: found for problem, found in zip(trainer.problems, of_problems, strict=True)
        },
        "flips": state.progress.total_flips,
        "flips_per_second": round(trainer.flips_per_second, 1),
        "rounds": state.progress.rounds,
        "restarts": state.progress.restarts,
        "pluses": state.progress.pluses,
        "long_range_moves": {
            "kind": trainer.config.walk.move,
            "tried": state.progress.moves,
            "changed": state.progress.moves_changed,
            "shorter": state.progress.moves_shorter,
        },
        "pool": [{str(rank): count for rank, count in pool.counts().items()} for pool in state.pools][
            : None if trainer.several else 1
        ],
    }


def _found(config: FlipConfig, found: Discoveries) -> dict[str, Any]:
    from matrixrl.schemes.problem import coefficients_of_ring
    from matrixrl.schemes.records import judge
    from matrixrl.schemes.verify import verify

    best = found.best
    assert best is not None
    ring = config.graph.ring
    directory = found.directory.resolve()
    lifted = best.ring != ring
    scheme = directory / (found.modulo_2_file if lifted else found.scheme_file)
    return {
        "best_rank": best.rank,
        "verified": bool(verify(best)) and bool(verify(_load(scheme), ring)),
        "ring": ring,
        "scheme": str(scheme),
        "lifted": str(directory / found.scheme_file) if lifted else None,
        "verdict": judge(best.problem, best.rank, coefficients_of_ring(ring)).message,
        "solutions": len(found.solutions),
    }


def _load(path: Any) -> Scheme:
    from matrixrl.schemes.scheme import Scheme

    return Scheme.load(path)


def summary(trainer: FlipTrainer, state: FlipState, seconds: float) -> str:
    """Returns the lines that state what was found, and at which speed."""
    progress = state.progress
    lines = []
    for pool, found in zip(state.pools, trainer.discoveries, strict=True):
        best, verdict = found.best, found.verdict
        assert best is not None
        assert verdict is not None
        over = "the integers" if best.ring == "Z" else "F2"
        origin = ", lifted from F2" if pool.ring == "F2" and best.ring == "Z" else ""
        count = pool.counts().get(best.rank, 0)
        lines.append(
            f"{pool.problem} in {best.rank} multiplications, verified over {over}{origin}: "
            f"{verdict.message.partition(' ')[2]}; {plural(count, 'scheme')} of this rank in the pool"
        )
    speed = f"{significant(trainer.flips_per_second / 1e6)} million flips/s"
    lines.append(
        f"{duration(seconds)}, {plural(progress.rounds, 'round')}, {progress.total_flips:,} flips, {speed}, "
        f"{plural(progress.restarts, 'restart')}"
    )
    return "\n".join(lines)
