"""`matrixrl hackmatrix play`: the game in a terminal, on the referee.

On a terminal keys are read one by one. Elsewhere, and with ``--actions``, actions are words: names
or indices as in the rules, such as ``up siphon wait 12``, and ``back`` takes a step back. The same
seed, state and action always give the same result, so a step that is taken back and played again
goes the same way.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import numpy as np

from matrixrl.cli import terminal
from matrixrl.cli.progress import complain
from matrixrl.config import ConfigError, require
from matrixrl.envs.hackmatrix.referee import (
    ACTION_NAMES,
    NUM_ACTIONS,
    PROGRAMS,
    Draws,
    GameState,
    RandomDraws,
    StepResult,
    legal_action_mask,
    new_game,
    step,
)
from matrixrl.envs.hackmatrix.referee.game import FIRST_PROGRAM, SIPHON, line_of_fire_target
from matrixrl.envs.hackmatrix.render.reasons import why_illegal
from matrixrl.envs.hackmatrix.render.text import PROGRAM_KEYS, program_cost, render_text
from matrixrl.envs.hackmatrix.scenario import ReplayStep, Scenario, ScenarioError, dump_text, load, run_replay
from matrixrl.user_files import UserFileError, display_path, read_text
from matrixrl.whole_files import write_whole

DEFAULT_SAVE = "hackmatrix.json"
BACK = "back"
MAX_LINE = 100_000

KEYS = {
    "up": 0, "down": 1, "left": 2, "right": 3, "8": 0, "2": 1, "4": 2, "6": 3,
    " ": SIPHON, "5": SIPHON,
    **{key: FIRST_PROGRAM + number for number, key in enumerate(PROGRAM_KEYS)},
}  # fmt: skip
COMMANDS = "U back  S save  L load  N random  ? help  Q quit"


@dataclass(frozen=True, kw_only=True)
class HackmatrixPlayCommand:
    """Play HackMatrix in the terminal (80 columns, 24 lines)."""

    seed: int = 0
    """Seed of the game and of the random agent, from 0."""

    scenario: Path | None = None
    """Scenario file to start from instead of a new game."""

    actions: Path | None = None
    """File of actions to play before stopping (`-` for standard input).
    One name or index per action; `back` undoes one.
    """

    agent: Literal["human", "random", "replay"] = "human"
    """Player. `human` is you.
    `random` plays legal actions until the game ends; `replay` plays those of the --scenario file.
    """

    max_steps: int = 1_000
    """Maximum number of steps of the random agent."""

    boards: bool = False
    """Show the board after each step, not only at the end.
    Applies without a terminal or with --actions.
    """

    reveal: bool = False
    """Show hidden cryptogs, question blocks and the types of transmissions."""

    colour: Literal["auto", "always", "never"] = "auto"
    """Use of colours. `auto` uses them on a terminal unless NO_COLOR is set."""

    save: Path | None = None
    """File to which the last state is written as a scenario."""

    def __post_init__(self) -> None:
        require(self.seed >= 0, f"--seed {self.seed}: must be 0 or more")
        require(self.max_steps >= 1, f"--max-steps {self.max_steps}: must be 1 or more")
        require(
            self.actions is None or self.agent == "human",
            f"--actions and --agent {self.agent} exclude one another: leave one out",
        )
        require(
            self.agent != "replay" or self.scenario is not None,
            "--agent replay: name the file that holds the replay with --scenario",
        )

    @property
    def in_colour(self) -> bool:
        """True if output is coloured."""
        return terminal.in_colour(self.colour)


class PlaySession:
    """A game with its earlier states, so that steps can be undone.

    Attributes:
      state: current state. message: last event.
    """

    def __init__(self, state: GameState, seed: int) -> None:
        self.state = state
        self.seed = seed
        self.message = ""
        self.past: list[GameState] = []

    def play(self, action: int, draws: Draws | None = None) -> StepResult:
        """Plays one action of a game that is not over; an illegal one ends it, as in the rules.

        Args:
          draws: random numbers; by default those of the seed and the step.
        """
        if draws is None:
            draws = RandomDraws(np.random.default_rng([self.seed, self.state.episode.steps]))
        result = step(self.state, action, draws)
        self.past.append(self.state)
        self.state = result.state
        self.message = describe(self.past[-1], action, result)
        return result

    def back(self) -> bool:
        """Undoes the last step, if there is one."""
        if not self.past:
            self.message = "nothing to take back"
            return False
        self.state = self.past.pop()
        self.message = f"back at step {self.state.episode.steps}"
        return True

    def random_action(self) -> int:
        """Returns a random legal action; action 0 if there is none."""
        generator = np.random.default_rng([self.seed, self.state.episode.steps, 1])
        legal = np.flatnonzero(legal_action_mask(self.state))
        return int(generator.choice(legal)) if legal.size else 0

    def go_to(self, state: GameState, message: str) -> None:
        """Continues from another state; the previous one can be restored."""
        self.past.append(self.state)
        self.state = state
        self.message = message


def describe(before: GameState, action: int, result: StepResult) -> str:
    """Describes a step in one line: its action, its reward and the sources of the reward."""
    parts = reward_parts(result)
    if result.invalid:
        parts = f"not possible: {why_illegal(before, action)}"
    line = f"{result.state.episode.steps:>4} {ACTION_NAMES[action]:<9} {result.reward:+9.2f}  {parts}"
    return line.rstrip()


def reward_parts(result: StepResult) -> str:
    """Describes the sources of a step's reward."""
    return ", ".join(f"{key} {value:+.2f}" for key, value in result.breakdown.items() if value != 0)


def outcome_line(state: GameState) -> str:
    """Returns the last line: the state of the game."""
    words = {"won": "won", "died": "died", "invalid_action": "ended by an invalid action", None: "not over"}
    episode = state.episode
    return (
        f"{words[episode.outcome]}: stage {state.stage}, score {state.player.score}, {episode.steps} steps, "
        f"return {episode.return_:.2f}"
    )


# Actions as words ---------------------------------------------------------------------------------


def parse_action(word: str) -> int | None:
    """Returns the index of an action by name or index; None if there is none."""
    name = word.lower()
    if name in ACTION_NAMES:
        return ACTION_NAMES.index(name)
    for number, program in enumerate(PROGRAMS):
        if name == program.display.lower():
            return FIRST_PROGRAM + number
    if name.isascii() and name.isdigit() and len(name) <= 2 and int(name) < NUM_ACTIONS:
        return int(name)
    return None


def words_of(lines: Iterator[str]) -> Iterator[str]:
    """Yields the words of a text; commas are spaces, ``#`` starts a comment."""
    for line in lines:
        yield from line.partition("#")[0].replace(",", " ").split()


def bounded_lines(stream: TextIO) -> Iterator[str]:
    """Yields the lines of a stream as they arrive.

    Raises:
      ConfigError: if a line has more than `MAX_LINE` characters, as in a stream that is not text.
    """
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise ConfigError(f"standard input: a line has more than {MAX_LINE:,} characters; want actions")
        yield line


def run_words(
    session: PlaySession, words: Iterator[str], source: str, command: HackmatrixPlayCommand
) -> None:
    """Plays actions given as words until they or the game end.

    Raises:
      ConfigError: if a word is not an action.
    """
    for number, word in enumerate(words, start=1):
        if word.lower() == BACK:
            session.back()
        else:
            action = parse_action(word)
            if action is None:
                raise ConfigError(
                    f"{source}: word {number} is {word!r}; allowed are {', '.join(ACTION_NAMES)}, 0..27, and {BACK}"
                )
            if session.state.episode.done:
                print(f"{source}: the game was over before word {number}; the rest is not played")
                return
            session.play(action)
        report(session, command)


def play_replay(session: PlaySession, scenario: Scenario, command: HackmatrixPlayCommand) -> list[str]:
    """Plays the actions recorded in a scenario file, and returns the differences from the game it
    expects.

    Raises:
      ConfigError: if it recorded none.
    """

    def play_step(state: GameState, action: int, key: tuple[int, int] | None) -> ReplayStep:
        del state  # the session's
        draws = None
        if key is not None:
            from matrixrl.envs.hackmatrix.keyed_draws import KeyedDraws  # loads JAX

            draws = KeyedDraws(key)
        result = session.play(action, draws)
        report(session, command)
        return ReplayStep(result.state, result.reward, result.done, result.breakdown)

    if scenario.replay is None:
        raise ConfigError(f"--agent replay: {command.scenario} holds no replay; `watch --replay` records one")
    return run_replay(scenario, play_step)[1]


def report(session: PlaySession, command: HackmatrixPlayCommand) -> None:
    """Prints the events, and the board if requested."""
    print(session.message, flush=True)
    if command.boards:
        print(
            render_text(session.state, colour=command.in_colour, legend=False, reveal=command.reveal),
            flush=True,
        )


# The terminal -------------------------------------------------------------------------------------


def screen(session: PlaySession, command: HackmatrixPlayCommand) -> str:
    """Renders 24 lines: the board, the last events, and the available actions."""
    state = session.state
    message = session.message or "programs with a key can be used; ? explains everything"
    if state.episode.done:
        message = f"{outcome_line(state)} - U takes the step back"
    mask = legal_action_mask(state)
    moves = []
    for direction in range(SIPHON):
        if mask[direction]:
            attack = line_of_fire_target(state, direction) is not None
            moves.append(ACTION_NAMES[direction] + ("!" if attack else ""))
    if mask[SIPHON]:
        moves.append("space:siphon")
    board = render_text(state, colour=command.in_colour, reveal=command.reveal)
    choices = "" if state.episode.done else " ".join(moves)
    return f"{board}\n{message[:79]}\n" + f"{choices:<30} {COMMANDS}"[:79]


def help_screen(state: GameState) -> str:
    """Lists all actions with key, name and cost, and whether they are possible now; at most 22
    lines.
    """
    mask = legal_action_mask(state)
    keys = ["arrow", "arrow", "arrow", "arrow", "space", *PROGRAM_KEYS]
    entries, missing = [], []
    for action, name in enumerate(ACTION_NAMES):
        if action >= FIRST_PROGRAM and name not in state.owned_programs:
            missing.append(name)
            continue
        cost = program_cost(name) if action >= FIRST_PROGRAM else ""
        verdict = "yes" if mask[action] else "no"
        entries.append(f"{keys[action]:<5} {name:<9} {cost:<4} {verdict}")
    if len(entries) > 12:  # two columns
        half = (len(entries) + 1) // 2
        right = [*entries[half:], ""]
        entries = [f"{entries[row][:39]:<40}{right[row][:39]}".rstrip() for row in range(half)]
    lines = ["key   action    cost possible now", *entries]
    if missing:
        lines += ["", *_wrapped("not owned: " + ", ".join(missing))]
    lines += [
        "",
        "The key of an action that is not possible says why. up! attacks along the line.",
        "U takes the last step back; played again, it goes the same way.",
        "N plays a random legal action.",
        "S writes the state as a scenario file, L reads one.",
    ]
    return "\n".join(lines)


def _wrapped(text: str, width: int = 79) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def run_terminal(session: PlaySession, command: HackmatrixPlayCommand) -> None:
    """Plays by keys until Q, Ctrl-C or the end of input."""
    with contextlib.suppress(KeyboardInterrupt), terminal.full_screen():
        while True:
            terminal.show(screen(session, command))
            key = terminal.read_key()
            if key in ("Q", ""):
                return
            if key == "?":
                terminal.show(help_screen(session.state) + "\n\nany key continues")
                terminal.read_key()
            elif key == "U":
                session.back()
            elif key in ("S", "L"):
                file_key(session, key)
            elif key == "N" or key in KEYS:
                play_key(session, key)


def play_key(session: PlaySession, key: str) -> None:
    """Plays the action of a key; one that is not legal is explained instead of ending the game."""
    if session.state.episode.done:
        return
    action = session.random_action() if key == "N" else KEYS[key]
    if legal_action_mask(session.state)[action]:
        session.play(action)
    else:
        session.message = f"{ACTION_NAMES[action]} is not possible: {why_illegal(session.state, action)}"


def file_key(session: PlaySession, key: str) -> None:
    """Saves or loads; errors are shown on the screen and play continues."""
    verb = "save to" if key == "S" else "load from"
    name = terminal.read_line(f"{verb} (enter: {DEFAULT_SAVE}, escape: not at all) ")
    if name is None:
        session.message = "nothing saved or loaded"
        return
    path = Path(name or DEFAULT_SAVE).expanduser()
    try:
        if key == "S":
            write_scenario(session.state, path)
            session.message = f"saved to {path}"
        else:
            session.go_to(read_scenario(path).state, f"loaded {path}")
    except ConfigError as error:
        session.message = str(error)


# Files --------------------------------------------------------------------------------------------


def read_scenario(path: Path, flag: str = "") -> Scenario:
    """Reads a scenario file.

    Args:
      path: the file.
      flag: the flag that names it, if one does; an error starts with it.

    Raises:
      ConfigError: if it cannot be read or is faulty.
    """
    try:
        return load(read_text(path))
    except (UserFileError, ScenarioError) as error:
        raise ConfigError(f"{flag} {display_path(path)}: {error}".lstrip()) from None


def write_scenario(state: GameState, path: Path) -> None:
    """Writes a scenario file completely, then renames it into place.

    Raises:
      ConfigError: if it cannot be written.
    """
    try:
        write_whole(path, dump_text(state))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from None


# The command --------------------------------------------------------------------------------------


def run_command(command: HackmatrixPlayCommand) -> int:
    """Plays a game; returns the exit status.

    Raises:
      ConfigError: if a file cannot be read or written, or has other content.
    """
    scenario = None if command.scenario is None else read_scenario(command.scenario, "--scenario")
    start = scenario.state if scenario else new_game(RandomDraws(np.random.default_rng([command.seed])))
    session = PlaySession(start, command.seed)
    differences: list[str] = []
    if command.agent == "replay" and scenario is not None:
        differences = play_replay(session, scenario, command)
    elif command.agent == "random":
        for _ in range(command.max_steps):
            if session.state.episode.done:
                break
            session.play(session.random_action())
            report(session, command)
    elif command.actions is not None and str(command.actions) != "-":
        try:
            text = read_text(command.actions)
        except UserFileError as error:
            raise ConfigError(f"--actions {display_path(command.actions)}: {error}") from None
        run_words(session, words_of(iter(text.splitlines())), f"--actions {command.actions}", command)
    elif command.actions is None and terminal.is_interactive():
        run_terminal(session, command)
    else:
        try:
            run_words(session, words_of(bounded_lines(sys.stdin)), "standard input", command)
        except UnicodeDecodeError:
            raise ConfigError("standard input: cannot be read: it is not UTF-8 text") from None
    print(render_text(session.state, colour=command.in_colour, reveal=command.reveal))
    print(outcome_line(session.state))
    if command.save is not None:
        write_scenario(session.state, command.save)
        print(f"saved to {command.save}")
    for line in differences:
        complain(f"not as recorded: {line}")
    return 1 if differences else 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command on its own, for `python -m matrixrl.cli.hackmatrix_play`."""
    import tyro

    try:
        return run_command(tyro.cli(HackmatrixPlayCommand, args=arguments))
    except ConfigError as error:
        complain(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
