"""The full check of a scheme that was read from a file: proof, rings, verdict, second proof."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from matrixrl.schemes.formats import FORMATS, SchemesRead
from matrixrl.schemes.formats.draft import Reading
from matrixrl.schemes.problem import MatrixMultiplication
from matrixrl.schemes.records import Verdict, judge_scheme
from matrixrl.schemes.rings import IN_WORDS, MODULUS, Ring
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.schemes.second_proof import SecondProof, prove_again
from matrixrl.schemes.verify import Verification, finite_rings_of, is_plausible, rings_of, verify

TITLES: dict[str, str] = {name: module.TITLE for name, module in FORMATS.items()}


@dataclass(frozen=True)
class Checked:
    """A scheme with everything that is proved about it.

    Attributes:
      scheme: as judged: reduced modulo 2 or 3 if it is judged there.
      proof: the verdict in the ring in which it is judged.
      rings: every ring in which it holds.
      verdict: against the records.
      source_format: name of the file format.
      transposed: whether the file has C transposed; None if its format leaves no choice.
      explanation: why a wrong scheme may look right: it holds modulo 2 only, or with C transposed.
      announcement: what to say loudly if it beats a record, proved twice; else empty.
    """

    scheme: Scheme
    proof: Verification
    rings: tuple[Ring, ...]
    verdict: Verdict
    source_format: str
    transposed: bool | None
    explanation: str = ""
    announcement: str = ""

    @property
    def ok(self) -> bool:
        """True if the scheme is right."""
        return self.proof.ok

    @property
    def message(self) -> str:
        """One line: the proof's message, for a wrong scheme with the number of errors and the
        explanation.
        """
        if self.ok:
            return self.proof.message
        least = "" if self.proof.counted_all else "at least "
        number = self.proof.num_wrong
        more = f" ({least}{number:,} coefficients are wrong)" if number > 1 else ""
        return f"{self.proof.message}{more}{'; ' * bool(self.explanation)}{self.explanation}"

    @property
    def lines(self) -> list[str]:
        """What there is to say about a correct scheme."""
        lines = [self.proof.message, f"holds over {', '.join(self.rings)}"]
        if self.source_format != "json" or self.transposed:
            c = {None: "", True: ", C is transposed in it", False: ", C is not transposed in it"}[
                self.transposed
            ]
            lines.append(f"read as {TITLES[self.source_format]}{c}")
        return [*lines, self.verdict.message]

    @property
    def summary(self) -> dict[str, Any]:
        """The same as JSON values."""
        verdict = self.verdict
        if not self.ok:
            short = "WRONG"
        elif verdict.record is None:
            short = "correct"
        else:
            gap = verdict.rank - verdict.record
            short = "correct, " + (
                "matches the record"
                if gap == 0
                else f"{gap} above the record"
                if gap > 0
                else "BEATS THE RECORD"
                if verdict.beats
                else "no record, a better bound is computed"
            )
        return {
            "problem": self.scheme.problem.name,
            "format": self.scheme.problem.to_record().get("format"),
            "ring": self.scheme.ring,
            "rings": list(self.rings),
            "rank": self.scheme.rank,
            "verified": self.ok,
            "wrong": self.proof.num_wrong,
            "message": self.proof.message,
            "explanation": self.explanation,
            "source_format": self.source_format,
            "c_transposed": self.transposed,
            "record": verdict.record,
            "computed": verdict.computed,
            "beats_record": self.ok and verdict.beats,
            "coefficients": verdict.coefficients,
            "naive": verdict.naive,
            "verdict": verdict.message if self.ok else None,
            "short_verdict": short,
        }


def check_reading(read: SchemesRead, reading: Reading, ring: Ring | None) -> Checked:
    """Proves one scheme of a file.

    A scheme below the record is proved a second time by other code before it is announced.

    Args:
      read: the content of the file.
      reading: the scheme.
      ring: in which it is judged; None is its own. ``"Q"`` is the smallest one of characteristic 0.
    """
    scheme, failure = _judged_scheme(reading.scheme, ring)
    proof = verify(scheme) if failure is None else failure
    rings: tuple[Ring, ...] = ()
    explanation = announcement = ""
    verdict = judge_scheme(scheme)
    if not proof:
        if reading.scheme.ring in MODULUS:
            rings = () if failure is None else rings_of(reading.scheme)
        elif ring in MODULUS:
            rings = rings_of(reading.scheme)
        else:
            rings = finite_rings_of(reading.scheme)
        explanation = _explanation(reading.scheme, scheme, rings)
    else:
        rings = rings_of(reading.scheme)
        try:
            announcement = announce_record(scheme)
        except ProofsDisagreeError as error:
            proof = Verification(False, scheme.ring, 1, str(error), counted_all=False)
            explanation = "this is a defect of matrixrl; please report it with the file"
    return Checked(scheme, proof, rings, verdict, read.format, reading.transposed, explanation, announcement)


class ProofsDisagreeError(Exception):
    """Two proofs of one scheme contradict each other, which is a defect of this package."""


def announce_record(scheme: Scheme) -> str:
    """Returns what to say loudly about a scheme that passed `verify` and beats the record, after a
    second proof by independent code; empty if it beats none.

    Raises:
      ProofsDisagreeError: if the second proof fails.
    """
    verdict = judge_scheme(scheme)
    if not verdict.beats:
        return ""
    second = prove_again(scheme)
    if not second.ok:
        raise ProofsDisagreeError("the second proof contradicts the first")
    return announcement_of(verdict, second)


def announcement_of(verdict: Verdict, second: SecondProof) -> str:
    """Returns what to say loudly about a scheme that beats a record and was proved twice."""
    return (
        f"*** A NEW RECORD: {verdict.message}; proved twice by independent code, the second time "
        f"{second.words} ***"
    )


def _judged_scheme(scheme: Scheme, ring: Ring | None) -> tuple[Scheme, Verification | None]:
    """Returns the scheme in the ring in which it is judged, or the reason that it is not defined
    there.
    """
    if ring is None or ring == scheme.ring:
        return scheme, None
    if ring in MODULUS:
        try:
            return scheme.modulo(ring), None
        except SchemeError as error:
            return scheme, Verification(False, ring, 1, str(error), counted_all=False)
    if scheme.ring in MODULUS:
        reason = f"the file declares {scheme.ring}, so its signs over {ring} are unknown"
        return scheme, Verification(False, ring, 1, reason, counted_all=False)
    return scheme, None


def _explanation(given: Scheme, judged: Scheme, rings: tuple[Ring, ...]) -> str:
    if rings and given.ring in MODULUS:
        return f"it holds over {given.ring}, as the file declares"
    if rings and "Q[i]" not in rings:
        names = " and ".join(ring for ring in rings)
        words = " and ".join(IN_WORDS[ring] for ring in rings)
        flag = " or ".join(f"--ring {ring}" for ring in rings)
        return f"it holds {words} only ({names}), so it is right there and wrong over the rationals; {flag} judges it there"
    if not isinstance(given.problem, MatrixMultiplication):
        return ""
    n, _, p = given.problem.format
    if min(n, p) > 1:
        try:
            w = judged.w.reshape(-1, p, n).transpose(0, 2, 1).reshape(judged.rank, n * p)
            if is_plausible(replace(judged, w=w)):
                return "it is right with C transposed, but this format has C as it is"
        except SchemeError:
            return ""
    return ""
