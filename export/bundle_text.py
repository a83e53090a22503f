"""What a bundle says about itself, read from the checkpoint's directory.

Besides weights it holds ``bundle.toml``, ``MODEL_CARD.md`` and ``ATTRIBUTIONS.csv``.
"""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge_tta.bundle.manifest import Generation, first_reason
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError


@dataclass(frozen=True)
class BundleText:
    """What a bundle says about itself."""

    version: str
    description: str
    licence: str
    training_data: str
    model_card: str
    attributions: str
    """CSV with one row per training clip."""
    commit: str
    checkpoint: str
    generation: Generation


@dataclass(frozen=True)
class BundleFacts:
    """Contents of ``bundle.toml``."""

    version: str
    description: str
    licence: str
    training_data: str
    default_guidance: float
    min_guidance: float
    max_guidance: float
    max_steps: int
    sampler: Literal["euler", "ping-pong"] = "euler"


def read_text(directory: Path) -> BundleText:
    """What a checkpoint directory says about the bundle to be made.

    Raises:
        ConfigError: one of the three files is missing or malformed.
    """
    try:
        document = tomllib.loads((directory / "bundle.toml").read_text(encoding="utf-8"))
        card = (directory / "MODEL_CARD.md").read_text(encoding="utf-8")
        attributions = (directory / "ATTRIBUTIONS.csv").read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{error.filename}: a bundle needs it ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{directory / 'bundle.toml'}: {error}") from error
    facts = from_dict(BundleFacts, document, "bundle.toml")
    try:
        generation = Generation(
            default_guidance=facts.default_guidance,
            min_guidance=facts.min_guidance,
            max_guidance=facts.max_guidance,
            max_steps=facts.max_steps,
            sampler=facts.sampler,
        )
    except ValidationError as error:
        raise ConfigError(f"{directory / 'bundle.toml'}: {first_reason(error)}") from error
    return BundleText(
        version=facts.version,
        description=facts.description,
        licence=facts.licence,
        training_data=facts.training_data,
        model_card=card,
        attributions=attributions,
        commit=_commit(directory),
        checkpoint=directory.name,
        generation=generation,
    )


def _commit(directory: Path) -> str:
    """Last commit that changed the checkpoint; nothing outside a repository, or with changes no commit holds."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(directory), *words, "--", "."]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        return "" if git("status", "--porcelain") else git("log", "-1", "--format=%H")
    except (OSError, subprocess.SubprocessError):
        return ""
