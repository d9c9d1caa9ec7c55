"""Interface of a phase of training, and order of phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from jaxtyping import PRNGKeyArray

from matrixrl.config import MatmulConfig
from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.state import MatmulState, Progress
from matrixrl.tracking.recorder import Recorder

Result = TypeVar("Result")


@dataclass(frozen=True)
class Chunk(Generic[Result]):
    """A chunk of a phase on its way from the device to the journal.

    Attributes:
      phase: name of its phase; the state may already be in the next one.
      result: what `advance` of the phase returned.
    """

    phase: str
    result: Result


class Phase(ABC, Generic[Result]):
    """A phase: pretraining before the first epoch, or a part of each epoch.

    A phase has its own file and an entry in `phases.PHASES`; nothing else names it. It has no
    state: `MatmulState` holds everything that a run continues from.

    Attributes:
      name: recorded in checkpoints.
      title: name for people.
      unit: what its length counts, in the plural.
    """

    name: str
    title: str
    unit: str

    @abstractmethod
    def length(self, config: MatmulConfig) -> int:
        """Returns the number of units of the phase; 0 skips it."""

    def is_due(self, config: MatmulConfig, progress: Progress, goal_reached: bool) -> bool:
        """Returns whether the phase takes place in this epoch, once the phases before it are
        over.
        """
        return self.length(config) > 0

    def start(self, progress: Progress) -> Progress:
        """Returns the progress at the beginning of the phase."""
        return progress

    @abstractmethod
    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, Result]:
        """Starts the next chunk on the device."""

    @abstractmethod
    def record(
        self, context: PhaseContext, state: MatmulState, result: Result, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Fetches a chunk's result and commits it.

        Returns:
          The state, and whether the phase is over with this chunk.
        """

    def needs_record(self, config: MatmulConfig, progress: Progress) -> bool:
        """Returns whether the next chunk depends on what recording the last one found."""
        return True


class HostPhase(Phase[int]):
    """A phase whose work is done on the host while a chunk is recorded: a search without a device,
    for example.
    """

    def advance(
        self, context: PhaseContext, state: MatmulState, key: PRNGKeyArray
    ) -> tuple[MatmulState, int]:
        """Starts nothing on the device; the number of the chunk seeds the work."""
        return state, state.progress.chunk

    def record(
        self, context: PhaseContext, state: MatmulState, result: int, run: Recorder
    ) -> tuple[MatmulState, bool]:
        """Does the work of a chunk."""
        state = self.work(context, state, result, run)
        return state, state.progress.done >= self.length(context.config)

    @abstractmethod
    def work(self, context: PhaseContext, state: MatmulState, seed: int, run: Recorder) -> MatmulState:
        """Works, records, and returns the state with `progress.done` advanced.

        Args:
          seed: differs for each chunk of a run; with the run's own seed it determines every random
            draw.
        """
