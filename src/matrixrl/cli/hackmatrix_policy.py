"""A trained agent as a process that answers questions, for the dashboard: JAX runs here, not in the
server.

Started as `python -m matrixrl.cli.hackmatrix_policy RUN`. Each line of standard input is a JSON
object with `op`, and is answered by one line:

- `think` with `scenario`: probabilities, value and choice of the agent in that state.
- `game` with `seed`, `game`, `greedy` and `max_steps`, and `scenario` or null: a whole game, as a
  scenario with a replay, and the agent's thoughts in each position.

The first line answers no question: it says which agent plays, or why none does. The process ends
with its standard input, so it never outlives the server, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from matrixrl.cli.hackmatrix_agent import TrainedHackmatrixAgent, load_agent
from matrixrl.config import ConfigError, require
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts
from matrixrl.envs.hackmatrix.scenario import ScenarioError, load

if TYPE_CHECKING:
    from matrixrl.envs.hackmatrix.referee import GameState
    from matrixrl.systems.hackmatrix.game import AgentGame


def main(arguments: list[str]) -> int:
    """Answers until standard input ends; returns the exit status."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever a library prints is no answer
    questions = questions_of(sys.stdin)
    folder = Path(arguments[0])
    try:
        agent = load_agent("dashboard", folder.name, folder.parent, None, False)
    except ConfigError as error:
        reply(answers, {"error": str(error)})
        return 2
    from matrixrl.devices.compilation_cache import use_compilation_cache

    use_compilation_cache()
    reply(answers, {"agent": agent.where, "step": agent.step})
    while True:
        question = questions.get()
        try:
            reply(answers, answer(agent, question))
        except (ConfigError, ScenarioError) as error:
            reply(answers, {"error": str(error)})


def questions_of(stream: TextIO) -> queue.Queue[dict[str, Any]]:
    """Returns the questions of a stream as they arrive; a thread reads them, and ends the process
    with the stream.
    """
    questions: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        for line in stream:
            questions.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, name="questions", daemon=True).start()
    return questions


def reply(stream: TextIO, value: dict[str, Any]) -> None:
    """Writes one line."""
    stream.write(json.dumps(value) + "\n")
    stream.flush()


def answer(agent: TrainedHackmatrixAgent, question: dict[str, Any]) -> dict[str, Any]:
    """Answers a question.

    Raises:
      ConfigError: if the agent cannot play from the scenario.
      ScenarioError: if it is no scenario.
    """
    text = question.get("scenario")
    start = None if text is None else load(text).state
    require(start is None or not start.episode.done, "the game of the scenario is over")
    if question.get("op") == "think":
        return {"thoughts": thoughts_record(_game(agent, start, greedy=True).positions[0].thoughts)}
    game = _game(
        agent, start, int(question.get("seed", 0)), int(question.get("game", 0)), bool(question.get("greedy"))
    )
    most = min(int(question.get("max_steps", 1_000)), agent.config.time_limit)
    while not game.over and len(game.positions) <= most:
        game.play()
    meta = {
        "run": agent.name,
        "step": agent.step,
        "policy": "greedy" if question.get("greedy") else "sampled",
        "seed": question.get("seed", 0),
        "game": question.get("game", 0),
    }
    thoughts = [thoughts_record(position.thoughts) for position in game.positions]
    return {"replay": game.replay_text(meta), "thoughts": thoughts}


def _game(
    agent: TrainedHackmatrixAgent, start: GameState | None, seed: int = 0, game: int = 0, greedy: bool = False
) -> AgentGame:
    from matrixrl.systems.hackmatrix.game import AgentGame

    scale = agent.config.ppo.reward_scale
    return AgentGame(agent.policy, seed=seed, game=game, greedy=greedy, reward_scale=scale, start=start)


def thoughts_record(thoughts: Thoughts) -> dict[str, Any] | None:
    """Returns thoughts as plain values; None if the game is over."""
    if thoughts.value is None:
        return None
    return {
        "probabilities": [round(probability, 5) for probability in thoughts.probabilities],
        "value": thoughts.value,
        "chosen": thoughts.chosen,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
