"""Public file formats of schemes: each has a module here, and a file is recognised by its content.

`read_bytes_as_schemes` finds the format and returns what the file holds; `render` writes schemes.
`docs/schemes.md` describes every format with an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matrixrl.schemes.formats import (
    elements_json,
    maple,
    mathematica,
    matrices_text,
    npz,
    own_json,
    products,
    sms,
)
from matrixrl.schemes.formats.draft import Draft, FormatError, NotASchemeError, Reading, first_correct
from matrixrl.schemes.formats.text import Source
from matrixrl.schemes.rings import Ring
from matrixrl.schemes.scheme import Scheme, SchemeError
from matrixrl.user_files import UserFileError, parse_json

__all__ = ["FORMATS", "FormatError", "NotASchemeError", "SchemesRead", "read_bytes_as_schemes", "render"]

FORMATS = {
    module.NAME: module
    for module in (own_json, npz, mathematica, products, elements_json, maple, matrices_text, sms)
}
"""The modules by the name of their format."""


@dataclass(frozen=True)
class SchemesRead:
    """What a file holds.

    Attributes:
      format: name of the file format, a key of `FORMATS`.
      readings: the schemes in order, at least one.
    """

    format: str
    readings: list[Reading]


def read_bytes_as_schemes(
    data: bytes, ring: Ring | None = None, sibling: Callable[[str], bytes] | None = None
) -> SchemesRead:
    """Returns the schemes in the content of a file.

    Args:
      data: the content.
      ring: the ring in which the file is judged, which can decide whether C is transposed; None is
        what the file declares, or the rationals.
      sibling: returns the content of the file with another letter, of L, R and P, in its name; for
        SMS matrices in three files.

    Raises:
      NotASchemeError: if the content is in no known format.
      FormatError: if it is malformed.
    """
    if npz.is_one(data):
        return SchemesRead(npz.NAME, [_named(name, drafts, ring) for name, drafts in npz.parse(data)])
    text = _text(data)
    start = text.lstrip()[:1]
    if start == "[" or (start == "{" and not mathematica.is_one(Source.of(text[:4096], blocks=True).text)):
        return _read_json(text, ring)
    head = Source.of(text[:65536], blocks=True).text
    if mathematica.is_one(head):
        return SchemesRead(mathematica.NAME, [first_correct(mathematica.parse(text), ring)])
    if maple.is_one(head):
        return SchemesRead(maple.NAME, [first_correct(maple.parse(text), ring)])
    if sms.is_one(head):
        return SchemesRead(sms.NAME, [first_correct(_sms(text, sibling), ring)])
    if products.is_one(head):
        return SchemesRead(products.NAME, [first_correct(products.parse(text), ring)])
    if matrices_text.is_one(head):
        return SchemesRead(matrices_text.NAME, [first_correct(matrices_text.parse(text), ring)])
    raise NotASchemeError(
        "in no known format of schemes; want JSON, .npz, a nested-list table, a product list, a Maple tensor, three "
        "matrices of numbers or SMS matrices"
    )


def _named(name: str, drafts: Sequence[Draft], ring: Ring | None) -> Reading:
    try:
        return first_correct(drafts, ring)
    except SchemeError as error:
        raise FormatError(f"entry {name}: {error}" if name else str(error)) from error


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NotASchemeError(f"not a text file (byte {error.start:,} is not UTF-8)") from error
    if "\0" in text[:4096]:
        raise NotASchemeError("not a text file (it holds null bytes)")
    if not text.strip():
        raise NotASchemeError("empty, want a scheme")
    return text.replace("\r\n", "\n").replace("\r", "\n")


_FIELDS = ('"u"', '"v"', '"multiplications"')


def _read_json(text: str, ring: Ring | None) -> SchemesRead:
    try:
        value = parse_json(text)
    except UserFileError as error:
        looks_like_one = any(name in text for name in _FIELDS)
        raise (FormatError if looks_like_one else NotASchemeError)(str(error)) from error
    if not isinstance(value, list):
        name, reading = _read_record(value, ring)
        return SchemesRead(name, [reading])
    if not value:
        raise NotASchemeError("holds no scheme, the list is empty")
    readings, names = [], []
    for number, record in enumerate(value, start=1):
        try:
            name, reading = _read_record(record, ring)
        except SchemeError as error:
            kind = NotASchemeError if isinstance(error, NotASchemeError) and number == 1 else FormatError
            raise kind(f"scheme {number}: {error}") from error
        readings.append(reading)
        names.append(name)
    return SchemesRead(names[0], readings)


def _read_record(record: Any, ring: Ring | None) -> tuple[str, Reading]:
    if elements_json.is_one(record) and not own_json.is_ours(record):
        return elements_json.NAME, first_correct(elements_json.parse(record), ring)
    return own_json.NAME, Reading(own_json.parse(record), declared=True)


def _sms(text: str, sibling: Callable[[str], bytes] | None) -> list[Draft]:
    matrices = sms.parse_matrices(text)
    if len(matrices) == 1 and sibling is not None:
        matrices = []
        for letter in "LRP":
            found = sms.parse_matrices(_text(sibling(letter)))
            if len(found) != 1:
                raise FormatError(f"the file of {letter} holds {len(found)} matrices, want one")
            matrices += found
    return sms.drafts(matrices, text)


def render(schemes: Sequence[Scheme], name: str) -> bytes:
    """Returns the content of a file in the format `name` with the given schemes, at least one.

    Raises:
      SchemeError: if the format holds one scheme only, or lacks numbers that a scheme has.
    """
    module = FORMATS[name]
    if len(schemes) != 1 and not module.HOLDS_SEVERAL:
        raise SchemeError(f"a file in the format {name} holds one scheme, and {len(schemes):,} are given")
    return module.write(schemes)
