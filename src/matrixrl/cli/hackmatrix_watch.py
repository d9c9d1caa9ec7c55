"""`matrixrl hackmatrix watch RUN`: a trained agent plays, and shows its probabilities.

On a terminal the game is shown as a film, with keys to pause, step and go back.
Elsewhere each step is a line. The game can be saved as an animated GIF and as a replay.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from matrixrl.cli import terminal
from matrixrl.cli.agent_flags import Flag, WatchFlags, check_writable
from matrixrl.cli.hackmatrix_agent import TrainedHackmatrixAgent, check_simulations, load_agent
from matrixrl.cli.hackmatrix_play import describe, outcome_line, read_scenario, reward_parts
from matrixrl.cli.progress import working
from matrixrl.config import ConfigError, require
from matrixrl.envs.hackmatrix.referee import ACTION_NAMES
from matrixrl.envs.hackmatrix.render.text import render_text
from matrixrl.tracking.numbers import plural
from matrixrl.tracking.status import activity
from matrixrl.whole_files import write_whole

if TYPE_CHECKING:
    # `--help` answers without JAX.
    from matrixrl.systems.hackmatrix.game import AgentGame, Position

KEYS = "space pause  right step  left back  + - speed  E end  Q quit"
FASTEST_SECONDS, SLOWEST_SECONDS = 0.02, 5.0


@dataclass(frozen=True, kw_only=True)
class HackmatrixWatchCommand(WatchFlags):
    """Watch a trained agent play (80 columns, 24 lines)."""

    run: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN")]]
    """Name or id of a run, or `latest`; `pretrained` for the agent that is shipped with the
    package; or a file of `export-agent`.
    """

    sampled: Flag = False
    """Sample actions from the policy, as in training. This is the default."""

    num_simulations: int = 0
    """Simulations of the tree search for each action, with the game as the model.
    Shown are then the probabilities and the value after the search. 0: no search.
    """

    game: int = 0
    """Index of the game. `evaluate` plays the same games with the same seed."""

    scenario: Path | None = None
    """Scenario file to start from instead of a new game."""

    delay: float = 0.4
    """Time in seconds for which a position is shown, on a terminal and in a GIF."""

    max_steps: int | None = None
    """Maximum number of steps. Default: --time-limit of the run."""

    replay: Path | None = None
    """File to which the game is saved as a scenario with a replay.
    `play --agent replay --scenario FILE` plays it again.
    """

    boards: bool = False
    """Show the board at each step, not only at the end, if standard output is not a terminal."""

    reveal: bool = False
    """Show hidden cryptogs, question blocks and the types of transmissions.
    The agent does not see them.
    """

    colour: Literal["auto", "always", "never"] = "auto"
    """Use of colours. `auto` uses them on a terminal unless NO_COLOR is set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.game < 2**31, f"--game {self.game}: must be from 0 to 2147483647")
        self.check_times(self.delay, self.max_steps)
        require(
            not (self.greedy and self.sampled), "--greedy and --sampled exclude one another: leave one out"
        )
        check_simulations(self.num_simulations)
        for flag, given in (("--greedy", self.greedy), ("--sampled", self.sampled)):
            require(
                not (given and self.num_simulations),
                f"{flag} and --num-simulations {self.num_simulations} exclude one another: the search chooses the "
                "action; leave one out",
            )
        for flag, path in (("--gif", self.gif), ("--replay", self.replay)):
            if path is not None:
                check_writable(flag, path)

    @property
    def selection(self) -> str:
        """How actions are chosen, in words."""
        if self.num_simulations:
            return f"search with {plural(self.num_simulations, 'simulation')}"
        return "greedy" if self.greedy else "sampled"


def run_command(command: HackmatrixWatchCommand) -> int:
    """Plays, shows and saves. Returns the exit status.

    Raises:
      ConfigError: if there is no such run or no playable checkpoint, or a file cannot be read or
        written.
    """
    start = None
    if command.scenario is not None:
        start = read_scenario(command.scenario, "--scenario").state
        require(
            not start.episode.done,
            f"--scenario {command.scenario}: its game is over ({start.episode.outcome}); name one that is not",
        )
    with working(f"watching {command.run}"):
        with activity("starting JAX"):
            agent = load_agent("watch", command.run, command.runs_dir, command.step, command.best)

            from matrixrl.devices.compilation_cache import use_compilation_cache
            from matrixrl.systems.hackmatrix.game import AgentGame

            use_compilation_cache()
        try:
            searches = command.num_simulations > 0
            with activity("compiling the search" if searches else "compiling the policy"):
                game = AgentGame(
                    agent.policy,
                    seed=command.seed,
                    game=command.game,
                    greedy=command.greedy,
                    reward_scale=agent.config.ppo.reward_scale,
                    start=start,
                    search=agent.search_player(command.num_simulations) if searches else None,
                )
        except ConfigError as error:
            raise ConfigError(f"--scenario {command.scenario}: {error}") from None
    most = command.max_steps or agent.config.time_limit
    title = f"{agent.where}, {command.selection}, seed {command.seed}, game {command.game}"
    if terminal.is_interactive():
        watch_screen(Viewer(game, command, most, title))
        print(title)
    else:
        print(title)
        print_steps(game, command, most)
    end = game.positions[-1].state
    print(render_text(end, colour=terminal.in_colour(command.colour), reveal=command.reveal))
    print(outcome_line(end))
    save(game, command, agent)
    return 0


# Without a terminal -------------------------------------------------------------------------------


def print_steps(game: AgentGame, command: HackmatrixWatchCommand, most: int) -> None:
    """Plays to the end, with a line for each step."""
    print(f"{'step action':<14} {'chance':>6} {'expects':>8} {'reward':>8}  from")
    while not game.over and len(game.positions) <= most:
        before = game.positions[-1]
        if command.boards:
            painted = terminal.in_colour(command.colour)
            print(
                render_text(
                    before.state,
                    colour=painted,
                    legend=False,
                    reveal=command.reveal,
                    thoughts=before.thoughts,
                )
            )
        print(step_line(before, game.play()), flush=True)


def step_line(before: Position, after: Position) -> str:
    """Describes a step in one line: the action, its probability, the value before it, the reward
    and its sources.
    """
    assert after.action is not None
    assert after.result is not None
    chance = before.thoughts.probabilities[after.action]
    line = (
        f"{after.state.episode.steps:>4} {ACTION_NAMES[after.action]:<9} {chance:>6.0%} {before.thoughts.value:>+8.2f} "
        f"{after.result.reward:>+8.2f}  {reward_parts(after.result)}"
    )
    return line.rstrip()


# On a terminal ------------------------------------------------------------------------------------


class Viewer:
    """State of the screen, and its response to keys and time.

    Attributes:
      at: index of the position that is shown.
      paused: time does not move it.
      delay: seconds that a position is shown.
    """

    def __init__(self, game: AgentGame, command: HackmatrixWatchCommand, most: int, title: str) -> None:
        self.game = game
        self._title = title
        self.at = 0
        self.paused = False
        self.delay = command.delay
        self._command = command
        self._most = most

    @property
    def at_end(self) -> bool:
        """True if no position follows the one that is shown."""
        at_last = self.at == len(self.game.positions) - 1
        return at_last and (self.game.over or self.at >= self._most)

    @property
    def wait_seconds(self) -> float | None:
        """Time in seconds to wait for a key before the next position; None waits indefinitely."""
        return None if self.paused or self.at_end else self.delay

    def forward(self) -> None:
        """Shows the next position, and plays it if it is new."""
        if self.at_end:
            return
        if self.at == len(self.game.positions) - 1:
            self.game.play()
        self.at += 1

    def press(self, key: str | None) -> bool:
        """Handles a key, or elapsed time if None; returns False to leave."""
        if key is None:
            self.forward()
        elif key in ("q", "Q", ""):
            return False
        elif key == " ":
            self.paused = not self.paused
        elif key in ("right", "s", "S"):
            self.paused = True
            self.forward()
        elif key in ("left", "b", "B"):
            self.paused = True
            self.at = max(0, self.at - 1)
        elif key in ("+", "="):
            self.delay = max(FASTEST_SECONDS, self.delay / 2)
        elif key == "-":
            self.delay = min(SLOWEST_SECONDS, max(self.delay, FASTEST_SECONDS) * 2)
        elif key in ("e", "E"):
            while not self.at_end:
                self.forward()
        return True

    def screen(self) -> str:
        """Renders 24 lines: the board with the agent's probabilities, the last events, and the
        keys.
        """
        position = self.game.positions[self.at]
        board = render_text(
            position.state,
            colour=terminal.in_colour(self._command.colour),
            reveal=self._command.reveal,
            thoughts=position.thoughts,
        )
        message = self._title
        if position.action is not None and position.result is not None:
            message = describe(self.game.positions[self.at - 1].state, position.action, position.result)
        if self.at_end:
            message = outcome_line(position.state)
        pace = "the end" if self.at_end else "paused" if self.paused else f"{self.delay:.2g} s a step"
        return f"{board}\n{message[:79]}\n" + f"{pace:<16}{KEYS}"[:79]


def watch_screen(viewer: Viewer) -> None:
    """Shows the game until Q, Ctrl-C or the end of input."""
    with contextlib.suppress(KeyboardInterrupt), terminal.full_screen():
        going = True
        while going:
            terminal.show(viewer.screen())
            going = viewer.press(terminal.wait_for_key(viewer.wait_seconds))


# Files --------------------------------------------------------------------------------------------


def save(game: AgentGame, command: HackmatrixWatchCommand, agent: TrainedHackmatrixAgent) -> None:
    """Writes the requested files, and reports them.

    Raises:
      ConfigError: if a file cannot be written.
    """
    if command.replay is not None:
        end = game.positions[-1].state
        meta = {
            "run": agent.name,
            "step": agent.step,
            "policy": command.selection,
            "seed": command.seed,
            "game": command.game,
            "end": outcome_line(end),
        }
        _write(command.replay, game.replay_text(meta))
        print(f"saved to {command.replay}, {len(game.positions) - 1} steps: see it again with "
              f"matrixrl hackmatrix play --agent replay --scenario {command.replay}")  # fmt: skip
    if command.gif is not None:
        from matrixrl.envs.hackmatrix.render.animation import render_gif

        frames = [(position.state, position.thoughts) for position in game.positions]
        with working(f"drawing {plural(len(frames), 'picture')}"):
            content = render_gif(frames, seconds=command.delay, reveal=command.reveal)
        _write(command.gif, content)
        print(f"saved to {command.gif}, {len(frames)} pictures, {len(content) / 1e6:.1f} MB")


def _write(path: Path, content: str | bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None
