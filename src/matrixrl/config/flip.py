"""Settings of a search on flip graphs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from matrixrl.config.fields import ConfigError, Settings, group, require, setting
from matrixrl.config.matmul import problems_of
from matrixrl.config.run import TrackedRunConfig

if TYPE_CHECKING:
    from matrixrl.schemes.problem import Problem

MAX_ENTRIES = 256
"""Maximum number of entries of a factor: the walks keep it as a mask of so few bits."""

MAX_TABLE_SIDE = 8
"""Largest side of the formats of `--all`."""

MAX_CYCLIC_SIDE = 11
"""Largest side of the matrices of `--symmetry cyclic`."""

DEFAULT_SIZE = (2, 2, 2)
DEFAULT_TABLE_SIDE = 5
MIN_WALKERS = 8
"""Default number of walkers on a machine with fewer cores: the result does not depend on them."""

MAX_WALKERS = 4096

MAX_RAY_FLIPS = 100_000_000
"""Maximum number of flips of a walker between two exchanges on a cluster: less than a minute of
walking, which is what a lost node costs.
"""


@dataclass(frozen=True, kw_only=True)
class FlipGraphConfig(Settings):
    """The problem, and when the search ends."""

    size: tuple[int, int, int] | None = None
    """Format n m p: an n x m matrix times an m x p matrix. Default: that of --start, or 2 2 2."""

    tensor: str | None = None
    """Tensor to decompose instead of a format: a file, or the name of a built-in problem.
    FILE.npz (or .npy) holds one array of integers with three axes.
    """

    all: bool = False
    """Search all formats n <= m <= p up to --max, one after the other, again and again.
    The best scheme of each format seeds its neighbours.
    """

    max: int | None = setting(None, minimum=2, maximum=MAX_TABLE_SIDE)
    """Largest side of the formats of --all. Default: 5."""

    ring: Literal["F2", "Z"] = "F2"
    """Ring of the coefficients.
    `F2`: modulo 2, then lifted to the integers if possible. `Z`: integers -1, 0 and 1.
    """

    start: Path | None = None
    """File of one or more schemes to start from, or `library` for those that come with matrixrl.
    Schemes of other formats are extended, shrunk or joined. Default: the standard algorithm.
    """

    target_rank: int | None = setting(None, minimum=1, may_change=True)
    """Rank at which the search ends. Default: the best known rank over the ring."""

    flips: int | None = setting(None, minimum=1, countable=False, may_change=True)
    """Number of flips, of all walkers together, after which the search ends. Default: no limit."""

    def check(self) -> None:
        """Checks the problem, and reads the tensor of a file."""
        if self.all:
            self._check_table()
            return
        require(self.max is None, f"--max {self.max}: the largest side of --all; add --all, or give --size")
        if self.tensor is not None:
            self._check_tensor(self.tensor)
            shown = f"--tensor {self.name}"
        else:
            shown = f"--size {' '.join(map(str, self.formats[0]))}"
            require(min(self.formats[0]) >= 1, f"{shown}: every side must be 1 or more, such as --size 2 2 3")
        require(
            max(self._sides) <= MAX_ENTRIES,
            f"{shown}: a factor has {max(self._sides)} entries; walks take at most {MAX_ENTRIES}, such as 16 16 16",
        )

    def _check_table(self) -> None:
        """Checks that no single problem is named beside `--all`."""
        named = {"--size": self.size, "--tensor": self.tensor}
        for flag, value in {**named, "--target-rank": self.target_rank}.items():
            require(value is None, f"{flag}: names a single search; leave out either {flag} or --all")

    def _check_tensor(self, text: str) -> None:
        """Replaces the file of a tensor by its entries, so that a run does not depend on it."""
        from matrixrl.schemes.scheme import SchemeError
        from matrixrl.schemes.tensor_files import problem_from_text, recorded_text

        flag = f"--tensor {text if len(text) <= 200 else text[:60] + '...'}"
        require(self.size is None, f"{flag}: takes the place of --size; leave one of them out")
        try:
            problem = problem_from_text(text)
        except SchemeError as error:
            raise ConfigError(f"{flag}: {error}") from error
        object.__setattr__(self, "tensor", recorded_text(problem))
        require(
            self._standard_rank(problem) > 0,
            f"{flag}: every entry is even, so nothing is left modulo 2; use --ring Z",
        )

    @property
    def _sides(self) -> Sequence[int]:
        if self.tensor is not None:
            return self.problems[0].sides
        n, m, p = self.formats[0]
        return n * m, m * p, n * p

    def _standard_rank(self, problem: Problem) -> int:
        """Returns the rank of the standard algorithm over the ring."""
        factors = problem.standard(modulus=2) if self.ring == "F2" else problem.standard(max_coefficient=1)
        return len(factors[0])

    @property
    def formats(self) -> tuple[tuple[int, int, int], ...]:
        """Formats of the search; none if `tensor` is given."""
        if self.all:
            sides = range(2, (self.max or DEFAULT_TABLE_SIDE) + 1)
            formats = [(n, m, p) for n, m, p in combinations_with_replacement(sides, 3)]
            return tuple(sorted(formats, key=lambda sizes: (sizes[0] * sizes[1] * sizes[2], sizes)))
        return () if self.tensor is not None else (self.size or DEFAULT_SIZE,)

    @cached_property
    def problems(self) -> tuple[Problem, ...]:
        """Problems of the search."""
        return problems_of(self.tensor, self.formats)

    @property
    def name(self) -> str:
        """The search as one word: `3x3x4`, `poly-3x3` or `all-5`."""
        if self.all:
            return f"all-{self.max or DEFAULT_TABLE_SIDE}"
        return self.problems[0].name


DEFAULT_MOVES: Mapping[str, Mapping[str, float]] = {
    "none": {
        "plus_after": 20_000,
        "max_excess": 2,
        "restart_after": 4_000_000,
        "fresh_probability": 0.5,
    },
    "cyclic": {
        "plus_after": 50_000,
        "max_excess": 30,
        "restart_after": 300_000_000,
        "fresh_probability": 0.9,
    },
}
"""Defaults of the walkers' moves for each symmetry."""


@dataclass(frozen=True, kw_only=True)
class FlipWalkConfig(Settings):
    """The walkers."""

    symmetry: Literal["none", "cyclic"] = "none"
    """Symmetry that all schemes of the search have: far fewer products to move.
    `cyclic`: for square matrices, over F2. Products come in threes, a b c, b c a and c a b, or have
    three equal factors.
    """

    num_walkers: int | None = setting(None, minimum=1, maximum=MAX_WALKERS)
    """Number of walkers. They run on all cores.
    The result depends on their number and not on that of the cores. Default: 8, or one per core of
    the machine or cluster.
    """

    flips_per_round: int = setting(2_000_000, minimum=1, maximum=10**9)
    """Number of flips of each walker between two exchanges of schemes.
    The first rounds are shorter. A stop waits for the end of the round.
    """

    plus_after: int | None = setting(None, minimum=1, maximum=10**9)
    """Number of flips without progress after which a walker raises its rank (plus): by one, or by
    three with --symmetry cyclic. Default: 20,000; with --symmetry cyclic 50,000.
    """

    max_excess: int | None = setting(None, minimum=0, maximum=64)
    """Maximum number of ranks by which plus may exceed the lowest rank of a walk.
    Default: 2; with --symmetry cyclic 30.
    """

    restart_after: int | None = setting(None, minimum=1, maximum=10**12, countable=False)
    """Number of flips without a lower rank after which a walk ends and another one starts.
    Default: 4,000,000; with --symmetry cyclic 300,000,000.
    """

    fresh_probability: float | None = setting(None, minimum=0, maximum=1)
    """Fraction of starts that are fresh instead of from the pool.
    From the standard algorithm, the schemes of --start, with --all also those of neighbouring
    formats, or a random scheme with the symmetry. Default: 0.5; with --symmetry cyclic 0.9.
    """

    restart_choice: Literal["uniform", "flips", "learned"] = "uniform"
    """Choice of the scheme from which a walk starts, among those of the pool.
    `uniform`: at random. `flips`: in proportion to the number of possible flips. `learned`: by the
    outcomes of earlier walks, which also decide about the standard algorithm.
    """

    long_range: Literal["auto", "none", "exact", "policy"] = "auto"
    """Re-derivation of several products by a walk that is stuck.
    `exact`: 4 to 6 products, by an exact search over F2. `policy`: 6 to 12, by the agent of
    --refine-with. `auto`: `policy` with --refine-with, else `none`.
    """

    refine_with: str | None = None
    """Agent of `--long-range policy`: name, id or folder of a run of `matmul train`, or `latest`.
    It is copied into the run folder.
    """

    long_range_rounds: int = setting(1, minimum=1, maximum=1_000_000)
    """Number of rounds without a lower rank after which a walk makes a long-range move."""

    pool_size: int = setting(500, minimum=1, maximum=100_000)
    """Maximum number of schemes that the pool keeps of each rank."""

    visit_rounds: int = setting(8, minimum=1, maximum=1_000_000)
    """Number of rounds for a format before --all continues with the next one."""

    def check(self) -> None:
        """Checks the long-range moves, and that they have the symmetry."""
        require(
            self.symmetry == "none" or self.move == "none",
            f"--long-range {self.long_range} --symmetry {self.symmetry}: re-derived products have no symmetry; leave "
            "one of them out",
        )
        require(
            self.long_range != "policy" or self.refine_with is not None,
            "--long-range policy: needs a trained agent; give --refine-with RUN, a run of `matrixrl matmul train`",
        )
        require(
            self.long_range in ("auto", "policy") or self.refine_with is None,
            f"--refine-with {self.refine_with}: belongs to --long-range policy, but --long-range {self.long_range} "
            "is given; leave one of them out",
        )

    @property
    def moves(self) -> dict[str, float]:
        """The walkers' moves: `plus_after`, `max_excess`, `restart_after` and `fresh_probability`,
        as given or by default.
        """
        defaults = DEFAULT_MOVES[self.symmetry]
        given = {name: getattr(self, name) for name in defaults}
        return {name: defaults[name] if value is None else value for name, value in given.items()}

    @property
    def move(self) -> Literal["none", "exact", "policy"]:
        """Kind of the long-range moves."""
        if self.long_range == "auto":
            return "policy" if self.refine_with else "none"
        return self.long_range

    @property
    def walkers(self) -> int:
        """Number of walkers; without a given one, that of this machine."""
        return default_walkers(os.cpu_count() or 1) if self.num_walkers is None else self.num_walkers


def default_walkers(cores: int) -> int:
    """Returns the default number of walkers on a machine or cluster."""
    return min(max(MIN_WALKERS, cores), MAX_WALKERS)


@dataclass(frozen=True, kw_only=True)
class WalkPlaceConfig(Settings):
    """Where the walkers run. The result does not depend on it."""

    may_change: ClassVar[bool] = True

    on: Literal["local", "ray"] = setting("local", of_run=True)
    """Where walkers run: on the cores of this machine, or on those of a Ray cluster."""

    jobs: int | None = setting(None, minimum=1, of_run=True)
    """Maximum number of walkers at once. Default: one per core."""

    ray_address: str | None = setting(None, of_run=True)
    """Address of the Ray cluster's head, HOST:PORT, or auto.
    Default: RAY_ADDRESS, otherwise a cluster of this machine for this command.
    """


@dataclass(frozen=True, kw_only=True)
class FlipConfig(TrackedRunConfig):
    """All settings of a search on flip graphs."""

    graph: FlipGraphConfig = group(FlipGraphConfig)
    walk: FlipWalkConfig = group(FlipWalkConfig)
    place: WalkPlaceConfig = group(WalkPlaceConfig)

    def check(self) -> None:
        """Checks that the search ends, and that a lost node costs less than a minute of a walk."""
        super().check()
        flips = self.walk.flips_per_round
        require(
            self.place.on == "local" or flips <= MAX_RAY_FLIPS,
            f"--flips-per-round {flips}: with --on ray at most {MAX_RAY_FLIPS}, so that a lost node costs less than a "
            "minute of each walk",
        )
        graph = self.graph
        self._check_symmetry()
        require(
            self.walk.move != "exact" or graph.ring == "F2",
            f"--long-range exact --ring {graph.ring}: products are re-derived exactly over F2 only; give --ring F2, or "
            "--refine-with RUN",
        )
        if graph.all or graph.target_rank is not None or graph.flips is not None or self.time is not None:
            return
        from matrixrl.schemes.problem import coefficients_of_ring

        require(
            graph.problems[0].best_known_rank(coefficients_of_ring(graph.ring)) is not None,
            f"no best known rank of {graph.name} over {graph.ring} is on record, so nothing ends the search; "
            "give --target-rank, --flips or --time",
        )

    def _check_symmetry(self) -> None:
        """Checks that the search has the symmetry that its schemes shall have."""
        graph, symmetry = self.graph, self.walk.symmetry
        if symmetry == "none":
            return
        flag = f"--symmetry {symmetry}"
        require(graph.ring == "F2", f"{flag} --ring {graph.ring}: is for walks over F2; leave --ring out")
        require(
            not graph.all and graph.tensor is None,
            f"{flag}: is for one format of square matrices; leave out --all and --tensor, and give --size 5 5 5",
        )
        n, m, p = graph.formats[0]
        require(
            n == m == p and 2 <= n <= MAX_CYCLIC_SIDE,
            f"{flag} --size {n} {m} {p}: want square matrices from 2 2 2 to {' '.join([str(MAX_CYCLIC_SIDE)] * 3)}, "
            "such as --size 5 5 5",
        )
