"""One game of an agent, step by step on the referee, with what the agent thinks at each step.

Chance is that of `hackmatrix_evaluate`: game 7 of a seed is here what it was among the games that
were measured. Because each step's random numbers derive from a key, a game is recorded as actions
and keys, and plays again on either engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from matrixrl.agents import masked
from matrixrl.envs.hackmatrix.convert import from_game_state
from matrixrl.envs.hackmatrix.env import HackMatrix
from matrixrl.envs.hackmatrix.keyed_draws import KeyedDraws
from matrixrl.envs.hackmatrix.referee import GameState, StepResult, legal_action_mask, new_game, step
from matrixrl.envs.hackmatrix.render.thoughts import Thoughts
from matrixrl.envs.hackmatrix.scenario import ScenarioReplay, dump_text
from matrixrl.envs.hackmatrix.state import State
from matrixrl.systems.hackmatrix.evaluation import NetworkPolicy, choose, game_key, start_key, step_keys
from matrixrl.systems.hackmatrix.search import SearchPlayer

Key = tuple[int, int]

_ENV = HackMatrix(packed=True)


@dataclass(frozen=True)
class Position:
    """A position of a game.

    Attributes:
      state: the game.
      thoughts: output of the agent; None if the game is over.
      key: of the next step's random numbers.
      action, result: how the position was reached; None at the start.
    """

    state: GameState
    thoughts: Thoughts
    key: Key
    action: int | None = None
    result: StepResult | None = None


class AgentGame:
    """A game and all its positions so far.

    Args:
      policy: the network.
      seed, game: which game; see `hackmatrix_evaluate.evaluate`.
      greedy: selects the most probable action instead of sampling one.
      reward_scale: reward scale of training; values are shown in unscaled rewards.
      start: position to start from instead of a new game. Steps are counted from here.
      search: chooses the actions instead of the policy; `thoughts` are then its results.

    Attributes:
      positions: the first is the start.

    Raises:
      ConfigError: if the start has a number that does not fit the arrays; the message names its
        field.
    """

    def __init__(
        self,
        policy: NetworkPolicy,
        *,
        seed: int,
        game: int = 0,
        greedy: bool = False,
        reward_scale: float = 1.0,
        start: GameState | None = None,
        search: SearchPlayer | None = None,
    ) -> None:
        self._policy = policy
        self._search = search
        self._greedy = jnp.bool_(greedy)
        self._reward_scale = reward_scale
        self._key = game_key(jax.random.key(seed), game)
        if start is None:
            start = new_game(KeyedDraws(_words(start_key(self._key))).reset())
        self.positions = [self._position(start, 1)]

    @property
    def over(self) -> bool:
        """True if the game has ended."""
        return self.positions[-1].state.episode.done

    def play(self) -> Position:
        """Plays the action that the agent selected, in a game that is not over; returns the next
        position.
        """
        last = self.positions[-1]
        assert last.thoughts.chosen is not None
        result = step(last.state, last.thoughts.chosen, KeyedDraws(last.key))
        reached = self._position(result.state, len(self.positions) + 1, last.thoughts.chosen, result)
        self.positions.append(reached)
        return reached

    def replay_text(self, meta: Mapping[str, Any]) -> str:
        """Returns the game so far as a scenario with a replay, which expects each step's reward and
        end.

        Args:
          meta: free text for the scenario, such as the name of the run.
        """
        played = [position for position in self.positions if position.result is not None]
        replay = ScenarioReplay(
            actions=tuple(position.action for position in played if position.action is not None),
            keys=tuple(position.key for position in self.positions[: len(played)]),
            expect=tuple(
                {"reward": position.result.reward, "done": position.result.done}
                for position in played
                if position.result is not None
            ),
        )
        return dump_text(self.positions[0].state, meta=meta, replay=replay)

    def _position(
        self, state: GameState, number: int, action: int | None = None, result: StepResult | None = None
    ) -> Position:
        """Builds a position with the agent's output for it; `number` is that of the next step."""
        if state.episode.done:
            return Position(state, Thoughts(), (0, 0), action, result)
        probabilities, value, chosen, key_env = jax.device_get(
            _think(
                self._policy if self._search is None else self._search,
                from_game_state(state),
                legal_action_mask(state),
                self._key,
                jnp.int32(number),
                self._greedy,
            )
        )
        thoughts = Thoughts(
            tuple(float(probability) for probability in probabilities),
            float(value) / self._reward_scale,
            int(chosen),
        )
        return Position(state, thoughts, (int(key_env[0]), int(key_env[1])), action, result)


def _words(key: Array) -> Key:
    first, second = np.asarray(jax.random.key_data(key))
    return int(first), int(second)


@jax.jit
def _think(
    policy: NetworkPolicy | SearchPlayer,
    state: State,
    legal: Array,
    key: Array,
    number: Array,
    greedy: Array,
) -> tuple[Array, Array, Array, Array]:
    """Computes probabilities [28], value, the selected action, and the words of the step's key."""
    if isinstance(policy, SearchPlayer):
        key_choice, key_env = step_keys(key, number)
        found = policy(key_choice[None], jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], state))
        return found.weights[0], found.value[0], found.action[0], jax.random.key_data(key_env)
    logits, value = policy.network.apply(policy.params, _ENV.observation(state)[None])
    log_probs = masked.masked_log_softmax(logits[0], legal)
    key_choice, key_env = step_keys(key, number)
    chosen = choose(key_choice, log_probs, greedy)
    return jnp.exp(log_probs), value[0], chosen, jax.random.key_data(key_env)
