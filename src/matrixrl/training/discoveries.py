"""From a solved game to a proved scheme in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from matrixrl.schemes.draw import save_png
from matrixrl.schemes.equivalence import canonical_terms
from matrixrl.schemes.formulas import formulas
from matrixrl.schemes.lift import lift
from matrixrl.schemes.records import Verdict, judge_scheme
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.verify import verify

SCHEME_FILE = "scheme.json"


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
    """The best scheme of a run, and the files that hold it.

    Over F2 the best scheme is lifted to the integers when it can be; the scheme modulo 2 is kept beside it, and is the
    result where there is no lift.

    Args:
      directory: the run folder.
      provenance: what every scheme of the run says about itself.
    """

    def __init__(self, directory: Path, provenance: dict[str, Any]) -> None:
        self._directory = directory
        self._provenance = provenance
        self.best: Scheme | None = None
        # What the run folder holds from an attempt that came further than the checkpoint this one goes on from.
        self._ahead: Scheme | None = None
        self.num_verified = 0

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
                written.append((self._directory / "scheme_f2.json", scheme))
                scheme = lifted.scheme
        self.best = scheme = canonical_terms(scheme)
        if self._ahead is not None and _order(self._ahead) < _order(scheme):
            return []  # an earlier attempt wrote this one, and a better one since
        for path, modulo_2 in written:
            modulo_2.save(path)
        return [*(path for path, _ in written), *self._write(scheme)]

    def _write(self, scheme: Scheme) -> list[Path]:
        path, picture, text = (self._directory / name for name in (SCHEME_FILE, "scheme.png", "scheme.txt"))
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

    def resume(self, best: Scheme | None, num_verified: int) -> None:
        """Go on from a checkpoint.

        The run folder may hold a better scheme, found after the checkpoint by an attempt that was killed. Training
        finds it again, and must not know it before; but nothing worse is written over it.

        Args:
          best: the best scheme when the checkpoint was written.
          num_verified: schemes proved until then.
        """
        self.best, self.num_verified = best, num_verified
        path = self._directory / SCHEME_FILE
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
