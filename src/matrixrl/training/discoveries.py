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
from matrixrl.schemes.scheme import Scheme
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
        if self.best is not None and (scheme.rank, 0) >= (self.best.rank, int(self.best.ring == "F2")):
            return []
        scheme = scheme.with_provenance(**self._provenance, **found)
        written: list[Path] = []
        if scheme.ring == "F2":
            lifted = lift(scheme, any_basis=True)
            if lifted.scheme is None:
                if self.best is not None and scheme.rank == self.best.rank:
                    return []
                scheme = scheme.with_provenance(lift=lifted.message)
            else:
                modulo_2 = self._directory / "scheme_f2.json"
                scheme.save(modulo_2)
                written.append(modulo_2)
                scheme = lifted.scheme
        self.best = canonical_terms(scheme)
        return [*written, *self._write(self.best)]

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

    def resume(self) -> None:
        """Take up the best scheme that the run folder holds."""
        path = self._directory / SCHEME_FILE
        if path.exists():
            self.best = Scheme.load(path)
