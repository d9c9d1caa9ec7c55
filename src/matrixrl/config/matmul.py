"""Settings of a matmul run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from matrixrl.config.fields import MAX_NUMBER, ConfigError, Settings, group, require, setting
from matrixrl.config.run import RunConfig

if TYPE_CHECKING:
    from matrixrl.schemes.problem import Problem

MAX_SIDE = 8
MAX_MODE = 25
MAX_MOVES = 256

# Longest vectors that the transform policy samples as one token, by ring: 4,096 and 729 classes.
MAX_TRANSFORM_MODE = {"F2": 16, "Z": 6}


def size_name(size: Sequence[int]) -> str:
    """Returns a format as one word: `2x2x3`."""
    return "x".join(map(str, size))


def problems_of(tensor: str | None, formats: Sequence[tuple[int, int, int]]) -> tuple[Problem, ...]:
    """Returns the problem of a recorded tensor; without one those of the formats."""
    from matrixrl.schemes.problem import as_problem
    from matrixrl.schemes.tensor_files import problem_from_text

    if tensor is not None:
        return (problem_from_text(tensor),)
    return tuple(map(as_problem, formats))


def group_sizes(length: int, base: int, max_classes: int) -> tuple[int, ...]:
    """Cuts `length` entries into the fewest groups of at most `max_classes` classes, as even as
    possible.
    """
    largest = 1
    while base ** (largest + 1) <= max_classes:
        largest += 1
    count = -(-length // largest)
    return tuple(length // count + (index < length % count) for index in range(count))


@dataclass(frozen=True, kw_only=True)
class GameConfig(Settings):
    """The tensor to decompose and the rules of the game."""

    size: tuple[int, int, int] = (2, 2, 2)
    """Format n m p: an n x m matrix times an m x p matrix."""

    sizes: tuple[str, ...] = ()
    """Several formats for one agent, such as 2x2x2 2x2x3, instead of --size.
    Games alternate between them.
    """

    tensor: str | None = None
    """Tensor to decompose instead of a format: a file, or the name of a built-in problem.
    FILE.npz (or .npy) holds one array of integers with three axes.
    Built in: poly-NxM, cyclic-N, conv-MxR, complex, quaternion, gram-NxM, symmetric-NxP,
    triangular-NxP, skew-N.
    """

    ring: Literal["Z", "F2"] = "F2"
    """Ring of the coefficients.
    `Z`: exact over the integers. `F2`: exact modulo 2, then lifted to the integers if possible.
    """

    max_coefficient: int = setting(1, choices=(1, 2))
    """Maximum absolute value of a factor entry over Z: 1 (ternary) or 2."""

    step_limit: int | None = setting(None, minimum=1, hint="; leave it out for the default")
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

    def check(self) -> None:
        """Checks the formats, and the number of moves that they leave."""
        for text in self.sizes:
            require(
                re.fullmatch(r"[1-9]\d?x[1-9]\d?x[1-9]\d?", text) is not None,
                f"--sizes {text}: must be formats such as 2x2x3, separated by spaces",
            )
        require(
            len(set(self.formats)) == len(self.formats),
            f"--sizes {' '.join(self.sizes)}: name each format once",
        )
        if self.tensor is not None:
            self._check_tensor(self.tensor)
            return
        shown = "--sizes " + " ".join(self.sizes) if self.sizes else "--size " + " ".join(map(str, self.size))
        require(
            all(1 <= side <= MAX_SIDE for sides in self.formats for side in sides)
            and max(self.shape) <= MAX_MODE,
            f"{shown}: each side must be 1 to {MAX_SIDE} and no matrix may have more than {MAX_MODE} entries "
            f"(largest supported: 5 5 5)",
        )
        require(
            len(self.formats) == 1 or self.step_limit is None,
            f"--step-limit {self.step_limit}: one limit does not fit several formats; use --step-margin",
        )
        fewest = min(self.formats, key=prod)
        require(
            min(self.move_limits) >= 1,
            f"--step-margin {self.step_margin}: leaves {min(self.move_limits)} moves of the {prod(fewest)} that the "
            f"standard algorithm of {' '.join(map(str, fewest))} takes; at least {1 - prod(fewest)}",
        )
        require(
            self.moves <= MAX_MOVES,
            f"--step-limit {self.moves}: more moves than {MAX_MOVES}, which no supported format needs",
        )

    def _check_tensor(self, text: str) -> None:
        """Reads and checks the tensor, and replaces a file by the entries that it holds, so that
        the settings of a run do not depend on the file.
        """
        from matrixrl.schemes.scheme import SchemeError
        from matrixrl.schemes.tensor_files import problem_from_text, recorded_text

        flag = f"--tensor {text if len(text) <= 200 else text[:60] + '...'}"
        require(
            not self.sizes and self.size == (2, 2, 2),
            f"{flag}: takes the place of --size and --sizes; leave them out",
        )
        try:
            problem = problem_from_text(text)
        except SchemeError as error:
            raise ConfigError(f"{flag}: {error}") from error
        object.__setattr__(self, "tensor", recorded_text(problem))
        require(
            max(self.shape) <= MAX_MODE,
            f"{flag}: shape {size_name(self.shape)} given; at most {MAX_MODE} entries per mode can be trained on",
        )
        (rank,) = self.standard_ranks
        require(rank > 0, f"{flag}: every entry is even, so nothing is left modulo 2; use --ring Z")
        require(
            self.moves >= 1,
            f"--step-margin {self.step_margin}: leaves {self.moves} moves of the {rank} that the standard algorithm of "
            f"{problem} takes; at least {1 - rank}",
        )
        require(
            self.moves <= MAX_MOVES,
            f"{flag}: games have up to {self.moves} moves (the standard algorithm takes {rank} products); at most "
            f"{MAX_MOVES}, so give --step-limit",
        )

    @property
    def formats(self) -> tuple[tuple[int, int, int], ...]:
        """Formats of the games; none if `tensor` is given."""
        if self.tensor is not None:
            return ()
        if not self.sizes:
            return (self.size,)
        n_m_p = [tuple(map(int, text.split("x"))) for text in self.sizes]
        return tuple((n, m, p) for n, m, p in n_m_p)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of the games, which alternate between them."""
        return problems_of(self.tensor, self.formats)

    @property
    def name(self) -> str:
        """The problems as one word: `2x2x2`, `2x2x2-2x2x3` or `poly-3x3`."""
        if self.tensor is not None:
            return self.problems[0].name
        return "-".join(map(size_name, self.formats))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the tensor: the largest number of entries of each mode over the problems."""
        if self.tensor is not None:
            return self.problems[0].sides
        return (
            max(n * m for n, m, _ in self.formats),
            max(m * p for _, m, p in self.formats),
            max(n * p for n, _, p in self.formats),
        )

    @cached_property
    def standard_ranks(self) -> tuple[int, ...]:
        """Number of multiplications of the standard algorithm of each problem, over the ring and
        with the coefficients of the game.
        """
        if self.tensor is None:
            return tuple(map(prod, self.formats))
        if self.ring == "F2":
            return tuple(len(problem.standard(modulus=2)[0]) for problem in self.problems)
        limit = self.max_coefficient
        return tuple(len(problem.standard(max_coefficient=limit)[0]) for problem in self.problems)

    @property
    def standard_rank(self) -> int:
        """Number of multiplications of the standard algorithm for the largest problem."""
        return max(self.standard_ranks)

    @property
    def move_limits(self) -> tuple[int, ...]:
        """Maximum number of moves of a game of each problem before any scheme is found."""
        if self.step_limit is not None:
            return (self.step_limit,) * len(self.standard_ranks)
        return tuple(rank + self.step_margin for rank in self.standard_ranks)

    @property
    def moves(self) -> int:
        """Maximum number of moves of any game before any scheme is found."""
        return max(self.move_limits)


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Settings):
    """The policy and value network."""

    width: int = setting(256, minimum=8)
    """Number of units per layer of the torso."""

    num_blocks: int = setting(2, minimum=0)
    """Number of residual blocks in the torso."""

    head_width: int = setting(128, minimum=8)
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

    max_token_classes: int = setting(128, minimum=8, maximum=1024)
    """Maximum number of classes per token."""

    precision: Literal["float32", "bfloat16"] = setting("float32", may_change=True)
    """Type of the network's matrix products.
    Parameters stay float32, and on a CPU everything does.
    """


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """The tree search that selects each move."""

    num_simulations: int = setting(32, minimum=1)
    """Number of simulations per move."""

    num_candidates: int = setting(32, minimum=2)
    """Number of actions sampled from the policy at each node (K)."""

    algorithm: Literal["gumbel", "puct"] = "gumbel"
    """Search algorithm: Gumbel search with policy improvement, or PUCT with Dirichlet noise."""

    exploration: float = setting(0.5, minimum=0)
    """Scale of the noise at the root in self-play. Evaluation uses no noise."""

    candidate_temperature: float = setting(
        1.0, minimum=0.01, maximum=100, hint=" (1 draws from the policy itself)"
    )
    """Temperature of the policy from which candidates are sampled. Above 1 flattens it."""

    best_fraction: float = setting(1.0, above=0, maximum=1, hint=" (the plain mean)")
    """Fraction of the value distribution, its best part, over which the value is averaged.
    1 is the plain mean; AlphaTensor used 0.25.
    """

    record_search: bool = setting(False, may_change=True)
    """Record the search trees of one self-play game per epoch, in the folder `search` of the run.
    `matrixrl dashboard` shows them.
    """


Demonstrations = Literal["synthetic", "standard", "known"]


@dataclass(frozen=True, kw_only=True)
class DemonstrationConfig(Settings):
    """Demonstrations to learn from."""

    demonstrations: tuple[Demonstrations, ...] = ("synthetic",)
    """Sources of demonstrations.
    `synthetic`: sums of random terms; `standard`: the standard algorithm; `known`: the best known.
    """

    pretraining_steps: int = setting(500, minimum=0)
    """Number of weight updates on demonstrations before the first game."""

    max_demonstration_factors: int | None = setting(None, minimum=1, maximum=MAX_MOVES)
    """Maximum number of terms in a synthetic demonstration.
    Default: the rank of the standard algorithm.
    """

    curriculum_steps: int = setting(0, minimum=0)
    """Number of weight updates over which demonstrations grow from one term to the maximum.
    0 disables the curriculum.
    """

    min_density: float = 0.5
    """Minimum fraction of non-zero entries in synthetic factors (drawn per demonstration)."""

    max_density: float = 0.5
    """Maximum fraction of non-zero entries in synthetic factors."""

    def check(self) -> None:
        """Checks the sources and the densities of demonstrations."""
        require(
            len(set(self.demonstrations)) == len(self.demonstrations) and len(self.demonstrations) > 0,
            f"--demonstrations {' '.join(self.demonstrations)}: name one or more of synthetic, standard, known, each once",
        )
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
class SelfPlayConfig(Settings):
    """Epochs of self-play, learning and evaluation."""

    num_epochs: int = setting(100, minimum=0, may_change=True)
    """Maximum number of epochs."""

    episodes_per_epoch: int = setting(256, minimum=1)
    """Number of games per epoch."""

    parallel_games: int = setting(256, minimum=1)
    """Maximum number of games played in parallel."""

    updates_per_epoch: int = setting(100, minimum=1)
    """Number of weight updates per epoch."""

    random_basis_fraction: float = setting(1.0, minimum=0, maximum=1)
    """Fraction of games that start from the target in a random basis."""

    basis_density: float = setting(0.1, minimum=0, maximum=1)
    """Fraction of non-zero entries off the diagonals of a random basis, over Z.
    0 uses signed permutations only.
    """

    replay_size: int = setting(4096, minimum=1)
    """Capacity of the replay buffer in games, rounded down to a multiple of the search groups."""

    good_game_lifetime: float = setting(20.0, minimum=1)
    """Number of batches before a game among the best tenth of its batch may be overwritten.
    Any other game may be overwritten after one batch.
    """

    replay_fraction: float = setting(0.5, minimum=0, maximum=1)
    """Fraction of a training batch that comes from self-play. The rest are new demonstrations."""

    imitated_fraction: float = setting(0.1, minimum=0, maximum=1)
    """Fraction of the buffered games, the best ones, whose moves the policy learns from.
    0 uses none. The value learns from all.
    """

    partial_solution_fraction: float = setting(0.0, minimum=0, maximum=1, aliases=("leftover_fraction",))
    """Fraction of self-play batches whose games start from a partial solution.
    In it a random subset of a stored solution's terms is already subtracted.
    All games of a batch start alike.
    """

    refinement_rounds: int = setting(0, minimum=0, aliases=("rewriting_rounds",))
    """Number of refinement rounds after each epoch.
    Each round removes a random subset of a solution's terms, re-derives them with the policy alone,
    and keeps the result if it is no longer.
    """

    flip_polish: int = setting(0, minimum=0)
    """Number of flips per walker after each epoch, in walks on flip graphs from own solutions, or
    from the standard algorithm until there are any. Lower ranks count as finds, and the best
    schemes enter the replay buffer. 0 disables the walks.
    """

    evaluation_interval: int = setting(5, minimum=0)
    """Number of epochs between two evaluations without exploration. 0 disables evaluation."""

    evaluation_games: int = setting(16, minimum=1)
    """Number of games per evaluation, played from the standard basis."""

    stop_at_record: bool = setting(True, may_change=True)
    """Stop when the rank of the best scheme equals the best known rank of the format."""

    stop_at_rank: int | None = setting(None, minimum=1, may_change=True)
    """Rank at which the run stops."""

    def check(self) -> None:
        """Checks that a batch of games fits into the replay buffer."""
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
class OptimizerConfig(Settings):
    """AdamW with linear warm-up and cosine decay."""

    batch_size: int = setting(256, minimum=1)
    """Number of positions per weight update."""

    learning_rate: float = setting(1e-3, above=0, hint=", such as 0.001", may_change=True)
    """Peak learning rate."""

    final_learning_rate_fraction: float = setting(0.1, minimum=0, maximum=1, may_change=True)
    """Final learning rate as a fraction of its peak."""

    warmup_steps: int = setting(100, minimum=0)
    """Number of weight updates before the learning rate peaks."""

    weight_decay: float = setting(1e-4, minimum=0, may_change=True)
    """Decoupled weight decay."""

    max_grad_norm: float = setting(1.0, above=0, may_change=True)
    """Maximum global norm of the gradients. Larger gradients are scaled down."""

    value_coefficient: float = setting(0.25, minimum=0)
    """Weight of the value loss."""


@dataclass(frozen=True, kw_only=True)
class MatmulConfig(RunConfig):
    """All settings of a matmul run."""

    recorded_beside: ClassVar[tuple[str, ...]] = ("shown",)

    preset: str = "quick"
    """Preset that supplies the other defaults: quick, discover, integers, full or dev."""

    game: GameConfig = group(GameConfig)
    network: NetworkConfig = group(NetworkConfig)
    search: SearchConfig = group(SearchConfig)
    demonstration: DemonstrationConfig = group(DemonstrationConfig)
    selfplay: SelfPlayConfig = group(SelfPlayConfig)
    optimizer: OptimizerConfig = group(OptimizerConfig)

    def check(self) -> None:
        """Checks the groups against one another."""
        super().check()
        require(
            self.total_updates <= MAX_NUMBER,
            f"--num-epochs {self.selfplay.num_epochs} --updates-per-epoch {self.selfplay.updates_per_epoch}: "
            f"{self.total_updates} weight updates in all; at most {MAX_NUMBER}",
        )
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
        formats = len(self.game.standard_ranks)
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
            "known" not in self.demonstration.demonstrations
            or self.game.tensor is None
            or self.game.problems[0].known() is not None,
            f"--demonstrations known: no algorithm for {self.game.name} is stored; use synthetic or standard",
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
        return self.demonstration.max_demonstration_factors or min(self.game.standard_rank, MAX_MOVES)

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
