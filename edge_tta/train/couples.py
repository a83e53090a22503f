"""Making couples: a trained generator turns noise into latents for captions of the grammar, shard by shard.

No recordings are needed, the teacher has learnt from them: captions come from the grammar, durations from the window
policy. A recipe with a folder of clips lends its labels, so that the teacher is asked for what it knows.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as NumpyGenerator
from numpy.random import default_rng
from torch import Tensor

from edge_tta.config import AudioSpec, config_digest
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.flow.couple_store import build_couple_shard, read_couple_shard, weights_digest
from edge_tta.flow.couples import Anchoring, Simulation
from edge_tta.flow.path import Condition
from edge_tta.model.checkpoint import load_model_checkpoint
from edge_tta.text import Tokenizer
from edge_tta.train.batches import to_device
from edge_tta.train.caption_features import CaptionFeatures, whole_shape
from edge_tta.train.couple_data import origin_of
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.windows import WindowPolicy
from edge_tta.train.recipes import Recipe
from edge_tta.train.run import read_catalog

logger = logging.getLogger(__name__)

SHARD_COUPLES = 256
"""Couples of a shard; an interrupted run goes on at the first shard that is missing."""

CoupleProgress = Callable[[int, int, float], Any]
"""Couples made, couples wanted, seconds that are left."""


@dataclass(frozen=True)
class CouplePlan:
    """What couples are made, and with what."""

    checkpoint: str
    """Model checkpoint directory with codec, text encoder and tokenizer."""
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
        return config_digest(dataclasses.replace(self, checkpoint="", teacher=""))


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
        clips = [clip for clip in read_catalog(recipe.data) if clip.split == "train"]
        names, counts = np.unique([clip.label for clip in clips], return_counts=True)
        # As often as training windows show them.
        labels, weights = tuple(names.tolist()), tuple(np.sqrt(counts).tolist())
    return CouplePlan(
        checkpoint=recipe.checkpoint,
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


@dataclass(frozen=True)
class _Texts:
    """Captions of one batch with their durations."""

    captions: tuple[str, ...]
    seconds: Tensor
    """float32 [B]."""
    length: int
    """Latent frames."""


def _draw_caption(plan: CouplePlan, captioner: Captioner, seconds: float, rng: NumpyGenerator) -> str:
    """A wording of one label, or of two in the policy's share."""
    labels = plan.labels or tuple(sorted(captioner.labels))
    weights = np.array(plan.label_weights) if plan.label_weights else np.ones(len(labels))

    def draw() -> str:
        return labels[int(rng.choice(len(labels), p=weights / weights.sum()))]

    label = draw()
    if rng.random() >= plan.windows.mixture_share or len(labels) < 2:
        return captioner.caption(label, rng)
    other = label
    while other == label:
        other = draw()
    sequential = seconds >= 3.0 and rng.random() < plan.windows.sequence_share
    return captioner.join(label, other, sequential, rng)


def _draw_texts(
    plan: CouplePlan, captioner: Captioner, audio: AudioSpec, wanted: int, rng: NumpyGenerator
) -> _Texts:
    """At most ``wanted`` captions for one length; durations are those that take as many latent frames."""
    length = whole_shape(min(audio.latent_frames(plan.windows.draw_seconds(rng)), plan.max_frames))
    count = max(1, min(wanted, round(plan.frames / length)))
    seconds = (length - rng.random(count)) * audio.hop / audio.sample_rate
    captions = tuple(_draw_caption(plan, captioner, float(each), rng) for each in seconds)
    return _Texts(captions, torch.from_numpy(seconds.astype(np.float32)), length)


def _draw_shard(
    plan: CouplePlan, captioner: Captioner, audio: AudioSpec, shard: int, count: int
) -> list[_Texts]:
    """Batches of a shard as a function of (seed, shard, count)."""
    rng = default_rng([plan.seed, shard])
    drawn: list[_Texts] = []
    while (left := count - sum(len(texts.captions) for texts in drawn)) > 0:
        drawn.append(_draw_texts(plan, captioner, audio, left, rng))
    return drawn


def _is_made(path: Path, count: int, origin: dict[str, str], teacher: str) -> bool:
    """Whether a shard is there, whole, and what the plan asks for.

    Raises:
        OutputError: it holds other couples.
    """
    if not path.exists():
        return False
    try:
        _, document = read_couple_shard(path)
    except DataError as error:
        logger.warning("%s", error)
        return False
    if document.get("origin") != origin or document.get("teacher_sha256") != teacher:
        raise OutputError(f"{path} holds couples of other networks or settings; choose another folder")
    return len(document["records"]) >= count


def pick_device(name: str) -> torch.device:
    """A device by name; "auto" is an accelerator if there is one.

    Raises:
        ConfigError: torch does not know or cannot use it.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator(check_available=True)
        return found if found is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{name}' cannot be used ({str(error).splitlines()[0]})") from error
    return device


def make_couples(
    plan: CouplePlan,
    output: Path,
    count: int,
    device: str = "auto",
    on_progress: CoupleProgress | None = None,
    shard_couples: int = SHARD_COUPLES,
) -> dict[str, Any]:
    """Simulate couples and store them in shards; shards that are there already are kept, so a run can be taken up.

    Args:
        plan: what to make.
        output: folder of the shards.
        count: couples in all.
        device: where the teacher runs, "auto" for an accelerator if there is one.
        on_progress: told after every batch.
        shard_couples: couples of a shard.

    Returns:
        What was made and where it is; ``drift`` is the mean distance from the unguided ends, None if unknown.

    Raises:
        ConfigError: a part is missing, or settings that do not go together.
        OutputError: the folder cannot be written, or holds other couples.
    """
    if count < 1 or shard_couples < 1:
        raise ConfigError(f"couples: the count must be at least 1, got {min(count, shard_couples)}")
    directory = Path(plan.checkpoint)
    loaded = load_model_checkpoint(directory, parts=("codec", "text_encoder"))
    origin = {**origin_of(loaded, directory), "plan_sha256": plan.digest()}
    model, encoder = loaded.config, loaded.text_encoder
    assert encoder is not None and loaded.tokenizer is not None
    tokenizer = Tokenizer(loaded.tokenizer, model.text_encoder.max_tokens)
    source = load_model_checkpoint(Path(plan.teacher or plan.checkpoint), parts=("generator",))
    if source.config.generator != model.generator or source.config.audio != model.audio:
        raise ConfigError(f"{plan.teacher} holds a generator of another shape than {directory} asks for")
    place = pick_device(device)
    teacher = source.generator
    assert teacher is not None
    teacher.requires_grad_(False)
    teacher_digest = weights_digest(teacher)
    teacher.to(place)
    captioner = Captioner.load(plan.captions)
    done = made = 0
    begin, drift = time.monotonic(), []
    paths = [output / f"couples-{number:05d}.safetensors" for number in range(-(-count // shard_couples))]
    for shard, path in enumerate(paths):
        wanted = min(shard_couples, count - shard * shard_couples)
        if not _is_made(path, wanted, origin, teacher_digest):
            drawn = _draw_shard(plan, captioner, model.audio, shard, wanted)
            # Features of one shard only: what is simulated must not depend on where a run was taken up.
            features = CaptionFeatures()
            captions = (caption for texts in drawn for caption in texts.captions)
            features.encode(encoder, lambda text: tokenizer.encode(text).ids.tolist(), captions)

            def batches(
                drawn: list[_Texts] = drawn, features: CaptionFeatures = features, before: int = done
            ) -> Any:
                nonlocal made
                finished = 0
                for texts in drawn:
                    like = torch.zeros(len(texts.captions), texts.length, model.audio.latent_channels)
                    condition: Condition = features.condition(texts.captions, texts.seconds)
                    yield texts.captions, like.to(place), to_device(condition, place)
                    finished += len(texts.captions)
                    made += len(texts.captions)
                    if on_progress is not None:
                        left = count - before - finished
                        on_progress(before + finished, count, (time.monotonic() - begin) / made * left)

            build_couple_shard(path, teacher, plan.simulation, batches(), plan.seed * 2**12 + shard, origin)
        done += wanted
        if on_progress is not None:
            pace = (time.monotonic() - begin) / made if made else 0.0
            on_progress(done, count, pace * (count - done))
        drift.append(read_couple_shard(path)[0]["drift"])
    mean = float(torch.cat(drift).mean())
    return {
        "couples": count,
        "made": made,
        "shards": len(paths),
        "folder": str(output),
        "device": str(place),
        "drift": None if np.isnan(mean) else round(mean, 4),
    }
