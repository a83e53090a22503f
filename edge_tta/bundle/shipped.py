"""Bundles that ship inside the package."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent.parent / "assets"
DEFAULT_BUNDLE = "edge-10m"


def shipped_bundles() -> dict[str, Path]:
    """Directories of shipped bundles by name."""
    if not ASSETS.is_dir():
        return {}
    return {path.name: path for path in sorted(ASSETS.iterdir()) if (path / "manifest.json").is_file()}
