"""Context shared by the phases of a run: settings, compiled programs and discovered schemes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from matrixrl.agents.replay import Replay
from matrixrl.agents.selfplay import Games
from matrixrl.config import MatmulConfig
from matrixrl.schemes.scheme import Scheme
from matrixrl.systems.matmul import program as programs
from matrixrl.systems.matmul.discoveries import Discoveries
from matrixrl.systems.matmul.program import MatmulProgram
from matrixrl.systems.matmul.rows import names_by_format
from matrixrl.systems.matmul.search_log import SearchLog
from matrixrl.systems.matmul.solutions import schemes_of
from matrixrl.systems.matmul.state import Progress
from matrixrl.tracking.events import LogMessage
from matrixrl.tracking.recorder import Recorder
from matrixrl.training.loop import TrainingDivergedError


class PhaseContext:
    """Settings, programs and discoveries of a run, with the operations that several phases need.

    Attributes:
      config: the run's settings.
      program: the compiled programs.
      discoveries: the best schemes, one collection for each problem.
      search_log: the search trees of the game in progress, if they are recorded.
      simulations, self_play_seconds: of this epoch's self-play, for the rate on the console. Not
        results.
    """

    def __init__(
        self, config: MatmulConfig, program: MatmulProgram, discoveries: Sequence[Discoveries]
    ) -> None:
        self.config = config
        self.program = program
        self.discoveries = tuple(discoveries)
        assert len(self.discoveries) == len(config.game.problems)
        self.search_log = SearchLog()
        self.simulations = 0
        self.self_play_seconds = 0.0

    @property
    def goal_reached(self) -> bool:
        """True if every format has a scheme of the rank that ends the run."""
        return all(map(self._format_done, self.discoveries))

    def _format_done(self, found: Discoveries) -> bool:
        settings = self.config.selfplay
        wanted = settings.stop_at_rank
        if wanted is not None and found.best is not None and found.best.rank <= wanted:
            return True
        return settings.stop_at_record and found.at_record

    def names(self, stem: str) -> list[str]:
        """Returns the name of a metric for each format."""
        return names_by_format(stem, [problem.name for problem in self.config.game.problems])

    def diverged(self, name: str, value: Any, step: int) -> TrainingDivergedError:
        """Returns the error for a metric or parameter that is NaN or infinite."""
        return TrainingDivergedError(
            f"{name} is {value} at step {step}: training diverged; "
            f"lower --learning-rate (now {self.config.optimizer.learning_rate}) or --max-grad-norm"
        )

    def begin_epoch(self) -> None:
        """Resets the rate of self-play."""
        self.simulations, self.self_play_seconds = 0, 0.0

    def discoveries_of(self, lane: int) -> Discoveries:
        """Returns the discoveries of the format that a lane plays."""
        return self.discoveries[self.program.format_of(lane)]

    def beats_best(self, lane: int, rank: int) -> bool:
        """Returns whether a solution has a lower rank than the best one of its format."""
        best = self.discoveries_of(lane).best
        return best is None or rank < best.rank

    def prove(self, games: Games, ranks: Mapping[int, int]) -> dict[int, Scheme]:
        """Returns the schemes of solved games by lane, each proved.

        Args:
          ranks: number of actions by lane, of the solved games.

        Raises:
          RuntimeError: if one is wrong, which is a defect of this program.
        """
        if not ranks:
            return {}
        schemes = schemes_of(self.program, self.program.gather_to_host(games), ranks)
        for lane, scheme in schemes.items():
            self.discoveries_of(lane).check(scheme)
        return schemes

    def offer(
        self, scheme: Scheme, discoveries: Discoveries, found: dict[str, Any], where: str, run: Recorder
    ) -> None:
        """Offers a proved scheme, and announces it if it is the best so far.

        Args:
          found: episode, epoch or step, for the provenance.
          where: the same in words.
        """
        began = time.perf_counter()
        written = discoveries.offer(scheme, found)
        for path in written:
            run.record_file(path, kind="artifact", aliases=("best",), seconds=time.perf_counter() - began)
        if written:
            best, verdict = discoveries.best, discoveries.verdict
            assert best is not None
            assert verdict is not None
            over = "the integers" if best.ring == "Z" else "F2 (it does not lift to the integers)"
            # Record it at its step, so that a resumed run that finds it again does not announce it
            # twice.
            text = f"{where}: {verdict.message}; verified over {over}"
            run.record([LogMessage(run.clock.now(), text)])

    def save_solutions(self) -> None:
        """Writes the solutions of the lowest rank of each format."""
        for discoveries in self.discoveries:
            discoveries.save_solutions()

    def note_ranks(self, progress: Progress) -> Progress:
        """Returns the progress with the lowest ranks so far, and the step limits that follow from
        them.
        """
        best_ranks = tuple(None if found.best is None else found.best.rank for found in self.discoveries)
        progress = dataclasses.replace(progress, best_ranks=best_ranks)
        if self.config.game.tighten_step_limit:
            limits = tuple(
                limit if best is None else max(1, min(limit, best - 1))
                for limit, best in zip(progress.step_limits, best_ranks, strict=True)
            )
            progress = dataclasses.replace(progress, step_limits=limits)
        return progress

    def keep(self, buffer: Replay, games: Games) -> Replay:
        """Returns the replay buffer with a finished batch of games in it."""
        with self.program.first_calls.call(programs.KEEP):
            return self.program.keep(buffer, games)

    def show_progress(self, progress: Progress, title: str, length: int, unit: str, run: Recorder) -> None:
        """Shows how far a phase of the epoch is, with the lowest ranks so far."""
        ranks = [str(rank) for rank in progress.best_ranks if rank is not None]
        best = f"best rank {', '.join(ranks)}" if ranks else ""
        run.progress(f"epoch {progress.epoch:,} {title}", progress.done, length, unit, best)
