"""Bundles: a directory that holds everything the runtime needs, verified before any of it is used."""

from edge_tta.bundle.manifest import Manifest
from edge_tta.bundle.store import Bundle

__all__ = ["Bundle", "Manifest"]
