"""Making couples: a trained generator turns noise into latents for captions of the grammar, shard by shard.

No recordings are needed, the teacher has learnt from them: captions come from the grammar, durations from the window
policy. A recipe with a folder of clips lends its labels, so that the teacher is asked for what it knows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator as NumpyGenerator
from numpy.random import default_rng
from torch import Tensor

from edge_tta.config import AudioSpec
from edge_tta.errors import ConfigError, DataError, OutputError
from edge_tta.flow.couple_store import build_couple_shard, read_couple_shard, weights_digest
from edge_tta.flow.path import Condition
from edge_tta.model.checkpoint import load_model_checkpoint
from edge_tta.train.batches import to_device
from edge_tta.train.caption_features import CaptionFeatures, whole_shape
from edge_tta.train.couple_data import origin_of
from edge_tta.train.couple_plan import CouplePlan
from edge_tta.train.data.captions import Captioner
from edge_tta.train.frozen import load_frozen

logger = logging.getLogger(__name__)

SHARD_COUPLES = 256
"""Couples of a shard; an interrupted run goes on at the first shard that is missing."""

CoupleProgress = Callable[[int, int, float], Any]
"""Couples made, couples wanted, seconds that are left."""


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
    codec = Path(plan.codec) if plan.codec else None
    directory = Path(plan.teacher or plan.checkpoint)
    loaded = load_model_checkpoint(directory, parts=("generator",))
    model, teacher = loaded.config, loaded.generator
    frozen = load_frozen(model, Path(plan.checkpoint), codec, plan.public_text, Path(plan.text_cache))
    origin = {**origin_of(frozen.codec, frozen.text), "plan_sha256": plan.digest()}
    frozen.require_text_of(directory)
    frozen.require_latents_of(directory)
    place = pick_device(device)
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
            features.encode(frozen.text, captions)

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
