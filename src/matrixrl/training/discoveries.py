"""From a solved game to a proved scheme in the run folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from matrixrl.schemes.draw import save_png
from matrixrl.schemes.equivalence import can_classify, canonical_terms, count_classes, group_order
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.lift import lift
from matrixrl.schemes.records import Verdict, judge_scheme
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify

# Different solutions of the best rank that are kept, and classes counted among so many of them at most.
MAX_SOLUTIONS = 1000
MAX_IMAGES = 20_000_000


def to_standard_basis(
    factors: tuple[np.ndarray, np.ndarray, np.ndarray],
    inverse: tuple[np.ndarray, np.ndarray, np.ndarray],
    modulus: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Factors [R, a], [R, b], [R, c] of a game played in another basis, exactly as they are in the standard one."""
    moved = tuple(
        vectors.astype(np.int64) @ matrix.T.astype(np.int64)
        for vectors, matrix in zip(factors, inverse, strict=True)
    )
    u, v, w = (np.mod(vectors, modulus) if modulus else vectors for vectors in moved)
    return u, v, w


class Discoveries:
    """The best scheme of one format, the files that hold it, and all different solutions of its rank.

    Over F2 the best scheme is lifted to the integers when it can be; the scheme modulo 2 is kept beside it, and is the
    result where there is no lift.

    Args:
      directory: the run folder.
      provenance: what every scheme of the run says about itself.
      stem: names the files: `STEM.json`, its picture and formulas, and `STEM_solutions.json`.
    """

    def __init__(self, directory: Path, provenance: dict[str, Any], stem: str = "scheme") -> None:
        self._directory = directory
        self._provenance = provenance
        self.stem = stem
        self.best: Scheme | None = None
        # What the run folder holds from an attempt that came further than the checkpoint this one goes on from.
        self._ahead: Scheme | None = None
        self.num_verified = 0
        # Of the lowest rank so far, as they were played, in canonical order of terms.
        self.solutions: dict[Scheme, None] = {}

    @property
    def scheme_file(self) -> str:
        """Name of the best scheme's file."""
        return f"{self.stem}.json"

    def check(self, scheme: Scheme) -> None:
        """Prove a solved game's scheme; it counts only after this.

        Raises:
          RuntimeError: the game says solved and the proof says no: a defect of this program.
        """
        proof = verify(scheme)
        if not proof:
            raise RuntimeError(
                f"a game ended with residual zero, yet its {scheme.rank} terms are no scheme of {scheme.format}: "
                f"{proof.message}. This is a defect of matrixrl; please report it with the run folder {self._directory}"
            )
        self.num_verified += 1
        solution = canonical_terms(scheme)
        lowest = min((kept.rank for kept in self.solutions), default=solution.rank)
        if solution.rank < lowest:
            self.solutions.clear()
        if solution.rank <= lowest and len(self.solutions) < MAX_SOLUTIONS:
            self.solutions.setdefault(solution)

    def count_solutions(self) -> str:
        """`14 solutions, 3 classes`: different ones of the lowest rank, and how many differ by more than symmetries.

        Classes are counted while that takes seconds: of the first so many solutions, which the text then says.
        """
        solutions = list(self.solutions)
        if not solutions or not can_classify(solutions[0]):
            return count_classes(solutions).message
        first = solutions[0]
        most = max(1, MAX_IMAGES // group_order(first.format, first.ring))
        counted = count_classes(solutions[:most])
        if len(solutions) <= most and len(solutions) < MAX_SOLUTIONS:
            return counted.message
        many = f"{len(solutions)}{'+' * (len(solutions) == MAX_SOLUTIONS)} solutions"
        return f"{many}, {counted.classes} class{'es' * (counted.classes != 1)} among the first {min(most, len(solutions))}"

    def save_solutions(self) -> Path | None:
        """Write all different solutions of the lowest rank to one file."""
        if not self.solutions:
            return None
        path = self._directory / f"{self.stem}_solutions.json"
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps([solution.to_record() for solution in self.solutions]))
        temporary.replace(path)
        return path

    def offer(self, scheme: Scheme, found: dict[str, Any]) -> list[Path]:
        """Keep a proved scheme if it is better than the best one.

        A lower rank is better, and at equal rank the integers are better than F2.

        Args:
          scheme: passed `check`.
          found: where and when, for the provenance.

        Returns:
          The files written, none if it is not better.
        """
        if self.best is not None and (scheme.rank, 0) >= _order(self.best):
            return []
        scheme = scheme.with_provenance(**self._provenance, **found)
        written: list[tuple[Path, Scheme]] = []
        if scheme.ring == "F2":
            lifted = lift(scheme, any_basis=True)
            if lifted.scheme is None:
                if self.best is not None and scheme.rank == self.best.rank:
                    return []
                scheme = scheme.with_provenance(lift=lifted.message)
            else:
                written.append((self._directory / f"{self.stem}_f2.json", scheme))
                scheme = lifted.scheme
        self.best = scheme = canonical_terms(scheme)
        if self._ahead is not None and _order(self._ahead) < _order(scheme):
            return []  # an earlier attempt wrote this one, and a better one since
        for path, modulo_2 in written:
            modulo_2.save(path)
        return [*(path for path, _ in written), *self._write(scheme)]

    def _write(self, scheme: Scheme) -> list[Path]:
        path, picture, text = (
            self._directory / f"{self.stem}{suffix}" for suffix in (".json", ".png", ".txt")
        )
        scheme.save(path)
        save_png(scheme, picture)
        temporary = text.with_suffix(".tmp")
        temporary.write_text(formulas(scheme) + "\n")
        temporary.replace(text)
        return [path, picture, text]

    @property
    def verdict(self) -> Verdict | None:
        """The best scheme against the table of records."""
        return None if self.best is None else judge_scheme(self.best)

    def resume(self, best: Scheme | None, num_verified: int, solutions: Iterable[Scheme] = ()) -> None:
        """Go on from a checkpoint.

        The run folder may hold a better scheme, found after the checkpoint by an attempt that was killed. Training
        finds it again, and must not know it before; but nothing worse is written over it.

        Args:
          best: the best scheme when the checkpoint was written.
          num_verified: schemes proved until then.
          solutions: different ones of the lowest rank until then.
        """
        self.best, self.num_verified = best, num_verified
        self.solutions = dict.fromkeys(solutions)
        path = self._directory / self.scheme_file
        try:
            self._ahead = Scheme.load(path)
        except SchemeError:
            # Missing or damaged: the run folder came from elsewhere. The checkpoint's own is as good.
            if best is not None:
                self._write(best)

    def settle(self) -> None:
        """At the end of training: the best scheme is the one in the run folder, whichever attempt found it."""
        if self._ahead is not None and (self.best is None or _order(self._ahead) < _order(self.best)):
            self.best = self._ahead


def _order(scheme: Scheme) -> tuple[int, int]:
    """Lower is better: the rank, then the integers before F2."""
    return scheme.rank, int(scheme.ring == "F2")
