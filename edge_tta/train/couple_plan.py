"""What couples are to be made: from a recipe, or from settings of the command line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edge_tta.config import dict_digest, to_dict
from edge_tta.errors import ConfigError
from edge_tta.flow.couples import Anchoring, Simulation
from edge_tta.train.clips import choose_clips
from edge_tta.train.data.windows import WindowPolicy
from edge_tta.train.public_text import PublicTextConfig
from edge_tta.train.recipes import Recipe


@dataclass(frozen=True)
class CouplePlan:
    """What couples are made, and with what."""

    checkpoint: str
    """Model checkpoint directory with codec, text encoder and tokenizer, except for what is named below."""
    codec: str = ""
    """Checkpoint directory of the codec; empty for ``checkpoint``."""
    public_text: PublicTextConfig | None = None
    """Public networks in place of the text encoder."""
    text_cache: str = "cache/text"
    """Folder for text features."""
    teacher: str = ""
    """Checkpoint directory of the generator; empty for that of ``checkpoint``."""
    simulation: Simulation = field(default_factory=Simulation)
    captions: str = "captions"
    """Caption grammar, as in the data table of a recipe."""
    labels: tuple[str, ...] = ()
    """What captions are drawn for; empty for all labels of the grammar."""
    label_weights: tuple[float, ...] = ()
    """How often each label is drawn, in proportion; empty for all alike."""
    windows: WindowPolicy = field(default_factory=WindowPolicy)
    """Durations, and the share of captions with two labels."""
    max_frames: int = 259
    """Longest couple in latent frames."""
    frames: int = 1200
    """Latent frames simulated together."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "max_frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"couples: {name} must be at least 1, got {getattr(self, name)}")
        if self.label_weights and len(self.label_weights) != len(self.labels):
            raise ConfigError("couples: one weight a label is needed")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"couples: seed {self.seed} is out of range: it must be in 0..{2**31 - 1}")

    def digest(self) -> str:
        """Identifies the couples, together with the digests of the networks, wherever these lie."""
        plain = to_dict(dataclasses.replace(self, checkpoint="", teacher=""))
        for name in ("codec", "public_text", "text_cache"):
            del plain[name]
        return dict_digest(plain)


def plan_of_recipe(recipe: Recipe) -> CouplePlan:
    """The couples that a generator recipe would have its teacher make.

    Raises:
        ConfigError: the recipe trains no generator.
        DataError: its folder of clips cannot be read.
    """
    stage = recipe.generator
    if stage is None:
        raise ConfigError(
            f"recipe '{recipe.name}' trains the {recipe.stage}; couples are made for generators"
        )
    objective = stage.reflow or stage.one_step
    labels: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    if recipe.data.folder:
        clips = [clip for clip in choose_clips(recipe.data).clips if clip.split == "train"]
        names, counts = np.unique([clip.label for clip in clips], return_counts=True)
        # As often as training windows show them.
        labels, weights = tuple(names.tolist()), tuple(np.sqrt(counts).tolist())
    return CouplePlan(
        checkpoint=recipe.checkpoint,
        codec=stage.codec,
        public_text=stage.public_text,
        text_cache=str(Path(recipe.data.cache) / "text"),
        teacher=stage.teacher,
        simulation=Simulation() if objective is None else objective.simulation,
        captions=recipe.data.captions,
        labels=labels,
        label_weights=weights,
        windows=recipe.data.windows,
        max_frames=stage.max_frames,
        frames=stage.frames,
    )


def change_simulation(
    simulation: Simulation,
    steps: int | None = None,
    guidance: str | None = None,
    anchored: bool = False,
    reflowed: bool = False,
) -> Simulation:
    """A simulation with some settings of the command line.

    Args:
        simulation: where the others come from.
        steps: Euler steps.
        guidance: one scale such as "4", or a range such as "2:6".
        anchored: with anchored optimisation; at its defaults if the simulation has none.
        reflowed: the teacher has the scale as an input.

    Raises:
        ConfigError: not a number, or settings that do not go together.
    """
    changes: dict[str, Any] = {}
    if steps is not None:
        changes["steps"] = steps
    if guidance is not None:
        low, _, high = guidance.partition(":")
        try:
            changes |= {"min_guidance": float(low), "max_guidance": float(high or low)}
        except ValueError:
            raise ConfigError(
                f"guidance '{guidance}' is neither a scale such as 4 nor a range such as 2:6"
            ) from None
    if anchored and simulation.anchoring is None:
        changes["anchoring"] = Anchoring()
    if reflowed:
        changes["classifier_free"] = False
    return dataclasses.replace(simulation, **changes)
