"""What a run is, and with which other settings it may be taken up again: those that change nothing that is learnt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_tta.config import dict_digest
from edge_tta.errors import TrainingError

STEPS, FINAL_RATE = "loop.steps", "loop.final_learning_rate"

WATCHED = frozenset(
    {
        "name",
        "description",
        "loop.device",
        "loop.log_every",
        "loop.checkpoint_every",
        "loop.validate_every",
        "loop.max_bad_steps",
        "loop.divergence_factor",
        "loop.divergence_steps",
        "loop.divergence_loss_factor",
        "loop.divergence_loss_steps",
        "data.cache",
        "data.num_validation_windows",
        "generator.compile",
        "generator.sample_prompts",
        "generator.sample_steps",
        "generator.sample_guidance",
        "generator.sample_seconds",
        # Where weights began: a checkpoint holds what has become of them.
        "codec.start",
        "generator.start",
        "tagger.start",
    }
)
"""Settings that decide where a run computes and how it is watched, and not what it learns."""

PLACES = frozenset(
    {
        "checkpoint",
        "data.folder",
        "data.layout",
        "data.latents",
        "data.captions",
        "envelope.start",
        "text_encoder.teacher",
        "text_encoder.extra_texts",
        "text_wordings.captions",
        "text_wordings.teacher",
        "generator.teacher",
        "generator.couples",
        "generator.codec",
        "generator.public_text.t5",
        "generator.public_text.clap",
    }
)
"""Settings that say where something lies that is learnt from: it may move, as long as it stays what it was."""

MOST_NAMED = 6
"""Settings that a message names; a recipe of another stage differs in dozens."""


@dataclass(frozen=True)
class Definition:
    """What a run is."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Nested plain settings; one that is missing has its default."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """Digests of what is learnt from, by its name; see ``Stage.origin``."""

    def plain(self) -> dict[str, Any]:
        """JSON values that checkpoints keep."""
        settings = dict(self.settings)
        return {"digest": dict_digest(settings), "settings": settings, "origin": dict(self.origin)}

    def require_settings(self, stored: Mapping[str, Any], directory: Path) -> str:
        """Check that a checkpoint is of a run with these settings, but for those that change nothing that is learnt.

        More or fewer steps are another schedule, unless the learning rate stays constant.

        Args:
            stored: plain values of the checkpoint.
            directory: of the run, for messages.

        Returns:
            The settings that differ and may, with both values; empty if none does.

        Raises:
            TrainingError: names the settings that differ, with both values.
        """
        if stored.get("digest") == dict_digest(dict(self.settings)):
            return ""
        if "settings" not in stored:
            raise TrainingError(
                f"{directory} belongs to another recipe, of which this checkpoint of an earlier release tells no "
                "more; choose another --output"
            )
        before, now = _flat(stored["settings"]), _flat(self.settings)
        changed = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
        free = {*WATCHED, *PLACES, *([STEPS] if now.get(FINAL_RATE) == 1 else [])}
        barred = [name for name in changed if name not in free]
        if barred:
            why = f"; the learning rate follows {STEPS} unless {FINAL_RATE} is 1" if STEPS in barred else ""
            raise TrainingError(
                f"{directory} was trained with other settings: {_told(barred, before, now)}{why}; give back what "
                "was, or choose another --output"
            )
        return _told(changed, before, now)

    def require_origin(self, stored: Mapping[str, Any], directory: Path) -> None:
        """Check that what is learnt from is what a run has learnt from so far, wherever it lies now.

        Raises:
            TrainingError: names what is another one.
        """
        for name, digest in stored.get("origin", {}).items():
            # Latents of earlier releases do not say what they were made from.
            found = self.origin.get(name, digest)
            if found != digest:
                raise TrainingError(
                    f"{directory} has learnt from another {name} so far ({_short(digest)}, this is {_short(found)}); "
                    "give back what was, or choose another --output"
                )


def _flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted name; tables that are not there are left out."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{above}{name}.")
        elif value is not None:
            flat[above + name] = value
    return flat


def _told(names: list[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Settings with the values that they have and had."""
    parts = [f"{name} {_value(now, name)} (was {_value(before, name)})" for name in names[:MOST_NAMED]]
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join([*parts, *more])


def _value(values: Mapping[str, Any], name: str) -> str:
    if name not in values:
        return "not given"
    text = json.dumps(values[name])
    return text if len(text) <= 60 else f"{text[:57]}..."


def _short(digest: str) -> str:
    return digest[:12] or "none"
