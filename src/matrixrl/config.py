"""Every setting of the project, declared once: frozen dataclasses that tyro turns into flags and
the journal records.

Standard library only, so that ``--help`` answers without loading JAX. The docstring of a field is
its help text. Values are checked when a config is built, before anything compiles; derived numbers
are properties.

Help texts keep their line breaks on the terminal, so a long one breaks between sentences.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

Settings = TypeVar("Settings")


class ConfigError(ValueError):
    """An impossible setting. The message states the given value, the allowed values and what to
    do.
    """


def require(condition: bool, message: str) -> None:
    """Raises `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def require_devices(devices: int | None) -> None:
    """Raises `ConfigError` if the number of devices is below 1."""
    require(
        devices is None or devices >= 1,
        f"--devices {devices}: must be 1 or more; leave it out for all",
    )


MAX_NUMBER = 2**31 - 1
"""Largest whole number that programs on a device count with."""


def require_countable(config: Any) -> None:
    """Raises `ConfigError` for a whole number that programs on a device cannot hold; seed and
    timesteps have their own limits.
    """
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            require_countable(value)
        elif type(value) is int and item.name not in ("seed", "total_timesteps"):
            flag = item.name.replace("_", "-")
            require(value <= MAX_NUMBER, f"--{flag} {value}: must be at most {MAX_NUMBER}")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Name of a run and destinations of its rows. The same flags serve every trainer."""

    wandb: bool = False
    """Also send the run to Weights & Biases (offline if there is no key or no network)."""

    project: str | None = None
    """W&B project. Default: `rlmm` for matmul, `hackmatrix` for hackmatrix."""

    entity: str | None = None
    """W&B entity. Default: WANDB_ENTITY, or the default entity of the account."""

    run_name: str | None = None
    """Name of the run. Default: prefix, date and the next free number."""

    run_suffix: str | None = None
    """Suffix appended to the automatic name, such as `-bignet`."""

    resume_run: str | None = None
    """Run to resume: its name, its id, or `latest`."""

    no_artifact: bool = False
    """Do not upload checkpoints and schemes to W&B as artifacts."""

    log_interval: int = 10
    """Number of updates between two records of the training stream."""

    runs_dir: Path = Path("runs")
    """Folder that holds one folder per run."""

    console: Literal["quiet", "epochs", "episodes", "steps"] = "epochs"
    """Detail of the console output. `steps` also records every move in the journal."""

    record_moves: bool = False
    """Record every move (action, reward, residual) in the journal."""

    keep_artifacts: int = 3
    """Number of checkpoints to keep on W&B in addition to the best one. 0 keeps all."""

    backlog_rows: int = 10_000
    """Maximum number of rows waiting for upload to W&B.
    Above it the live stream is thinned (never the journal).
    """

    finish_seconds: float = 60.0
    """Maximum time in seconds that the end of a run waits for W&B.
    `matrixrl runs sync` uploads the rest.
    """

    def __post_init__(self) -> None:
        levels = ("quiet", "epochs", "episodes", "steps")
        require(self.log_interval >= 1, f"--log-interval {self.log_interval}: must be 1 or more")
        require(self.console in levels, f"--console {self.console}: must be one of {', '.join(levels)}")
        require(self.keep_artifacts >= 0, f"--keep-artifacts {self.keep_artifacts}: must be 0 or more")
        require(self.backlog_rows >= 1, f"--backlog-rows {self.backlog_rows}: must be 1 or more")
        require(self.finish_seconds >= 0, f"--finish-seconds {self.finish_seconds}: must be 0 or more")
        require(
            self.resume_run is None or (self.run_name is None and self.run_suffix is None),
            f"--resume-run {self.resume_run} continues a run under its own name: leave out --run-name and --run-suffix",
        )


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Schedule and retention of checkpoints. The same flags serve every trainer."""

    save_interval: float = 300.0
    """Interval in seconds between two checkpoints.
    0 saves only at the end (and on SIGINT and SIGTERM).
    """

    save_interval_chunks: int | None = None
    """Number of chunks between two checkpoints, instead of --save-interval.
    A chunk is --log-interval weight updates, or one move of all games.
    """

    keep_last: int = 3
    """Number of newest checkpoints to keep."""

    keep_best: int = 1
    """Number of best checkpoints to keep in addition to the newest. 0 keeps the newest only."""

    grace_seconds: float = 20.0
    """Grace period in seconds after SIGTERM or SIGINT.
    Within it the run finishes its chunk, saves and reports.
    """

    failed_checkpoint: Literal["warn", "stop"] = "warn"
    """Reaction to a checkpoint that cannot be written (for example, the disk is full).
    `warn` continues with a warning; `stop` ends the run.
    """

    max_rollbacks: int = 0
    """Maximum number of automatic rollbacks to the last good checkpoint when training diverges.
    Each rollback lowers the learning rate. 0 disables rollback.
    """

    rollback_learning_rate_factor: float = 0.5
    """Factor applied to the learning rate at each rollback."""

    def __post_init__(self) -> None:
        require(self.save_interval >= 0, f"--save-interval {self.save_interval}: must be 0 or more seconds")
        require(
            self.save_interval_chunks is None or self.save_interval_chunks >= 1,
            f"--save-interval-chunks {self.save_interval_chunks}: must be 1 or more",
        )
        require(
            self.keep_last >= 1,
            f"--keep-last {self.keep_last}: must be 1 or more; 2 survive a damaged newest one",
        )
        require(self.keep_best >= 0, f"--keep-best {self.keep_best}: must be 0 or more")
        require(self.grace_seconds > 0, f"--grace-seconds {self.grace_seconds}: must be above 0, such as 20")
        require(self.max_rollbacks >= 0, f"--max-rollbacks {self.max_rollbacks}: must be 0 or more")
        require(
            0 < self.rollback_learning_rate_factor < 1,
            f"--rollback-learning-rate-factor {self.rollback_learning_rate_factor}: must be above 0 and below 1",
        )


@dataclass(frozen=True, kw_only=True)
class ProcessConfig:
    """Distributed training by several processes, on one host or several.
    The same flags serve every trainer.
    """

    distributed: bool = False
    """Train together with the processes started by this same command on the other hosts."""

    coordinator: str | None = None
    """Address on which process 0 listens, HOST:PORT. Detected on TPU slices, Slurm and Open MPI."""

    num_processes: int | None = None
    """Number of processes, if it is not detected."""

    process_id: int | None = None
    """Index of this process, from 0, if it is not detected. Process 0 holds the run folder."""

    join_seconds: int = 300
    """Maximum time in seconds to wait for the other processes."""

    def __post_init__(self) -> None:
        given = [self.coordinator, self.num_processes, self.process_id]
        require(
            self.distributed or given == [None] * 3,
            "--coordinator, --num-processes and --process-id say how processes find each other: add --distributed",
        )
        require(
            None not in given or given == [None] * 3,
            "--distributed: give --coordinator, --num-processes and --process-id all three, or none of them",
        )
        if self.coordinator is not None:
            host, _, port = self.coordinator.rpartition(":")
            require(
                bool(host) and port.isdecimal() and 0 < int(port) < 65536,
                f"--coordinator {self.coordinator}: must be HOST:PORT, such as 10.0.0.2:8476",
            )
        require(
            self.num_processes is None or self.num_processes >= 1,
            f"--num-processes {self.num_processes}: must be 1 or more",
        )
        if self.process_id is not None and self.num_processes is not None:
            require(
                0 <= self.process_id < self.num_processes,
                f"--process-id {self.process_id}: must be from 0 to {self.num_processes - 1}",
            )
        require(self.join_seconds >= 1, f"--join-seconds {self.join_seconds}: must be 1 or more")


def size_name(size: Sequence[int]) -> str:
    """Returns a format as one word: `2x2x3`."""
    return "x".join(map(str, size))


@dataclass(frozen=True, kw_only=True)
class GameConfig:
    """The tensor to decompose and the rules of the game."""

    size: tuple[int, int, int] = (2, 2, 2)
    """Format n m p: an n x m matrix times an m x p matrix."""

    sizes: tuple[str, ...] = ()
    """Several formats for one agent, such as 2x2x2 2x2x3, instead of --size.
    Games alternate between them.
    """

    ring: Literal["Z", "F2"] = "F2"
    """Ring of the coefficients.
    `Z`: exact over the integers. `F2`: exact modulo 2, then lifted to the integers if possible.
    """

    max_coefficient: int = 1
    """Maximum absolute value of a factor entry over Z: 1 (ternary) or 2."""

    step_limit: int | None = None
    """Maximum number of moves per game.
    Default: the rank of the standard algorithm plus --step-margin.
    """

    step_margin: int = -1
    """Maximum number of moves per game, relative to the rank of the standard algorithm.
    With -1 a game must beat the standard algorithm to be solved.
    """

    tighten_step_limit: bool = False
    """Lower the maximum number of moves to r - 1 after a scheme of rank r.
    The rank of an unsolved game's residual is only a bound, so its cost is then less exact.
    """

    def __post_init__(self) -> None:
        for text in self.sizes:
            require(
                re.fullmatch(r"[1-9]\d?x[1-9]\d?x[1-9]\d?", text) is not None,
                f"--sizes {text}: must be formats such as 2x2x3, separated by spaces",
            )
        require(
            len(set(self.formats)) == len(self.formats),
            f"--sizes {' '.join(self.sizes)}: name each format once",
        )
        shown = "--sizes " + " ".join(self.sizes) if self.sizes else "--size " + " ".join(map(str, self.size))
        require(
            all(1 <= side <= MAX_SIDE for sides in self.formats for side in sides)
            and max(self.shape) <= MAX_MODE,
            f"{shown}: each side must be 1 to {MAX_SIDE} and no matrix may have more than {MAX_MODE} entries "
            f"(largest supported: 5 5 5)",
        )
        require(self.max_coefficient in (1, 2), f"--max-coefficient {self.max_coefficient}: must be 1 or 2")
        require(
            self.step_limit is None or self.step_limit >= 1,
            f"--step-limit {self.step_limit}: must be 1 or more; leave it out for the default",
        )
        require(
            len(self.formats) == 1 or self.step_limit is None,
            f"--step-limit {self.step_limit}: one limit does not fit several formats; use --step-margin",
        )
        fewest = min(self.formats, key=self.moves_of)
        require(
            self.moves_of(fewest) >= 1,
            f"--step-margin {self.step_margin}: leaves {self.moves_of(fewest)} moves of the {prod(fewest)} that the "
            f"standard algorithm of {' '.join(map(str, fewest))} takes; at least {1 - prod(fewest)}",
        )
        require(
            self.moves <= MAX_MOVES,
            f"--step-limit {self.moves}: more moves than {MAX_MOVES}, which no supported format needs",
        )

    @property
    def formats(self) -> tuple[tuple[int, int, int], ...]:
        """Formats of the games."""
        if not self.sizes:
            return (self.size,)
        n_m_p = [tuple(map(int, text.split("x"))) for text in self.sizes]
        return tuple((n, m, p) for n, m, p in n_m_p)

    @property
    def name(self) -> str:
        """The formats as one word: `2x2x2`, or `2x2x2-2x2x3`."""
        return "-".join(map(size_name, self.formats))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the tensor: the largest number of entries of A, B and C over the formats."""
        return (
            max(n * m for n, m, _ in self.formats),
            max(m * p for _, m, p in self.formats),
            max(n * p for n, _, p in self.formats),
        )

    @property
    def standard_rank(self) -> int:
        """Number of multiplications of the standard algorithm, nmp, for the largest format."""
        return max(map(prod, self.formats))

    def moves_of(self, size: tuple[int, int, int]) -> int:
        """Returns the maximum number of moves of a game of one format before any scheme is
        found.
        """
        return prod(size) + self.step_margin if self.step_limit is None else self.step_limit

    @property
    def moves(self) -> int:
        """Maximum number of moves of any game before any scheme is found."""
        return max(map(self.moves_of, self.formats))


MAX_SIDE = 8
MAX_MODE = 25
MAX_MOVES = 256

# Longest vectors that the transform policy samples as one token, by ring: 4,096 and 729 classes.
MAX_TRANSFORM_MODE = {"F2": 16, "Z": 6}


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The policy and value network."""

    width: int = 256
    """Number of units per layer of the torso."""

    num_blocks: int = 2
    """Number of residual blocks in the torso."""

    head_width: int = 128
    """Number of units in the policy head."""

    policy: Literal["auto", "transform", "tokens"] = "auto"
    """Type of policy.
    `transform`: complete vectors from transforms of contractions, equivariant in every basis.
    `tokens`: vectors piece by piece, by a perceptron.
    `auto`: `transform` if the vectors are short enough.
    """

    rank_profile: bool = True
    """Feed the rank profile and its transform to the network of `tokens`.
    The profile holds the ranks of the residual's contractions.
    """

    max_token_classes: int = 128
    """Maximum number of classes per token."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the network's matrix products.
    Parameters stay float32, and on a CPU everything does.
    """

    def __post_init__(self) -> None:
        for name, value in (("width", self.width), ("head-width", self.head_width)):
            require(value >= 8, f"--{name} {value}: must be 8 or more")
        require(self.num_blocks >= 0, f"--num-blocks {self.num_blocks}: must be 0 or more")
        require(
            8 <= self.max_token_classes <= 1024,
            f"--max-token-classes {self.max_token_classes}: must be from 8 to 1024",
        )


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The tree search that selects each move."""

    num_simulations: int = 32
    """Number of simulations per move."""

    num_candidates: int = 32
    """Number of actions sampled from the policy at each node (K)."""

    algorithm: Literal["gumbel", "puct"] = "gumbel"
    """Search algorithm: Gumbel search with policy improvement, or PUCT with Dirichlet noise."""

    exploration: float = 0.5
    """Scale of the noise at the root in self-play. Evaluation uses no noise."""

    candidate_temperature: float = 1.0
    """Temperature of the policy from which candidates are sampled. Above 1 flattens it."""

    best_fraction: float = 1.0
    """Fraction of the value distribution, its best part, over which the value is averaged.
    1 is the plain mean; AlphaTensor used 0.25.
    """

    def __post_init__(self) -> None:
        require(self.num_simulations >= 1, f"--num-simulations {self.num_simulations}: must be 1 or more")
        require(self.num_candidates >= 2, f"--num-candidates {self.num_candidates}: must be 2 or more")
        require(self.exploration >= 0, f"--exploration {self.exploration}: must be 0 or more")
        require(
            0.01 <= self.candidate_temperature <= 100,
            f"--candidate-temperature {self.candidate_temperature}: must be from 0.01 to 100 (1 draws from the policy "
            f"itself)",
        )
        require(
            0 < self.best_fraction <= 1,
            f"--best-fraction {self.best_fraction}: must be above 0 and at most 1 (the plain mean)",
        )


Demonstrations = Literal["synthetic", "standard", "known"]


@dataclass(frozen=True, kw_only=True)
class DemonstrationConfig:
    """Demonstrations to learn from."""

    demonstrations: tuple[Demonstrations, ...] = ("synthetic",)
    """Sources of demonstrations.
    `synthetic`: sums of random terms; `standard`: the standard algorithm; `known`: the best known.
    """

    pretraining_steps: int = 500
    """Number of weight updates on demonstrations before the first game."""

    max_demonstration_factors: int | None = None
    """Maximum number of terms in a synthetic demonstration.
    Default: the rank of the standard algorithm.
    """

    curriculum_steps: int = 0
    """Number of weight updates over which demonstrations grow from one term to the maximum.
    0 disables the curriculum.
    """

    min_density: float = 0.5
    """Minimum fraction of non-zero entries in synthetic factors (drawn per demonstration)."""

    max_density: float = 0.5
    """Maximum fraction of non-zero entries in synthetic factors."""

    def __post_init__(self) -> None:
        require(
            self.pretraining_steps >= 0, f"--pretraining-steps {self.pretraining_steps}: must be 0 or more"
        )
        require(
            len(set(self.demonstrations)) == len(self.demonstrations) and len(self.demonstrations) > 0,
            f"--demonstrations {' '.join(self.demonstrations)}: name one or more of synthetic, standard, known, each once",
        )
        require(
            self.max_demonstration_factors is None or 1 <= self.max_demonstration_factors <= MAX_MOVES,
            f"--max-demonstration-factors {self.max_demonstration_factors}: must be from 1 to {MAX_MOVES}",
        )
        require(self.curriculum_steps >= 0, f"--curriculum-steps {self.curriculum_steps}: must be 0 or more")
        require(
            0 < self.min_density <= self.max_density <= 1,
            f"--min-density {self.min_density} --max-density {self.max_density}: need 0 < min <= max <= 1",
        )

    @property
    def shown(self) -> str:
        """Description of the demonstrations for provenance and the summary line."""
        if "known" in self.demonstrations:
            return "known scheme shown"
        if "standard" in self.demonstrations:
            return "standard algorithm shown"
        return "nothing shown"


@dataclass(frozen=True, kw_only=True)
class SelfPlayConfig:
    """Epochs of self-play, learning and evaluation."""

    num_epochs: int = 100
    """Maximum number of epochs."""

    episodes_per_epoch: int = 256
    """Number of games per epoch."""

    parallel_games: int = 256
    """Maximum number of games played in parallel."""

    updates_per_epoch: int = 100
    """Number of weight updates per epoch."""

    random_basis_fraction: float = 1.0
    """Fraction of games that start from the target in a random basis."""

    basis_density: float = 0.1
    """Fraction of non-zero entries off the diagonals of a random basis, over Z.
    0 uses signed permutations only.
    """

    replay_size: int = 4096
    """Capacity of the replay buffer in games, rounded down to a multiple of the search groups."""

    good_game_lifetime: float = 20.0
    """Number of batches before a game among the best tenth of its batch may be overwritten.
    Any other game may be overwritten after one batch.
    """

    replay_fraction: float = 0.5
    """Fraction of a training batch that comes from self-play. The rest are new demonstrations."""

    imitated_fraction: float = 0.1
    """Fraction of the buffered games, the best ones, whose moves the policy learns from.
    0 uses none. The value learns from all.
    """

    leftover_fraction: float = 0.0
    """Fraction of self-play batches whose games start from a partial solution.
    In it a random subset of a stored solution's terms is already subtracted.
    All games of a batch start alike.
    """

    rewriting_rounds: int = 0
    """Refinement rounds after each epoch.
    Each round removes a random subset of a solution's terms, re-derives them with the policy alone,
    and keeps the result if it is no longer.
    """

    evaluation_interval: int = 5
    """Number of epochs between two evaluations without exploration. 0 disables evaluation."""

    evaluation_games: int = 16
    """Number of games per evaluation, played from the standard basis."""

    stop_at_record: bool = True
    """Stop when the rank of the best scheme equals the best known rank of the format."""

    stop_at_rank: int | None = None
    """Rank at which the run stops."""

    def __post_init__(self) -> None:
        for name, value in (
            ("episodes-per-epoch", self.episodes_per_epoch),
            ("parallel-games", self.parallel_games),
            ("updates-per-epoch", self.updates_per_epoch),
            ("replay-size", self.replay_size),
            ("evaluation-games", self.evaluation_games),
        ):
            require(value >= 1, f"--{name} {value}: must be 1 or more")
        require(self.num_epochs >= 0, f"--num-epochs {self.num_epochs}: must be 0 or more")
        require(self.rewriting_rounds >= 0, f"--rewriting-rounds {self.rewriting_rounds}: must be 0 or more")
        require(
            self.evaluation_interval >= 0,
            f"--evaluation-interval {self.evaluation_interval}: must be 0 or more",
        )
        for name, share in (
            ("random-basis-fraction", self.random_basis_fraction),
            ("basis-density", self.basis_density),
            ("replay-fraction", self.replay_fraction),
            ("imitated-fraction", self.imitated_fraction),
            ("leftover-fraction", self.leftover_fraction),
        ):
            require(0 <= share <= 1, f"--{name} {share}: must be from 0 to 1")
        require(
            self.good_game_lifetime >= 1, f"--good-game-lifetime {self.good_game_lifetime}: must be 1 or more"
        )
        require(
            self.stop_at_rank is None or self.stop_at_rank >= 1,
            f"--stop-at-rank {self.stop_at_rank}: must be 1 or more",
        )
        require(
            self.replay_size >= self.batch_of_games,
            f"--replay-size {self.replay_size}: smaller than the {self.batch_of_games} games played at once; "
            f"make it at least that, or lower --parallel-games",
        )

    @property
    def batch_of_games(self) -> int:
        """Effective number of games played in parallel."""
        return min(self.parallel_games, self.episodes_per_epoch)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    batch_size: int = 256
    """Number of positions per weight update."""

    learning_rate: float = 1e-3
    """Peak learning rate."""

    final_learning_rate_fraction: float = 0.1
    """Final learning rate as a fraction of its peak."""

    warmup_steps: int = 100
    """Number of weight updates before the learning rate peaks."""

    weight_decay: float = 1e-4
    """Decoupled weight decay."""

    max_grad_norm: float = 1.0
    """Maximum global norm of the gradients. Larger gradients are scaled down."""

    value_coefficient: float = 0.25
    """Weight of the value loss."""

    def __post_init__(self) -> None:
        require(self.batch_size >= 1, f"--batch-size {self.batch_size}: must be 1 or more")
        require(
            self.learning_rate > 0, f"--learning-rate {self.learning_rate}: must be above 0, such as 0.001"
        )
        require(
            0 <= self.final_learning_rate_fraction <= 1,
            f"--final-learning-rate-fraction {self.final_learning_rate_fraction}: must be from 0 to 1",
        )
        require(self.warmup_steps >= 0, f"--warmup-steps {self.warmup_steps}: must be 0 or more")
        require(self.weight_decay >= 0, f"--weight-decay {self.weight_decay}: must be 0 or more")
        require(self.max_grad_norm > 0, f"--max-grad-norm {self.max_grad_norm}: must be above 0")
        require(
            self.value_coefficient >= 0, f"--value-coefficient {self.value_coefficient}: must be 0 or more"
        )


@dataclass(frozen=True, kw_only=True)
class MatmulConfig:
    """All settings of a matmul run."""

    preset: str = "quick"
    """Preset that supplies the other defaults: quick, discover, integers, full or dev."""

    seed: int = 0
    """Seed of all random numbers."""

    game: GameConfig = field(default_factory=GameConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    demonstration: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    selfplay: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    processes: ProcessConfig = field(default_factory=ProcessConfig)

    devices: int | None = None
    """Number of devices to shard games and samples over. Default: all that fit."""

    benchmark: bool = False
    """Measure the cost of tracking.
    Short runs alternate between tracking and none, on one seed.
    """

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: must be from 0 to 4294967295")
        require_countable(self)
        require(
            self.total_updates <= MAX_NUMBER,
            f"--num-epochs {self.selfplay.num_epochs} --updates-per-epoch {self.selfplay.updates_per_epoch}: "
            f"{self.total_updates} weight updates in all; at most {MAX_NUMBER}",
        )
        require_devices(self.devices)
        require(
            not (self.processes.distributed and self.benchmark),
            "--benchmark measures one process: leave --distributed out",
        )
        require(
            self.optimizer.batch_size <= self.selfplay.replay_size,
            f"--batch-size {self.optimizer.batch_size}: larger than the replay buffer (--replay-size "
            f"{self.selfplay.replay_size}); lower the one or raise the other",
        )
        require(
            self.game.ring == "Z" or self.game.max_coefficient == 1,
            f"--max-coefficient {self.game.max_coefficient}: over F2 every entry is 0 or 1; use --ring Z",
        )
        require(
            self.network.rank_profile or not self.transforms,
            "--no-rank-profile: the policy by transforms is made of it; add --policy tokens",
        )
        formats = len(self.game.formats)
        require(
            self.selfplay.batch_of_games >= formats,
            f"--parallel-games {self.selfplay.parallel_games} --episodes-per-epoch {self.selfplay.episodes_per_epoch}: fewer "
            f"games at once than the {formats} formats of --sizes; raise both to {formats} or more",
        )
        require(
            formats == 1 or self.selfplay.stop_at_rank is None,
            f"--stop-at-rank {self.selfplay.stop_at_rank}: one rank does not fit several formats; leave it out to stop at "
            "the records of all",
        )
        require(
            self.network.policy != "transform" or self._transforms_fit,
            f"--policy transform: vectors of {max(self.game.shape)} entries over {self.game.ring} with coefficients up "
            f"to {self.game.max_coefficient} are too many to draw whole; at most {MAX_TRANSFORM_MODE[self.game.ring]} "
            "entries with coefficients up to 1; use --policy tokens",
        )

    @property
    def _transforms_fit(self) -> bool:
        game = self.game
        return max(game.shape) <= MAX_TRANSFORM_MODE[game.ring] and game.max_coefficient == 1

    @property
    def transforms(self) -> bool:
        """True if the policy samples complete vectors by transforms."""
        return self.network.policy == "transform" or (self.network.policy == "auto" and self._transforms_fit)

    @property
    def max_demonstration_factors(self) -> int:
        """Number of terms in the largest synthetic demonstration."""
        return self.demonstration.max_demonstration_factors or self.game.standard_rank

    @property
    def replay_batch(self) -> int:
        """Number of positions per training batch that come from self-play."""
        return round(self.selfplay.replay_fraction * self.optimizer.batch_size)

    @property
    def total_updates(self) -> int:
        """Number of weight updates in the run, over which the learning rate schedule extends."""
        return (
            self.demonstration.pretraining_steps + self.selfplay.num_epochs * self.selfplay.updates_per_epoch
        )


@dataclass(frozen=True, kw_only=True)
class PPOConfig:
    """Proximal policy optimisation. The first fifteen fields have PureJaxRL's names and
    meanings.
    """

    num_envs: int = 256
    """Number of parallel environments, over all devices."""

    num_steps: int = 128
    """Number of steps per environment and update. A batch is --num-envs x --num-steps steps."""

    total_timesteps: int = 10_000_000
    """Number of environment steps in the run, rounded down to whole batches."""

    learning_rate: float = 2.5e-4
    """Initial learning rate of Adam."""

    anneal_lr: bool = False
    """Decrease the learning rate linearly to zero over the run."""

    gamma: float = 0.99
    """Discount factor per step."""

    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""

    num_minibatches: int = 4
    """Number of minibatches per pass over a batch."""

    update_epochs: int = 4
    """Number of passes over each batch."""

    clip_eps: float = 0.2
    """Clipping range of the probability ratio, and of the change of the value."""

    vf_coef: float = 0.5
    """Weight of the value loss."""

    ent_coef: float = 0.1
    """Initial weight of the entropy bonus."""

    final_ent_coef: float | None = None
    """Final weight of the entropy bonus, reached linearly over the run.
    Default: constant weight.
    """

    max_grad_norm: float = 0.5
    """Maximum global norm of the gradients. Larger gradients are scaled down."""

    reward_scale: float = 0.1
    """Factor applied to the rewards that the learner uses. Recorded returns are unscaled."""

    def __post_init__(self) -> None:
        for name, value in (
            ("num-envs", self.num_envs),
            ("num-steps", self.num_steps),
            ("num-minibatches", self.num_minibatches),
            ("update-epochs", self.update_epochs),
        ):
            require(value >= 1, f"--{name} {value}: must be 1 or more")
        require(
            self.batch_size % self.num_minibatches == 0,
            f"--num-envs {self.num_envs} x --num-steps {self.num_steps} is {self.batch_size} steps, which "
            f"--num-minibatches {self.num_minibatches} does not divide; make it "
            f"{_nearest_divisor(self.batch_size, self.num_minibatches)}",
        )
        require(
            self.total_timesteps >= self.batch_size,
            f"--total-timesteps {self.total_timesteps}: smaller than one batch of {self.batch_size} (--num-envs "
            f"{self.num_envs} x --num-steps {self.num_steps}), so it rounds down to no update at all; give "
            f"{self.batch_size} or more, or make the batch smaller",
        )
        for name, value in (
            ("learning-rate", self.learning_rate),
            ("max-grad-norm", self.max_grad_norm),
            ("reward-scale", self.reward_scale),
        ):
            require(value > 0, f"--{name} {value}: must be above 0")
        for name, value in (
            ("clip-eps", self.clip_eps),
            ("vf-coef", self.vf_coef),
            ("ent-coef", self.ent_coef),
            ("final-ent-coef", self.final_ent_coef or 0.0),
        ):
            require(value >= 0, f"--{name} {value}: must be 0 or more")
        for name, value in (("gamma", self.gamma), ("gae-lambda", self.gae_lambda)):
            require(0 <= value <= 1, f"--{name} {value}: must be from 0 to 1")

    @property
    def batch_size(self) -> int:
        """Number of environment steps per update."""
        return self.num_envs * self.num_steps

    @property
    def num_updates(self) -> int:
        """Number of updates in the run."""
        return self.total_timesteps // self.batch_size


def _nearest_divisor(number: int, wanted: int) -> int:
    """Returns the divisor of `number` nearest to `wanted`, the smaller of two."""
    divisors = [d for d in range(1, min(number, 2 * wanted) + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wanted))


@dataclass(frozen=True, kw_only=True)
class ActorCriticConfig:
    """The network of the HackMatrix agent."""

    torso: Literal["mlp", "grid"] = "mlp"
    """Type of torso.
    `mlp`: plain layers over the flat observation.
    `grid`: one encoder shared by the 36 cells, followed by the layers.
    """

    hidden_dim: int = 256
    """Number of units per layer."""

    num_layers: int = 2
    """Number of layers."""

    cell_dim: int = 16
    """Number of units in the first layer of the cell encoder; the second has twice as many.
    Used by `--torso grid`.
    """

    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the network's matrix products.
    Parameters stay float32, and on a CPU everything does.
    """

    def __post_init__(self) -> None:
        require(self.torso in ("mlp", "grid"), f"--torso {self.torso}: must be one of mlp, grid")
        require(self.hidden_dim >= 1, f"--hidden-dim {self.hidden_dim}: must be 1 or more")
        require(self.num_layers >= 0, f"--num-layers {self.num_layers}: must be 0 or more")
        require(
            self.cell_dim >= 2 and self.cell_dim % 2 == 0,
            f"--cell-dim {self.cell_dim}: must be 2 or more, and even",
        )


@dataclass(frozen=True, kw_only=True)
class HackmatrixConfig:
    """All settings of a HackMatrix run."""

    preset: str = "default"
    """Preset that supplies the other defaults: default, tuned or dev."""

    seed: int = 0
    """Seed of all random numbers."""

    ppo: PPOConfig = field(default_factory=PPOConfig)
    network: ActorCriticConfig = field(default_factory=ActorCriticConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    processes: ProcessConfig = field(default_factory=ProcessConfig)

    time_limit: int = 1_000
    """Maximum number of steps per game. Longer games are truncated."""

    devices: int | None = None
    """Number of devices to shard the environments over. Default: all that fit."""

    monolithic: bool = False
    """Run all updates in one call on the device, and record at the end."""

    auto_tune: bool = False
    """Select --num-envs and --num-steps for the device by measuring, and report the choice."""

    benchmark: bool = False
    """Measure the cost of tracking.
    Short runs alternate between tracking and none, on one seed.
    """

    json: bool = False
    """Print one JSON object as the last line of output."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, f"--seed {self.seed}: must be from 0 to 4294967295")
        require_countable(self)
        require(
            self.ppo.batch_size <= MAX_NUMBER,
            f"--num-envs {self.ppo.num_envs} x --num-steps {self.ppo.num_steps} is {self.ppo.batch_size} steps; at most "
            f"{MAX_NUMBER}",
        )
        require(
            self.ppo.num_updates <= MAX_NUMBER,
            f"--total-timesteps {self.ppo.total_timesteps}: {self.ppo.num_updates} updates of {self.ppo.batch_size} steps; at "
            f"most {MAX_NUMBER} updates",
        )
        require_devices(self.devices)
        require(
            not (self.processes.distributed and (self.benchmark or self.auto_tune)),
            "--auto-tune and --benchmark measure one process: leave --distributed out, and give what they say to all",
        )
        require(self.time_limit >= 1, f"--time-limit {self.time_limit}: must be 1 or more")

    @property
    def chunk(self) -> int:
        """Number of updates between two records."""
        return self.ppo.num_updates if self.monolithic else self.tracking.log_interval


def as_record(config: Any) -> dict[str, Any]:
    """Returns the config as plain JSON values, nested like the dataclasses, for the journal and
    W&B.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, Path):
            return str(value)
        return value

    return plain(dataclasses.asdict(config))


def from_record(kind: type[Settings], record: Mapping[str, Any]) -> Settings:
    """Returns the config that `as_record` wrote. Missing fields take their defaults.

    Args:
      kind: the dataclass. Entries of the record that are not fields of it (versions, devices) are
        ignored.

    Raises:
      ConfigError: if a recorded value is impossible for this version of matrixrl.
    """
    values: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for item in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        if item.name not in record:
            continue
        value, hint = record[item.name], hints[item.name]
        if dataclasses.is_dataclass(hint):
            value = from_record(hint, value)  # pyright: ignore[reportArgumentType]
        elif isinstance(value, list):
            value = tuple(value)
        elif hint is Path:
            value = Path(value)
        values[item.name] = value
    return kind(**values)


def differences(old: Any, new: Any, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Returns the fields in which two configs of one type differ, by dotted name, with both
    values.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for item in dataclasses.fields(old):
        before, after = getattr(old, item.name), getattr(new, item.name)
        if dataclasses.is_dataclass(before):
            found |= differences(before, after, f"{prefix}{item.name}.")
        elif before != after:
            found[prefix + item.name] = before, after
    return found


def value_at(config: Any, name: str) -> Any:
    """Returns the value of a field by its dotted name, such as `optimizer.learning_rate`."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def with_value(config: Settings, name: str, value: Any) -> Settings:
    """Returns the config with a new value for the field of this dotted name.

    Raises:
      ConfigError: if the value is impossible.
    """
    first, _, rest = name.partition(".")
    inner = with_value(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: inner})  # pyright: ignore[reportArgumentType, reportType]


MAY_CHANGE_ON_RESUME = (
    "json",
    "tracking.",
    "checkpoint.",
    "processes.",
    "network.precision",
    "optimizer.learning_rate",
    "optimizer.final_learning_rate_fraction",
    "optimizer.max_grad_norm",
    "optimizer.weight_decay",
    "selfplay.num_epochs",
    "selfplay.stop_at_record",
    "selfplay.stop_at_rank",
    "ppo.total_timesteps",
    "ppo.learning_rate",
    "ppo.anneal_lr",
    "ppo.max_grad_norm",
    "ppo.ent_coef",
    "ppo.final_ent_coef",
    "ppo.clip_eps",
    "ppo.vf_coef",
    "ppo.gamma",
    "ppo.gae_lambda",
    "ppo.update_epochs",
    "monolithic",
    "devices",
)
"""Settings that a resumed run may change, by dotted name; a name that ends in a dot covers its
group.

All other settings define the meaning of the saved arrays and counters. Changing `log_interval`, a
setting of the optimizer or the number of epochs (which the learning rate schedule depends on)
changes the weights after the checkpoint: rows recorded after it are then set aside as another
attempt.
"""
