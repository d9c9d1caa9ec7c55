"""Training on a matrix-multiplication tensor: demonstrations, then epochs of self-play, learning and evaluation.

A run is a sequence of chunks: some weight updates, or one move of a batch of games. Between two chunks everything it
continues from is `MatmulState`: arrays on the device, and the plain counters of `Progress`. Keys are derived from the
seed and the number of the chunk, so no random state has to be kept.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from matrixrl.agents.alphazero import LossMetrics
from matrixrl.agents.replay import Replay
from matrixrl.agents.rewriting import Rewritten
from matrixrl.agents.selfplay import Games, Move
from matrixrl.checkpoints import format as checkpoint_format
from matrixrl.checkpoints.format import Checkpoint, Snapshot
from matrixrl.config import MatmulConfig
from matrixrl.schemes.scheme import Format, Scheme, render_json
from matrixrl.tracking.events import EpisodeRow, Event, MoveRow, Note, ScalarRow, TableMark
from matrixrl.tracking.run import Run
from matrixrl.training import matmul_program
from matrixrl.training.discoveries import Discoveries, to_standard_basis
from matrixrl.training.first_calls import several_cores
from matrixrl.training.loop import TrainingDivergedError
from matrixrl.training.matmul_program import DeviceState, MatmulProgram

Phase = Literal["pretrain", "self-play", "rewrite", "train", "evaluate", "done"]

# Rounds of rewriting in one chunk: a second or a few.
REWRITING_CHUNK = 16


@dataclass(frozen=True)
class Progress:
    """Where a run stands: plain numbers, so that a checkpoint of it is readable.

    Attributes:
      phase: what the next chunk belongs to.
      chunk: chunks started so far; the next chunk's key is derived from it.
      done: weight updates, games or rounds of rewriting finished in this phase.
      epoch: the epoch that is under way; 0 while pre-training.
      updates: weight updates so far.
      episodes: games finished so far, of self-play and evaluation: the last global episode number given out.
      playing: games of the batch on the board; 0 when the next chunk has to start one.
      step_limits: moves that the next games get, of each format.
      solved: self-play games solved in this epoch.
      loss_sums: sums over this epoch's weight updates of loss, policy loss, value loss and gradient norm.
      best_ranks: of the schemes found so far, of each format.
      success_rate: self-play games solved in the last finished epoch, as a share.
      evaluated: of the evaluation under way, over its finished batches of games, for each format: cost, residual and
        moves of the best game, how many were solved and how many were played; empty before the first.
    """

    phase: Phase = "pretrain"
    chunk: int = 0
    done: int = 0
    epoch: int = 0
    updates: int = 0
    episodes: int = 0
    playing: int = 0
    step_limits: tuple[int, ...] = ()
    solved: int = 0
    loss_sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    best_ranks: tuple[int | None, ...] = ()
    success_rate: float = 0.0
    evaluated: tuple[float, ...] = ()


def progress_of(record: Mapping[str, Any]) -> Progress:
    """The progress that a checkpoint holds as JSON values, where every tuple has become a list."""
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in record.items()
    }
    return Progress(**fields)


class MatmulState(NamedTuple):
    """Everything that a run continues from."""

    device: DeviceState
    progress: Progress


@dataclass(frozen=True)
class Updates:
    """A chunk of weight updates: how many, their metrics, and whether they end their phase.

    The chunk after may have been started before this one is recorded, so the state does not tell.
    """

    count: int
    metrics: LossMetrics
    ends_phase: bool


@dataclass(frozen=True)
class Played:
    """One move of a batch: what happened, and the games as they are now."""

    move: Move
    games: Games


@dataclass(frozen=True)
class Rewriting:
    """A chunk of rounds in which own solutions were written anew, and the solutions and their lengths as they are now."""

    rounds: int
    outcome: Rewritten
    games: Games
    num_moves: jax.Array


Outcome = Updates | Played | Rewriting


class MatmulTrainer:
    """A system for `training.loop.run_loop`.

    Args:
      config: the run's settings.
      discoveries: keep the best schemes, one for each format.
      program: the compiled programs of the config, where several runs share them.
    """

    def __init__(
        self, config: MatmulConfig, discoveries: Sequence[Discoveries], program: MatmulProgram | None = None
    ) -> None:
        self.config = config
        self.program = program or MatmulProgram(config)
        self.discoveries = tuple(discoveries)
        assert len(self.discoveries) == len(config.game.formats)
        self._key = jax.random.key(config.seed)
        # Simulations and seconds of this epoch's self-play, for the rate on the console: a watch, not a result.
        self._simulations = 0
        self._self_play_seconds = 0.0
        self._move_began = 0.0
        self._compiles_ahead = False

    def init(self) -> MatmulState:
        """The state of a fresh run."""
        if several_cores():
            self._compile_ahead()
        with self.program.first_calls.call(matmul_program.INIT):
            device = self.program.init(jax.random.fold_in(self._key, 0))
        game = self.config.game
        progress = Progress(
            step_limits=tuple(map(game.moves_of, game.formats)), best_ranks=(None,) * len(game.formats)
        )
        return MatmulState(device, self._skip_empty_phases(progress))

    def snapshot(self, state: MatmulState, step: int) -> Snapshot:
        """Host copies of everything that the run continues from.

        Raises:
          TrainingDivergedError: a parameter is NaN or infinite.
        """
        arrays = checkpoint_format.flatten(state.device)
        for name, array in arrays.items():
            if name.startswith("params/") and not np.isfinite(array).all():
                raise TrainingDivergedError(
                    f"{name} is not finite at step {step}: training diverged; "
                    f"lower --learning-rate (now {self.config.optimizer.learning_rate}) or --max-grad-norm"
                )
        progress = state.progress
        # A lower rank is better; among states of one best rank, more games solved.
        game = self.config.game
        ranks = sum(
            game.moves_of(size) + 1 if rank is None else rank
            for size, rank in zip(game.formats, progress.best_ranks, strict=True)
        )
        texts: dict[str, str] = {}
        for found in self.discoveries:
            if found.best is not None:
                texts[found.scheme_file] = render_json(found.best.to_record())
                solutions = [solution.to_record() for solution in found.solutions]
                texts[found.solutions_file] = json.dumps(solutions)
        return Snapshot(
            step,
            arrays,
            {
                **checkpoint_format.plain(progress),
                "num_verified": [found.num_verified for found in self.discoveries],
            },
            texts,
            score=progress.success_rate - ranks,
        )

    def resume(self, checkpoint: Checkpoint | None) -> MatmulState:
        """The state that a checkpoint saved, and the best scheme that belongs to it.

        A run that was over goes on if the settings allow more by now. Without a checkpoint a run that was started
        before goes on from its beginning.

        Raises:
          ConfigError: the checkpoint belongs to other settings.
        """
        if checkpoint is None:
            for found in self.discoveries:
                found.resume(None, 0)
            return self.init()
        saved = dict(checkpoint.progress)
        for found, num_verified in zip(self.discoveries, saved.pop("num_verified"), strict=True):
            text = checkpoint.text(found.scheme_file)
            best = None if text is None else Scheme.from_record(json.loads(text))
            solutions = json.loads(checkpoint.text(found.solutions_file) or "[]")
            found.resume(best, num_verified, map(Scheme.from_record, solutions))
        progress = progress_of(saved)
        if progress.phase == "done":
            progress = self._next_phase(dataclasses.replace(progress, phase="evaluate"))
        return MatmulState(checkpoint.restore(self.program.template), progress)

    def finished(self, state: MatmulState) -> bool:
        """No epoch is left, or the wanted rank is reached."""
        return state.progress.phase == "done"

    def needs_record(self, state: MatmulState) -> bool:
        """What games told (solved, over) decides what comes next; weight updates only at the end of their phase."""
        progress = state.progress
        return progress.phase != "pretrain" and (
            progress.phase != "train" or progress.done == self._phase_length("train")
        )

    # ---- starting a chunk ----

    def advance(self, state: MatmulState) -> tuple[MatmulState, Outcome]:
        """Start the next chunk."""
        if several_cores() or state.progress.updates:
            self._compile_ahead()
        key = jax.random.fold_in(self._key, state.progress.chunk + 1)
        if state.progress.phase == "rewrite":
            return self._advance_rewriting(state, key)
        if state.progress.phase in ("pretrain", "train"):
            return self._advance_updates(state, key)
        return self._advance_games(state, key)

    def _advance_updates(self, state: MatmulState, key: jax.Array) -> tuple[MatmulState, Updates]:
        device, progress = state
        training = progress.phase == "train"
        total = self._phase_length(progress.phase)
        count = min(self.config.tracking.log_interval, total - progress.done)
        with self.program.first_calls.call(matmul_program.LEARN):
            params, opt_state, metrics = self.program.learn(
                device.params,
                device.opt_state,
                device.replay,
                key,
                jnp.int32(count),
                jnp.bool_(training),
                jnp.int32(progress.updates),
            )
        device = device._replace(params=params, opt_state=opt_state)
        progress = dataclasses.replace(
            progress, chunk=progress.chunk + 1, done=progress.done + count, updates=progress.updates + count
        )
        ends_phase = progress.done == total
        if progress.phase == "pretrain" and ends_phase:
            progress = self._next_phase(progress)
        return MatmulState(device, progress), Updates(count, metrics, ends_phase)

    def _advance_games(self, state: MatmulState, key: jax.Array) -> tuple[MatmulState, Played]:
        device, progress = state
        evaluating = progress.phase == "evaluate"
        key_start, key_move = jax.random.split(key)
        games = device.games
        if progress.playing == 0:
            left = self._phase_length(progress.phase) - progress.done
            playing = min(left, self.config.selfplay.batch_of_games)
            fraction = 0.0 if evaluating else self.config.selfplay.random_basis_fraction
            how = (jnp.array(progress.step_limits, jnp.int32), jnp.int32(playing), jnp.float32(fraction))
            if not evaluating and self._starts_in_the_middle(progress):
                with self.program.first_calls.call(matmul_program.PARTIAL_START):
                    games = self.program.start_leftovers(key_start, device.replay, *how)
            else:
                with self.program.first_calls.call(matmul_program.START):
                    games = self.program.start_games(key_start, *how)
            progress = dataclasses.replace(progress, playing=playing)
        exploration = 0.0 if evaluating else self.config.search.exploration
        first_call = self.program.first_calls.is_first(matmul_program.SELF_PLAY)
        began = time.perf_counter()
        with self.program.first_calls.call(matmul_program.SELF_PLAY):
            games, move = self.program.play_move(device.params, games, key_move, jnp.float32(exploration))
        # The first call returns once it is compiled: the rate is that of the games.
        self._move_began = time.perf_counter() if first_call else began
        progress = dataclasses.replace(progress, chunk=progress.chunk + 1)
        return MatmulState(device._replace(games=games), progress), Played(move, games)

    def _advance_rewriting(self, state: MatmulState, key: jax.Array) -> tuple[MatmulState, Rewriting]:
        device, progress = state
        key_start, key_rounds = jax.random.split(key)
        games = device.games
        if progress.playing == 0:
            with self.program.first_calls.call(matmul_program.START_REFINEMENT):
                games = self.program.start_rewriting(key_start, device.replay)
            progress = dataclasses.replace(progress, playing=self.config.selfplay.batch_of_games)
        rounds = min(REWRITING_CHUNK, self._phase_length("rewrite") - progress.done)
        with self.program.first_calls.call(matmul_program.REFINEMENT):
            games, outcome, num_moves = self.program.rewrite(
                device.params, games, key_rounds, jnp.int32(rounds)
            )
        progress = dataclasses.replace(progress, chunk=progress.chunk + 1, done=progress.done + rounds)
        return MatmulState(device._replace(games=games), progress), Rewriting(
            rounds, outcome, games, num_moves
        )

    def _kept(self, buffer: Replay, games: Games) -> Replay:
        """Returns the replay buffer with a finished batch of games in it."""
        with self.program.first_calls.call(matmul_program.KEEP):
            return self.program.keep(buffer, games)

    def _compile_ahead(self) -> None:
        """Has the programs of self-play compiled beside pretraining, once."""
        if not self._compiles_ahead:
            self._compiles_ahead = True
            self.program.compile_ahead()

    def _show_progress(self, progress: Progress, phase: Phase, unit: str, run: Run) -> None:
        """Shows how far a phase of the epoch is, with the lowest ranks so far."""
        names = {
            "self-play": "self-play",
            "rewrite": "refinement",
            "train": "learning",
            "evaluate": "evaluation",
        }
        ranks = [str(rank) for rank in progress.best_ranks if rank is not None]
        best = f"best rank {', '.join(ranks)}" if ranks else ""
        name = f"epoch {progress.epoch:,} {names[phase]}"
        run.progress(name, progress.done, self._phase_length(phase), unit, best)

    def _starts_in_the_middle(self, progress: Progress) -> bool:
        """Whether the next batch takes own solutions up again: a fixed share of all batches, evenly spread."""
        share = self.config.selfplay.leftover_fraction
        batches = -(-self.config.selfplay.episodes_per_epoch // self.config.selfplay.batch_of_games)
        number = (progress.epoch - 1) * batches + progress.done // self.config.selfplay.batch_of_games
        return math.floor((number + 1) * share) > math.floor(number * share)

    def _phase_length(self, phase: Phase) -> int:
        settings = self.config.selfplay
        return {
            "pretrain": self.config.demonstration.pretraining_steps,
            "self-play": settings.episodes_per_epoch,
            "rewrite": settings.rewriting_rounds,
            "train": settings.updates_per_epoch,
            "evaluate": settings.evaluation_games,
            "done": 0,
        }[phase]

    # ---- what comes after what ----

    def _next_phase(self, progress: Progress) -> Progress:
        settings = self.config.selfplay
        order: dict[Phase, Phase] = {"pretrain": "self-play", "rewrite": "train", "evaluate": "self-play"}
        phase = order.get(progress.phase)
        if progress.phase == "self-play":
            solved = any(rank is not None for rank in progress.best_ranks)
            wanted = settings.rewriting_rounds and solved and not self._good_enough()
            phase = "rewrite" if wanted else "train"
        if progress.phase == "train":
            due = settings.evaluation_interval and progress.epoch % settings.evaluation_interval == 0
            phase = "evaluate" if due else "self-play"
        assert phase is not None
        progress = dataclasses.replace(progress, phase=phase, done=0, playing=0, evaluated=())
        if phase == "self-play":
            if progress.epoch >= settings.num_epochs or self._good_enough():
                return dataclasses.replace(progress, phase="done")
            self._simulations, self._self_play_seconds = 0, 0.0
            return dataclasses.replace(
                progress, epoch=progress.epoch + 1, solved=0, loss_sums=(0.0, 0.0, 0.0, 0.0)
            )
        return progress

    def _skip_empty_phases(self, progress: Progress) -> Progress:
        if progress.phase == "pretrain" and self.config.demonstration.pretraining_steps == 0:
            return self._next_phase(progress)
        return progress

    def _good_enough(self) -> bool:
        return all(map(self._format_good_enough, self.discoveries))

    def _format_good_enough(self, found: Discoveries) -> bool:
        settings = self.config.selfplay
        if (
            settings.stop_at_rank is not None
            and found.best is not None
            and found.best.rank <= settings.stop_at_rank
        ):
            return True
        return settings.stop_at_record and found.at_record

    # ---- recording a chunk ----

    def record(self, state: MatmulState, outcome: Outcome, run: Run) -> MatmulState:
        """Fetch, stamp and commit what a chunk gave."""
        if isinstance(outcome, Rewriting):
            return self._record_rewriting(state, outcome, run)
        if isinstance(outcome, Updates):
            return self._record_updates(state, outcome, run)
        return self._record_move(state, outcome, run)

    def _record_updates(self, state: MatmulState, outcome: Updates, run: Run) -> MatmulState:
        values = np.stack([np.asarray(values)[: outcome.count] for values in outcome.metrics])
        ticks = run.clock.advance(outcome.count)
        bad = ~np.isfinite(values)
        if bad.any():
            which, at = np.argwhere(bad)[0]
            raise TrainingDivergedError(
                f"{LossMetrics._fields[which]} is {values[which, at]} at step {ticks[int(at)].step}: training diverged; "
                f"lower --learning-rate (now {self.config.optimizer.learning_rate}) or --max-grad-norm"
            )
        progress = state.progress
        if ticks[0].step <= self.config.demonstration.pretraining_steps:
            run.record(
                ScalarRow(
                    tick,
                    {
                        "pretrain/loss": float(loss),
                        "pretrain/policy_loss": float(policy_loss),
                        "pretrain/value_loss": float(value_loss),
                    },
                )
                for tick, (loss, policy_loss, value_loss, _) in zip(ticks, values.T, strict=True)
            )
            run.progress(
                "pretraining", ticks[-1].step, self.config.demonstration.pretraining_steps, "updates"
            )
            return state
        sums = tuple(
            total + float(row.astype(np.float64).sum())
            for total, row in zip(progress.loss_sums, values, strict=True)
        )
        progress = dataclasses.replace(progress, loss_sums=sums)
        self._show_progress(progress, "train", "updates", run)
        # The state may be one chunk ahead of what is recorded, so the chunk itself knows that it is the last one.
        if outcome.ends_phase:
            # The epoch's row stands at the tick of its last weight update.
            run.record(
                [
                    ScalarRow(ticks[-1], self._epoch_metrics(state._replace(progress=progress), run)),
                    TableMark(ticks[-1]),
                ]
            )
            solved = progress.solved / self._phase_length("self-play")
            progress = self._next_phase(dataclasses.replace(progress, success_rate=solved))
        return state._replace(progress=progress)

    def _epoch_metrics(self, state: MatmulState, run: Run) -> dict[str, float | int]:
        progress = state.progress
        updates, games = self._phase_length("train"), self._phase_length("self-play")
        loss, policy_loss, value_loss, grad_norm = (total / updates for total in progress.loss_sums)
        metrics: dict[str, float | int] = {
            "Epoch": progress.epoch,
            "epoch_loss": loss,
            "epoch_policy_loss": policy_loss,
            "epoch_value_loss": value_loss,
            "epoch_grad_norm": grad_norm,
            "epoch_learning_rate": float(np.asarray(self.program.schedule(progress.updates))),
            "epoch_success_rate": progress.solved / games,
            "epoch_replay_size": int(state.device.replay.num_games),
            "epoch_simulations_per_second": self._simulations / max(self._self_play_seconds, 1e-9),
            "train/logging_overhead_pct": run.logging_overhead_pct,
        }
        for name, rank in zip(self._names("epoch_best_rank"), progress.best_ranks, strict=True):
            if rank is not None:
                metrics[name] = rank
        return metrics

    def _record_move(self, state: MatmulState, outcome: Played, run: Run) -> MatmulState:
        move = jax.device_get(outcome.move)
        progress = state.progress
        evaluating = progress.phase == "evaluate"
        live = np.flatnonzero(move.live)
        if not evaluating:
            self._simulations += len(live) * self.config.search.num_simulations
            self._self_play_seconds += time.perf_counter() - self._move_began
        ticks = run.clock.advance(len(live))
        # Lane k of a batch plays the k-th of its episodes.
        first_episode = progress.episodes + 1
        events: list[Event] = []
        if run.records_moves:
            events += [
                MoveRow(
                    tick,
                    episode=first_episode + int(lane),
                    move=int(move.num_moves[lane]),
                    action=tuple(int(token) for token in move.action[lane]),
                    reward=float(move.reward[lane]),
                    residual=float(move.residual[lane]),
                )
                for tick, lane in zip(ticks, live, strict=True)
            ]
        ended = [(tick, lane) for tick, lane in zip(ticks, live, strict=True) if move.terminated[lane]]
        solved = [int(lane) for _, lane in ended if move.solved[lane]]
        schemes = self._proved(outcome.games, {lane: int(move.num_moves[lane]) for lane in solved})
        rows = [
            EpisodeRow(
                tick,
                {
                    "Global Episode": first_episode + int(lane),
                    "Epoch": progress.epoch,
                    "Episode in Epoch": progress.done + int(lane) + 1,
                    "Reward": -float(move.cost[lane]),
                    "Residual": float(move.residual[lane]),
                    "Rank": round(float(move.cost[lane])),
                    "Steps": int(move.num_moves[lane]),
                    "Solved": bool(move.solved[lane]),
                },
            )
            for tick, lane in ended
        ]
        events += rows
        if rows and not evaluating:
            events.append(ScalarRow(rows[-1].tick, episode_metrics(rows)))
        over = bool(move.terminated[: progress.playing].all())
        if over and evaluating:
            progress = dataclasses.replace(
                progress,
                evaluated=evaluated(progress.evaluated, move, progress.playing, len(self.discoveries)),
            )
            total = self._phase_length("evaluate")
            if progress.done + progress.playing == total:
                metrics = evaluation_metrics(progress.evaluated, self._names(""), progress.epoch)
                events.append(ScalarRow(ticks[-1], metrics))
        run.record(events)
        progress = dataclasses.replace(progress, solved=progress.solved + (0 if evaluating else len(schemes)))
        for lane, scheme in schemes.items():
            discoveries = self.discoveries[self.program.format_of(lane)]
            found = {"episode": first_episode + lane, "epoch": progress.epoch, "step": run.clock.step}
            self._keep(scheme, discoveries, found, f"episode {found['episode']}", run)
        progress = self._note_ranks(progress)
        device = state.device
        if over:
            for discoveries in self.discoveries:
                discoveries.save_solutions()
            if not evaluating:
                device = device._replace(replay=self._kept(device.replay, outcome.games))
            progress = dataclasses.replace(
                progress,
                done=progress.done + progress.playing,
                episodes=progress.episodes + progress.playing,
                playing=0,
            )
        self._show_progress(progress, progress.phase, "games", run)
        if over and progress.done == self._phase_length(progress.phase):
            progress = self._next_phase(progress)
        return MatmulState(device, progress)

    def _note_ranks(self, progress: Progress) -> Progress:
        """The progress with the ranks of the best schemes so far, and what these make of the step limits."""
        best_ranks = tuple(None if found.best is None else found.best.rank for found in self.discoveries)
        progress = dataclasses.replace(progress, best_ranks=best_ranks)
        if self.config.game.tighten_step_limit:
            limits = tuple(
                limit if best is None else max(1, min(limit, best - 1))
                for limit, best in zip(progress.step_limits, best_ranks, strict=True)
            )
            progress = dataclasses.replace(progress, step_limits=limits)
        return progress

    def _record_rewriting(self, state: MatmulState, outcome: Rewriting, run: Run) -> MatmulState:
        """One row for the chunk; solutions are proved when they beat the best one, and all of them at the end."""
        num_moves, sums = jax.device_get((outcome.num_moves, outcome.outcome))
        progress = state.progress
        over = progress.done == self._phase_length("rewrite")
        there = np.flatnonzero(num_moves)
        lanes = [int(lane) for lane in there if over or self._beats(int(lane), int(num_moves[lane]))]
        schemes = self._proved(outcome.games, {lane: int(num_moves[lane]) for lane in lanes})
        tick = run.clock.advance(outcome.rounds)[-1]
        if len(there):
            tried = max(float(sums.tried), 1.0)
            metrics: dict[str, float | int] = {
                "rewrite/solved": float(sums.solved) / tried,
                "rewrite/changed": float(sums.changed) / tried,
                "rewrite/saved": int(sums.saved),
            }
            for number, suffix in enumerate(self._names("")):
                ranks = num_moves[number :: len(self.discoveries)]
                ranks = ranks[ranks > 0]
                if len(ranks):
                    metrics[f"rewrite/rank{suffix}"] = float(ranks.mean())
                    metrics[f"rewrite/best_rank{suffix}"] = int(ranks.min())
            run.record([ScalarRow(tick, metrics)])
        for lane, scheme in schemes.items():
            found = {"epoch": progress.epoch, "step": run.clock.step}
            discoveries = self.discoveries[self.program.format_of(lane)]
            self._keep(scheme, discoveries, found, f"epoch {progress.epoch}, an own solution rewritten", run)
        progress = self._note_ranks(progress)
        self._show_progress(progress, "rewrite", "rounds", run)
        if not (over or self._good_enough()):
            return MatmulState(state.device, progress)
        for discoveries in self.discoveries:
            discoveries.save_solutions()
        device = state.device._replace(replay=self._kept(state.device.replay, outcome.games))
        return MatmulState(device, self._next_phase(dataclasses.replace(progress, playing=0)))

    def _proved(self, games: Games, ranks: Mapping[int, int]) -> dict[int, Scheme]:
        """The schemes of solved games by lane, each proved; see `schemes_of`.

        Raises:
          RuntimeError: one is wrong: a defect of this program.
        """
        if not ranks:
            return {}
        schemes = schemes_of(self.program, self.program.readable(games), ranks)
        for lane, scheme in schemes.items():
            self.discoveries[self.program.format_of(lane)].check(scheme)
        return schemes

    def _beats(self, lane: int, rank: int) -> bool:
        """Whether a solution has a lower rank than the best one of its format."""
        best = self.discoveries[self.program.format_of(lane)].best
        return best is None or rank < best.rank

    def _names(self, stem: str) -> list[str]:
        """Names of a figure of each format: the stem, and the format where there are several."""
        formats = self.config.game.formats
        if len(formats) == 1:
            return [stem]
        return [f"{stem}_{'x'.join(map(str, size))}" for size in formats]

    def _keep(
        self, scheme: Scheme, discoveries: Discoveries, found: dict[str, Any], where: str, run: Run
    ) -> None:
        """Offer a proved scheme, and tell if it is the best so far.

        Args:
          found: when, for the provenance.
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
            # At its step, so that a resumed run that finds it again does not tell it twice.
            text = f"{where}: {verdict.message}; verified over {over}"
            run.record([Note(run.clock.now(), text)])


def schemes_of(program: MatmulProgram, games: Games, ranks: Mapping[int, int]) -> dict[int, Scheme]:
    """The terms that solved games played, in the standard basis; proves nothing by itself.

    Args:
      program: that played them.
      games: the batch.
      ranks: lane to number of moves played, of the games that are solved.
    """
    if not ranks:
        return {}
    modulus = program.codec.ring.modulus
    decoded = program.codec.decode(games.actions.astype(jnp.int32))
    factors, inverse = jax.device_get((decoded, games.basis))
    found = {}
    for lane, rank in ranks.items():
        u, v, w = to_standard_basis(
            tuple(vectors[lane, :rank] for vectors in factors),  # pyright: ignore[reportArgumentType]
            tuple(matrix[lane] for matrix in inverse),  # pyright: ignore[reportArgumentType]
            modulus,
        )
        n, m, p = program.config.game.formats[program.format_of(lane)]
        if len(program.targets) > 1:
            # Of a format smaller than the tensor's shape the entries beyond it are zero, whatever the terms have there.
            u, v, w = u[:, : n * m], v[:, : m * p], w[:, : n * p]
            needed = u.any(axis=1) & v.any(axis=1) & w.any(axis=1)
            u, v, w = u[needed], v[needed], w[needed]
        found[lane] = Scheme(Format(n, m, p), "F2" if modulus == 2 else "Z", u, v, w)
    return found


def episode_metrics(rows: list[EpisodeRow]) -> dict[str, float | int]:
    """The stream row of episodes that end together: means, the best, and how many."""

    def column(name: str) -> np.ndarray:
        return np.array([row.values[name] for row in rows], np.float64)

    reward, rank = column("Reward"), column("Rank")
    return {
        "episode/reward": float(reward.mean()),
        "episode/residual": float(column("Residual").mean()),
        "episode/rank": float(rank.mean()),
        "episode/steps": float(column("Steps").mean()),
        "episode/solved": float(column("Solved").mean()),
        "episode/best_reward": float(reward.max()),
        "episode/best_rank": int(rank.min()),
        "episode/count": len(rows),
    }


def evaluated(before: tuple[float, ...], move: Any, playing: int, num_formats: int) -> tuple[float, ...]:
    """`Progress.evaluated` with a batch more, whose last move is `move`: its first `playing` games took part."""
    found: list[float] = []
    for number in range(num_formats):
        lanes = np.arange(number, playing, num_formats)
        old = before[5 * number : 5 * number + 5]
        if len(lanes) == 0:
            found += old or (0.0,) * 5
            continue
        best = int(lanes[move.cost[lanes].argmin()])
        game = (float(move.cost[best]), float(move.residual[best]), float(move.num_moves[best]))
        assert math.isfinite(game[0])
        solved, played = float(move.solved[lanes].sum()), float(len(lanes))
        if old and old[4] > 0:
            game = min(old[:3], game)
            solved, played = old[3] + solved, old[4] + played
        found += (*game, solved, played)
    return tuple(found)


def evaluation_metrics(
    evaluated: tuple[float, ...], suffixes: Sequence[str], epoch: int
) -> dict[str, float | int]:
    """The row of an evaluation: the best of all its games, which were played without exploration.

    Args:
      evaluated: `Progress.evaluated` over all batches.
      suffixes: of the names of each format's figures.
    """
    row: dict[str, float | int] = {"Epoch": epoch}
    for number, suffix in enumerate(suffixes):
        cost, residual, steps, solved, played = evaluated[5 * number : 5 * number + 5]
        if played == 0:
            continue  # fewer games than formats
        row |= {
            f"eval/rank{suffix}": round(cost),
            f"eval/residual{suffix}": residual,
            f"eval/steps{suffix}": int(steps),
            f"eval/solved{suffix}": solved / played,
        }
    return row
