"""The one byte form of a manifest, its digest, and a JSON reader that takes nothing else."""

from __future__ import annotations

import hashlib
import json
from typing import Any

MAX_MANIFEST_BYTES = 256 * 1024
MAX_DEPTH = 8
UNSEALED = "0" * 64
"""Digest of a manifest that has not been sealed."""


def canonical_bytes(document: dict[str, Any]) -> bytes:
    """Sorted keys, no spaces, ASCII, newline at the end.

    Raises:
        ValueError: a number is not finite.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return (text + "\n").encode("ascii")


def document_digest(document: dict[str, Any]) -> str:
    """SHA-256 of the canonical form with the field ``digest`` all zeros, hexadecimal."""
    return hashlib.sha256(canonical_bytes({**document, "digest": UNSEALED})).hexdigest()


def parse_document(data: bytes) -> dict[str, Any]:
    """A JSON object of bounded size and depth, without duplicate keys, NaN or anything beyond ASCII.

    Raises:
        ValueError: says what is wrong.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"{len(data)} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    if not data.isascii():
        raise ValueError("not ASCII")
    text = data.decode("ascii")
    # Counted first: the JSON parser recurses as deep as it is told to.
    if _depth(text) > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    document = json.loads(text, parse_constant=_reject_constant, object_pairs_hook=_reject_duplicates)
    if not isinstance(document, dict):
        raise ValueError("not an object")
    return document


def one_line(text: str) -> str:
    """A message in which a stranger's keys may appear: printable characters only, at most 300."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    return line if len(line) <= 300 else line[:299] + "…"


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise ValueError("a key appears twice")
    return document


def _depth(text: str) -> int:
    deepest = depth = 0
    inside = escaped = False
    for character in text:
        if inside:
            escaped, inside = character == "\\" and not escaped, character != '"' or escaped
        elif character == '"':
            inside = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest
