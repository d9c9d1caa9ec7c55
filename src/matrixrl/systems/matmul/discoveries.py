"""From a solved game to a proved scheme in the run folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from matrixrl.schemes.check import announcement_of
from matrixrl.schemes.draw import save_png
from matrixrl.schemes.equivalence import can_classify, canonical_form, canonical_terms
from matrixrl.schemes.files import load_schemes
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.lift import lift
from matrixrl.schemes.problem import TensorProblem
from matrixrl.schemes.records import Verdict, judge_scheme
from matrixrl.schemes.scheme import Scheme, SchemeError, render_json
from matrixrl.schemes.second_proof import prove_again
from matrixrl.schemes.verify import verify
from matrixrl.whole_files import write_whole

# Maximum number of solutions of the lowest rank to keep, and maximum time in seconds for counting
# their classes.
MAX_SOLUTIONS = 1000
COUNTING_SECONDS = 5.0

# Maximum number of tensor entries in the file of solutions, which must stay readable.
MAX_SOLUTION_ENTRIES = 2_000_000


Factors = tuple[Integer[np.ndarray, "R a"], Integer[np.ndarray, "R b"], Integer[np.ndarray, "R c"]]
"""The terms of a scheme: u, v and w."""


def to_standard_basis(
    factors: Factors,
    inverse: tuple[Integer[np.ndarray, "a a"], Integer[np.ndarray, "b b"], Integer[np.ndarray, "c c"]],
    modulus: int,
) -> Factors:
    """Converts factors of a game in another basis exactly to the standard basis."""
    moved = tuple(
        vectors.astype(np.int64) @ matrix.T.astype(np.int64)
        for vectors, matrix in zip(factors, inverse, strict=True)
    )
    u, v, w = (np.mod(vectors, modulus) if modulus else vectors for vectors in moved)
    return u, v, w


class Discoveries:
    """The best scheme of one problem, its files, and all different solutions of its rank.

    Over F2 the best scheme is lifted to the integers if possible; the scheme modulo 2 is kept as
    well, and is the result if there is no lift.

    Args:
      directory: the run folder.
      provenance: provenance of every scheme of the run.
      stem: stem of the file names: `STEM.json`, its picture and formulas, and
        `STEM_solutions.json`.

    Attributes:
      on_better: called with each new best scheme, once its files are written.
      on_solution: called with each different solution of the lowest rank, once it is proved.
    """

    def __init__(self, directory: Path, provenance: dict[str, Any], stem: str = "scheme") -> None:
        self._directory = directory
        self._provenance = provenance
        self.stem = stem
        self.best: Scheme | None = None
        # Content of the run folder from an attempt that proceeded beyond the checkpoint from which
        # this one resumed.
        self._ahead: Scheme | None = None
        self.num_verified = 0
        self.on_better: Callable[[Scheme], None] | None = None
        self.on_solution: Callable[[Scheme], None] | None = None
        # Solutions of the lowest rank so far, as played, in canonical order of terms.
        self.solutions: dict[Scheme, None] = {}
        self._solutions_ahead: dict[Scheme, None] = {}
        self._unsaved = False

    @property
    def directory(self) -> Path:
        """The run folder."""
        return self._directory

    @property
    def scheme_file(self) -> str:
        """Name of the best scheme's file."""
        return f"{self.stem}.json"

    @property
    def solutions_file(self) -> str:
        """Name of the file of all different solutions of the lowest rank."""
        return f"{self.stem}_solutions.json"

    @property
    def modulo_2_file(self) -> str:
        """Name of the file of the scheme modulo 2 that was lifted to the best one."""
        return f"{self.stem}_f2.json"

    def check(self, scheme: Scheme) -> None:
        """Proves a solved game's scheme; it counts only after this.

        Raises:
          RuntimeError: if the game is solved and the proof fails: a defect of this program.
        """
        proof = verify(scheme)
        if not proof:
            raise RuntimeError(
                f"a game ended with residual zero, yet its {scheme.rank} terms are no scheme of {scheme.problem}: "
                f"{proof.message}. This is a defect of matrixrl; please report it with the run folder {self._directory}"
            )
        self.num_verified += 1
        solution = canonical_terms(scheme)
        lowest = _lowest_rank(self.solutions)
        if lowest is not None and solution.rank > lowest:
            return
        if lowest is None or solution.rank < lowest:
            self.solutions.clear()
        if solution not in self.solutions and len(self.solutions) < _max_solutions(solution):
            self.solutions[solution] = None
            self._unsaved = True
            if self.on_solution is not None:
                self.on_solution(solution)

    def count_solutions(self, seconds: float = COUNTING_SECONDS) -> str:
        """Returns, for example, `14 solutions, 3 classes`: different ones of the lowest rank, and
        their classes up to symmetries.

        Args:
          seconds: approximate time for counting classes; if it ends early, the text states how many
            solutions were examined.
        """
        number = len(self.solutions)
        most = next(map(_max_solutions, self.solutions), MAX_SOLUTIONS)
        text = f"{number}{'+' * (number == most)} solution{'s' * (number != 1)}"
        classes, counted = set(), 0
        began = time.perf_counter()
        for solution in self.solutions:
            if time.perf_counter() - began >= seconds or not can_classify(solution):
                break
            classes.add(canonical_form(solution))
            counted += 1
        if counted == 0:
            return text
        text += f", {len(classes)} class{'es' * (len(classes) != 1)}"
        return text if counted == number < most else f"{text} among the first {counted}"

    def save_solutions(self) -> None:
        """Writes all different solutions of the lowest rank to one file, if there are new ones.

        Solutions in the file from an attempt that proceeded beyond the checkpoint are kept.
        """
        if not self._unsaved:
            return
        path = self._directory / self.solutions_file
        write_whole(path, json.dumps([solution.to_record() for solution in self._all_solutions()]))
        self._unsaved = False

    def _all_solutions(self) -> dict[Scheme, None]:
        """Returns the solutions of this attempt and of one that proceeded further, of the lowest
        rank of all.
        """
        both = {**self.solutions, **self._solutions_ahead}
        lowest = _lowest_rank(both)
        kept = [solution for solution in both if solution.rank == lowest]
        return dict.fromkeys(kept[: _max_solutions(kept[0])] if kept else ())

    def offer(self, scheme: Scheme, found: dict[str, Any], *, lifts: bool = True) -> list[Path]:
        """Stores a proved scheme if it is better than the best one.

        A lower rank is better, and at equal rank the integers are better than F2.

        Args:
          scheme: passed `check`.
          found: place and time of the discovery, for the provenance.
          lifts: whether a scheme over F2 is lifted to the integers.

        Returns:
          The files written, none if it is not better.
        """
        if self.best is not None and (scheme.rank, 0) >= _order(self.best):
            return []
        scheme = scheme.with_provenance(**self._provenance, **found)
        written: list[tuple[Path, Scheme]] = []
        if scheme.ring == "F2" and lifts:
            lifted = lift(scheme, any_basis=True)
            if lifted.scheme is None:
                if self.best is not None and scheme.rank == self.best.rank:
                    return []
                scheme = scheme.with_provenance(lift=lifted.message)
            else:
                written.append((self._directory / self.modulo_2_file, scheme))
                scheme = lifted.scheme
        self.best = scheme = canonical_terms(scheme)
        files: list[Path] = []
        if self._ahead is None or _order(self._ahead) >= _order(scheme):
            for path, modulo_2 in written:
                modulo_2.save(path)
            files = [*(path for path, _ in written), *self._write(scheme)]
        # Otherwise an earlier attempt wrote this one, and later a better one.
        if self.on_better is not None:
            self.on_better(scheme)
        return files

    def _write(self, scheme: Scheme) -> list[Path]:
        path, picture, text = (
            self._directory / f"{self.stem}{suffix}" for suffix in (".json", ".png", ".txt")
        )
        scheme.save(path)
        save_png(scheme, picture)
        write_whole(text, formulas(scheme) + "\n")
        return [path, picture, text]

    @property
    def verdict(self) -> Verdict | None:
        """The best scheme against the table of records."""
        return None if self.best is None else judge_scheme(self.best)

    def announcement(self) -> str:
        """Returns what to say about the best scheme: its verdict, loudly if it beats the record and
        a second proof agrees.

        Raises:
          RuntimeError: if the second proof contradicts the first: a defect of this program.
        """
        best, verdict = self.best, self.verdict
        assert best is not None
        assert verdict is not None
        if not verdict.beats:
            return verdict.message
        second = prove_again(best)
        if not second.ok:
            raise RuntimeError(
                f"{verdict.message}, but the second proof contradicts the first. This is a defect of matrixrl; please "
                f"report it with the run folder {self._directory}"
            )
        return announcement_of(verdict, second)

    @property
    def at_record(self) -> bool:
        """True if the best scheme has the best known rank, over the integers."""
        best, verdict = self.best, self.verdict
        if best is None or verdict is None or verdict.record is None:
            return False
        return best.rank <= verdict.record and best.ring == "Z"

    def checkpoint_texts(self) -> dict[str, str]:
        """Returns the best scheme and the solutions as texts of a checkpoint, by name.

        There are none without a scheme.
        """
        if self.best is None:
            return {}
        return {
            self.scheme_file: render_json(self.best.to_record()),
            self.solutions_file: json.dumps([solution.to_record() for solution in self.solutions]),
        }

    def resume_from(self, text_of: Callable[[str], str | None], num_verified: int) -> None:
        """Continues from the texts of a checkpoint.

        Args:
          text_of: returns a text of `checkpoint_texts` by its name; None if there is none.
          num_verified: number of schemes proved until then.
        """
        text = text_of(self.scheme_file)
        best = None if text is None else Scheme.from_record(json.loads(text))
        solutions = json.loads(text_of(self.solutions_file) or "[]")
        self.resume(best, num_verified, map(Scheme.from_record, solutions))

    def resume(self, best: Scheme | None, num_verified: int, solutions: Iterable[Scheme] = ()) -> None:
        """Continues from a checkpoint.

        The run folder may hold a better scheme, found after the checkpoint by an attempt that was
        killed. Training finds it again and must not use it before, but a worse scheme never
        overwrites it.

        Args:
          best: the best scheme when the checkpoint was written.
          num_verified: number of schemes proved until then.
          solutions: different ones of the lowest rank until then.
        """
        self.best, self.num_verified = best, num_verified
        self.solutions = dict.fromkeys(solutions)
        self._solutions_ahead = _read_solutions(self._directory / self.solutions_file)
        path = self._directory / self.scheme_file
        try:
            self._ahead = Scheme.load(path)
        except SchemeError:
            # Missing or damaged: the run folder came from another machine. Use the checkpoint's.
            if best is not None:
                self._write(best)

    def finalize(self) -> None:
        """Loads the best scheme from the run folder at the end of training, whichever attempt found
        it.
        """
        if self._ahead is not None and (self.best is None or _order(self._ahead) < _order(self.best)):
            self.best = self._ahead
        self.solutions = self._all_solutions()


def _max_solutions(solution: Scheme) -> int:
    """Returns the maximum number of solutions to keep. Each one in the file repeats a tensor that
    is not built in.
    """
    if isinstance(solution.problem, TensorProblem):
        return max(1, min(MAX_SOLUTIONS, MAX_SOLUTION_ENTRIES // solution.problem.entries.size))
    return MAX_SOLUTIONS


def _lowest_rank(solutions: Iterable[Scheme]) -> int | None:
    return min((solution.rank for solution in solutions), default=None)


def _read_solutions(path: Path) -> dict[Scheme, None]:
    """Reads the solutions in a file; none if it is missing or damaged, as in a run folder from
    another machine.
    """
    try:
        return dict.fromkeys(load_schemes(path))
    except SchemeError:
        return {}


def _order(scheme: Scheme) -> tuple[int, int]:
    """Returns a sort key, lower is better: the rank, then the integers before F2."""
    return scheme.rank, int(scheme.ring == "F2")
