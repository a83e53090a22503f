"""Manifests changed by hand, with digests that agree: what a careful attacker would write."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edge_tta.bundle.canonical import canonical_bytes, document_digest


def read_manifest(root: Path) -> dict[str, Any]:
    """A bundle's manifest as it is in its file."""
    document: dict[str, Any] = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    return document


def seal_manifest(root: Path, document: dict[str, Any]) -> None:
    """Write a manifest in canonical form with a right digest."""
    document["digest"] = document_digest(document)
    (root / "manifest.json").write_bytes(canonical_bytes(document))


def describe_file(data: bytes) -> dict[str, Any]:
    """What a stage's entry says of its file's content."""
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
