"""How far a variant is from the reference: each stage on the reference's inputs, and the whole from the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_tta.audio import Audio
from edge_tta.errors import BackendError
from edge_tta.evaluate.defects import Defects, count_defects, find_defects
from edge_tta.evaluate.frechet import frechet_change, frechet_estimate
from edge_tta.evaluate.loudness import integrated_loudness
from edge_tta.evaluate.parity_results import ClipParity, Levels
from edge_tta.evaluate.rendition import Rendition, latent_from_text, render, waveform_from_latent
from edge_tta.evaluate.spectral import (
    FloatArray,
    MelSpec,
    log_mel_distance,
    multi_resolution_stft_distance,
)
from edge_tta.evaluate.statistics import Estimate, Spread, mean_estimate, share_estimate, spread
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import Tagger
from edge_tta.runtime import GenerationRequest
from edge_tta.runtime.backend import LoadedModel
from edge_tta.runtime.golden import signal_to_noise_db


@dataclass(frozen=True)
class Item:
    """One sound to make."""

    prompt: Prompt
    request: GenerationRequest


@dataclass(frozen=True, eq=False)
class Heard:
    """What is kept of one sound beside the waveform."""

    loudness_lufs: float | None
    rank: int | None
    """Place of the prompt's label in the tagger's list; None without a tagger or a single label that it knows."""
    embedding: FloatArray | None
    """[D]; None where there is no rank."""


def choose_prompts(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """``count`` prompts spread evenly over the list, or all where it has fewer; every suite keeps its share."""
    count = min(count, len(prompts))
    places = np.floor((np.arange(count) + 0.5) * len(prompts) / count).astype(int)
    return [prompts[place] for place in places]


def make_items(
    prompts: Sequence[Prompt],
    seeds_per_prompt: int,
    first_seed: int,
    *,
    seconds: float,
    steps: int,
    guidance: float | None,
) -> list[Item]:
    """Every prompt with its seeds: prompt p uses first_seed + p * seeds_per_prompt and following.

    Raises:
        RequestError: a prompt, seed or duration is out of range.
    """
    return [
        Item(prompt, GenerationRequest(prompt.text, seconds, first_seed + number, steps, guidance))
        for number, prompt in enumerate(p for p in prompts for _ in range(seeds_per_prompt))
    ]


def hear(audio: Audio, prompt: Prompt, tagger: Tagger | None) -> Heard:
    """Loudness of a sound, and what the tagger makes of it."""
    loudness = integrated_loudness(audio)
    label = tagger.index(prompt.labels[0]) if tagger is not None and len(prompt.labels) == 1 else None
    if tagger is None or label is None:
        return Heard(loudness, None, None)
    tags = tagger.tag([audio.samples], audio.sample_rate)
    rank = int(np.flatnonzero(tags.ranked(len(tagger.labels))[0] == label)[0])
    return Heard(loudness, rank, tags.embeddings[0])


def compare_clip(
    item: Item, reference: Rendition, reference_heard: Heard, model: LoadedModel, tagger: Tagger | None
) -> tuple[ClipParity, Heard, Rendition]:
    """One sound of a variant beside the reference's.

    Args:
        item: what both were asked for.
        reference: what the reference made of it.
        reference_heard: and how that was heard.
        model: the variant.
        tagger: judge of adherence, if there is one.

    Raises:
        BackendError: a stage failed, or its output has another shape than the reference's.
    """
    made = render(model, item.request)
    latent = latent_from_text(model, item.request, reference.text)
    decoded = waveform_from_latent(model, item.request, reference)
    pairs: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {
        "ids": (reference.ids, made.ids),
        "token features": (reference.tokens, made.tokens),
        "sentence vector": (reference.pooled, made.pooled),
        "latent": (reference.latent, latent),
        "waveform": (reference.waveform, decoded),
    }
    for what, (expected, found) in pairs.items():
        if expected.shape != found.shape:
            raise BackendError(
                f"{model.backend.name}: {what} {found.shape}, the reference has {expected.shape}"
            )
    rate = reference.audio.sample_rate
    heard = hear(made.audio, item.prompt, tagger)
    loudness = reference_heard.loudness_lufs, heard.loudness_lufs
    clip = ClipParity(
        prompt=item.prompt.text,
        suite=item.prompt.suite,
        labels=item.prompt.labels,
        seed=item.request.seed,
        tokens_snr_db=signal_to_noise_db(reference.tokens, made.tokens),
        pooled_snr_db=signal_to_noise_db(reference.pooled, made.pooled),
        generator_snr_db=signal_to_noise_db(reference.latent, latent),
        decoder_snr_db=signal_to_noise_db(reference.waveform, decoded),
        decoder_log_mel=mel_distance(reference.waveform, decoded, rate),
        decoder_stft=stft_distance(reference.waveform, decoded),
        latent_snr_db=signal_to_noise_db(reference.latent, made.latent),
        waveform_snr_db=signal_to_noise_db(reference.audio.samples, made.audio.samples),
        log_mel=mel_distance(reference.audio.samples, made.audio.samples, rate),
        stft=stft_distance(reference.audio.samples, made.audio.samples),
        loudness_lufs=loudness[1],
        loudness_change_lu=None if None in loudness else loudness[1] - loudness[0],  # type: ignore[operator]
        defects=find_defects(made.waveform, made.audio),
        rank=heard.rank,
        reference_rank=reference_heard.rank,
    )
    return clip, heard, made


def mel_distance(reference: FloatArray, estimate: FloatArray, sample_rate: int) -> float:
    """``log_mel_distance`` of [channels, frames], mean over channels, with bands up to 16 kHz or half the rate."""
    spec = MelSpec(sample_rate, high_hz=min(MelSpec.high_hz, sample_rate / 2))
    distances = [
        log_mel_distance(one, other, sample_rate, spec=spec)
        for one, other in zip(reference, estimate, strict=True)
    ]
    return float(np.mean(distances))


def stft_distance(reference: FloatArray, estimate: FloatArray) -> float:
    """``multi_resolution_stft_distance`` of [channels, frames], mean over channels."""
    pairs = zip(reference, estimate, strict=True)
    return float(np.mean([multi_resolution_stft_distance(one, other) for one, other in pairs]))


def figures_of(
    clips: Sequence[ClipParity],
    heard: Sequence[Heard],
    reference: Sequence[Heard],
    real: FloatArray | None,
    generator: np.random.Generator,
) -> dict[str, Spread]:
    """Figures of a variant by key of ``FIGURES``; those that cannot be had are left out.

    Intervals resample whole prompts, those of adherence and Fréchet distance whole labels, each sound together with
    its reference.

    Args:
        clips: every sound beside its reference.
        heard: how the variant's sounds were heard, in the same order.
        reference: the same of the reference's.
        real: embeddings of real clips [m, D].
        generator: source of the bootstrap.
    """
    prompts = [clip.prompt for clip in clips]
    found = {
        key: spread([getattr(clip, name) for clip in clips], generator, groups=prompts)
        for key, name in _CLIP_FIGURES.items()
    }
    changes = [(clip.prompt, change) for clip in clips if (change := clip.loudness_change_lu) is not None]
    if changes:
        found["end_to_end.loudness_change_lu"] = spread(
            [change for _, change in changes], generator, groups=[prompt for prompt, _ in changes]
        )
    judged = [(clip, clip.rank, clip.reference_rank) for clip in clips]
    ranked = [
        (c.labels[0], rank, before) for c, rank, before in judged if rank is not None and before is not None
    ]
    labels = [label for label, _, _ in ranked]
    for name, limit in (("top1", 1), ("top5", 5)):
        if ranked:
            hits = [100.0 * ((rank < limit) - (before < limit)) for _, rank, before in ranked]
            # An observation is a sound gained, kept or lost: median and extremes would say nothing.
            found[f"end_to_end.{name}_change_points"] = _without_extremes(hits, labels, generator)
    before, after = embeddings_of(reference), embeddings_of(heard)
    if real is not None and before is not None and after is not None and len(after) >= 2:
        moved = frechet_change(before, after, real, generator, groups=labels)
        found["end_to_end.frechet_change_percent"] = Spread(moved.value, moved.low, moved.high, moved.n)
    return found


_CLIP_FIGURES = {
    "text_encoder.tokens_snr_db": "tokens_snr_db",
    "text_encoder.pooled_snr_db": "pooled_snr_db",
    "generator.latent_snr_db": "generator_snr_db",
    "decoder.waveform_snr_db": "decoder_snr_db",
    "decoder.log_mel_distance": "decoder_log_mel",
    "decoder.stft_distance": "decoder_stft",
    "end_to_end.latent_snr_db": "latent_snr_db",
    "end_to_end.waveform_snr_db": "waveform_snr_db",
    "end_to_end.log_mel_distance": "log_mel",
    "end_to_end.stft_distance": "stft",
}
"""Fields of ``ClipParity`` by key of the figure made of them."""


def clip_values(clips: Sequence[ClipParity], key: str) -> npt.NDArray[np.float64] | None:
    """One observation per sound of a figure [clips]; None for a figure that is no mean over sounds."""
    name = _CLIP_FIGURES.get(key)
    return None if name is None else np.array([getattr(clip, name) for clip in clips], dtype=np.float64)


def _without_extremes(
    values: Sequence[float], groups: Sequence[str], generator: np.random.Generator
) -> Spread:
    mean = mean_estimate(values, generator, groups=groups)
    return Spread(mean.value, mean.low, mean.high, mean.n)


def embeddings_of(heard: Sequence[Heard]) -> FloatArray | None:
    """Embeddings [n, D] of the sounds that were tagged; None where there is none."""
    found = [one.embedding for one in heard if one.embedding is not None]
    return np.stack(found) if found else None


def levels_of(
    heard: Sequence[Heard],
    defects: Sequence[Defects],
    prompts: Sequence[Prompt],
    real: FloatArray | None,
    generator: np.random.Generator,
) -> Levels:
    """Figures of one set of sounds by itself."""
    loud = [
        (prompt.text, one.loudness_lufs)
        for prompt, one in zip(prompts, heard, strict=True)
        if one.loudness_lufs is not None
    ]
    ranks = [(p.labels[0], one.rank) for p, one in zip(prompts, heard, strict=True) if one.rank is not None]

    def share(limit: int) -> Estimate | None:
        hits = [rank < limit for _, rank in ranks]
        return share_estimate(hits, groups=[label for label, _ in ranks]) if ranks else None

    vectors = embeddings_of(heard)
    frechet = None
    if real is not None and vectors is not None and len(vectors) >= 2:
        frechet = frechet_estimate(vectors, real, generator)
    return Levels(
        loudness_lufs=mean_estimate([v for _, v in loud], generator, groups=[t for t, _ in loud])
        if loud
        else None,
        top1=share(1),
        top5=share(5),
        frechet=frechet,
        defects=count_defects(defects),
    )
