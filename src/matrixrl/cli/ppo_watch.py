"""`matrixrl ppo watch RUN`: a trained agent plays an episode of its environment."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
import tyro

from matrixrl.cli import terminal
from matrixrl.cli.agent_flags import WatchFlags, check_writable
from matrixrl.cli.ppo_agent import load_agent
from matrixrl.cli.progress import working
from matrixrl.config import ConfigError, require
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.status import activity
from matrixrl.whole_files import write_whole

if TYPE_CHECKING:
    from matrixrl.systems.ppo.evaluation import WatchedStep

MAX_PICTURES = 1_000
"""Maximum number of pictures of a GIF."""


@dataclass(frozen=True, kw_only=True)
class PPOWatchCommand(WatchFlags):
    """Watch a trained agent play an episode. A GIF needs an environment with `render`."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Name or id of a run, or `latest`."""

    agent: int = 0
    """Number of the agent, of a run of several."""

    episode: int = 0
    """Index of the episode. `evaluate` plays the same episodes with the same seed."""

    delay: float = 0.1
    """Time in seconds for which a picture is shown, on a terminal and in a GIF."""

    max_steps: int | None = None
    """Maximum number of steps. Default: --time-limit of the run, or the environment's own."""

    env: str | None = None
    """Environment, if it is not the run's.
    Needed once for a run from elsewhere with code of its own.
    """

    network: str | None = None
    """Network, if it is not the run's.
    Needed once for a run from elsewhere with code of its own.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.episode < 2**31, f"--episode {self.episode}: must be from 0 to 2147483647")
        self.check_times(self.delay, self.max_steps)
        if self.gif is not None:
            check_writable("--gif", self.gif)


def run_command(command: PPOWatchCommand) -> int:
    """Plays, shows and saves. Returns the exit status.

    Raises:
      ConfigError: if there is no such run or no playable checkpoint, or the environment cannot be
        drawn.
    """
    with working(f"watching {command.run}"), activity("starting JAX"):
        from matrixrl.devices.compilation_cache import use_compilation_cache
        from matrixrl.systems.ppo.drawing import Frame, can_draw, draw, gif
        from matrixrl.systems.ppo.host_evaluation import make_evaluator

        use_compilation_cache()
        found = load_agent(
            "watch", command.run, command.runs_dir, command.step, command.best, command.env, command.network
        )
        require(
            0 <= command.agent < len(found.agents),
            f"--agent {command.agent}: {found.name} has {plural(len(found.agents), 'agent')}, numbered from 0",
        )
        env = found.task.env
        draws = can_draw(env)  # pyright: ignore[reportArgumentType]
        if command.gif is not None and not draws:
            raise ConfigError(
                f"--gif {command.gif}: --env {found.config.env} cannot draw itself; give it a method render(state, params) "
                "that returns an image or a text"
            )
        evaluator = make_evaluator(
            found.task,
            command.max_steps or found.config.time_limit,
            num_workers=1,
            draws=draws and command.gif is not None,
        )
    how = "greedy" if command.greedy else "sampled"
    print(f"{found.where}, {how}, seed {command.seed}, episode {command.episode}")
    frames: list[Frame] = []
    last: WatchedStep | None = None
    count = 0
    for count, last in enumerate(
        evaluator.watch(found.agents[command.agent], command.episode, command.seed, command.greedy), start=1
    ):
        if draws and last.state is not None:
            frame = draw(env, last.state)  # pyright: ignore[reportArgumentType]
            if isinstance(frame, str) and terminal.is_interactive():
                print(frame)
                time.sleep(command.delay)
            if command.gif is not None and len(frames) < MAX_PICTURES:
                frames.append(frame)
        print(step_line(count, last), flush=True)
    assert last is not None
    print(f"return {last.total:,.2f} after {plural(count, 'step')}")
    if command.gif is not None:
        with working(f"drawing {plural(len(frames), 'picture')}"):
            content = gif(frames, command.delay)
        try:
            write_whole(command.gif, content)
        except OSError as error:
            raise ConfigError(f"--gif {command.gif}: {error.strerror or error}") from error
        print(f"saved to {command.gif}, {plural(len(frames), 'picture')}, {len(content) / 1e6:.1f} MB")
    return 0


def step_line(number: int, step: WatchedStep) -> str:
    """Describes a step in one line: the action, the value before it, the reward, and their sum."""
    action = np.asarray(step.action)
    shown = str(int(action)) if action.ndim == 0 else " ".join(f"{value:+.2f}" for value in action.tolist())
    return f"{number:>5} action {shown:<8} expects {step.value:>+9.2f} reward {step.reward:>+8.2f} return {step.total:>+9.2f}"
