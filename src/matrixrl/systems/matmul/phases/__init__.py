"""The phases of matmul training, and their order: pretraining, then epochs.

To add a phase, write it in its own file and add it to `EPOCH` at its position.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from matrixrl.systems.matmul.context import PhaseContext
from matrixrl.systems.matmul.phases.evaluation import Evaluation
from matrixrl.systems.matmul.phases.flip_graphs import FlipGraphs
from matrixrl.systems.matmul.phases.learning import Learning
from matrixrl.systems.matmul.phases.phase import Chunk, HostPhase, Phase
from matrixrl.systems.matmul.phases.pretraining import Pretraining
from matrixrl.systems.matmul.phases.refinement import Refinement
from matrixrl.systems.matmul.phases.self_play import SelfPlay
from matrixrl.systems.matmul.state import DONE, LossSums, Progress

PRELUDE: tuple[Phase[Any], ...] = (Pretraining(),)
"""Phases before the first epoch."""

EPOCH: tuple[Phase[Any], ...] = (
    SelfPlay(),
    Refinement(),
    FlipGraphs(),
    Learning(),
    Evaluation(),
)
"""Phases of each epoch, in their order."""


def phase_named(name: str) -> Phase[Any]:
    """Returns a phase by its recorded name."""
    return next(phase for phase in (*PRELUDE, *EPOCH) if phase.name == name)


def first_phase(context: PhaseContext, progress: Progress) -> Progress:
    """Returns the progress of a fresh run at its first phase."""
    return _first_due(context, progress, PRELUDE)


def next_phase(context: PhaseContext, progress: Progress) -> Progress:
    """Returns the progress at the beginning of the phase that follows."""
    for order in (PRELUDE, EPOCH):
        names = [phase.name for phase in order]
        if progress.phase in names:
            return _first_due(context, progress, order[names.index(progress.phase) + 1 :])
    return next_epoch(context, progress)


def next_epoch(context: PhaseContext, progress: Progress) -> Progress:
    """Returns the progress at the beginning of the next epoch, or `DONE` when none is left or the
    goal is reached.
    """
    if progress.epoch >= context.config.selfplay.num_epochs or context.goal_reached:
        return dataclasses.replace(_entered(progress), phase=DONE)
    context.begin_epoch()
    progress = dataclasses.replace(progress, epoch=progress.epoch + 1, solved=0, loss_sums=LossSums())
    return _first_due(context, progress, EPOCH)


def _first_due(context: PhaseContext, progress: Progress, order: tuple[Phase[Any], ...]) -> Progress:
    """Returns the progress at the first phase that is due; at the next epoch where none is."""
    for phase in order:
        if phase.is_due(context.config, progress, context.goal_reached):
            return phase.start(dataclasses.replace(_entered(progress), phase=phase.name))
    return next_epoch(context, progress)


def _entered(progress: Progress) -> Progress:
    """Returns the progress with the counters of a phase reset."""
    return dataclasses.replace(progress, done=0, playing=0, evaluated=())


__all__ = [
    "EPOCH",
    "PRELUDE",
    "Chunk",
    "HostPhase",
    "Phase",
    "first_phase",
    "next_epoch",
    "next_phase",
    "phase_named",
]
