"""Entry points: judge a bundle, or a codec, and leave JSON, Markdown and a contact sheet behind."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_tta.errors import DataError, OutputError
from edge_tta.evaluate.adherence import Adherence, adherence, both_present, mix
from edge_tta.evaluate.clips import METADATA_FILE, Clip, load_clip, read_clips
from edge_tta.evaluate.codec import CodecFigures, Reconstruct, codec_figures, stack_tags
from edge_tta.evaluate.contact_sheet import SheetEntry, write_contact_sheet
from edge_tta.evaluate.diversity import Diversity, diversity
from edge_tta.evaluate.frechet import frechet_estimate
from edge_tta.evaluate.report import codec_markdown, generator_markdown, write_report
from edge_tta.evaluate.spectral import FloatArray, timbre
from edge_tta.evaluate.statistics import Estimate
from edge_tta.evaluate.suite import Prompt, read_prompts
from edge_tta.evaluate.tagger import Tagger, Tags, load_tagger

logger = logging.getLogger(__name__)

SCHEMA = 1
REFERENCE_PER_LABEL = 24
"""Training clips of a label that enter the reference, so that no label outweighs the others."""
SHEET_LABELS = 25
MIXTURES_PER_PAIR = 4

Generate = Callable[[Prompt, int], FloatArray]
"""Prompt and seed to one channel [frames] at the tagger's sample rate."""
Progress = Callable[[int, int], None]
"""Called with items done and items in all."""


@dataclass(frozen=True)
class Provenance:
    """What figures rest on; two reports may be compared only if embedder and reference are the same."""

    embedder: str
    """Digest of the tagger."""
    reference: str
    """SHA-256 of the reference folder's metadata."""
    prompts: str | None
    """SHA-256 of the prompt list; None for a codec."""
    subject: str
    """Name of what was judged."""
    subject_digest: str | None
    """SHA-256 of the bundle's manifest; None where there is none."""


@dataclass(frozen=True)
class Settings:
    """How clips were generated."""

    seeds_per_prompt: int
    seconds: float
    steps: int
    guidance: float | None
    precision: str
    first_seed: int
    """Prompt number p (from 0) uses the seeds first_seed + p * seeds_per_prompt and following."""


@dataclass(frozen=True)
class SuiteFigures:
    """Figures of the single-label prompts of one suite."""

    suite: str
    prompts: int
    adherence: Adherence
    relative_top5: float
    """Top-5 share over that of real validation clips."""


@dataclass(frozen=True)
class TwoSounds:
    """Two-label prompts."""

    prompts: int
    both: Estimate
    """Share of generated clips with both labels among the first five."""
    real_mixtures: Estimate | None
    """The same for mixtures of two real validation clips of equal level; None where there are none."""


@dataclass(frozen=True)
class GeneratorReport:
    """Everything :func:`evaluate_bundle` finds."""

    schema: int
    provenance: Provenance
    settings: Settings
    suites: tuple[SuiteFigures, ...]
    real: Adherence
    """Real validation clips of the prompted labels: the ceiling."""
    two_sounds: TwoSounds | None
    frechet_generated: Estimate
    """Generated clips against real training clips of the same labels."""
    frechet_real: Estimate
    """As many real validation clips against the same reference: the floor."""
    embedding_diversity: Diversity | None
    timbre_diversity: Diversity | None
    skipped_prompts: tuple[str, ...]
    """Prompts with a label unknown to the tagger."""


@dataclass(frozen=True)
class CodecReport:
    """Everything :func:`evaluate_codec` finds."""

    schema: int
    provenance: Provenance
    figures: CodecFigures


@dataclass(frozen=True)
class _Judged:
    prompt: Prompt
    tags: Tags
    timbre: FloatArray


def _file_digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made a folder ({error.strerror or error})") from error


def _balanced(
    clips: Sequence[Clip], labels: set[str], limit: int, generator: np.random.Generator
) -> list[Clip]:
    chosen: list[Clip] = []
    for label in sorted(labels):
        mine = [clip for clip in clips if clip.label == label]
        picked = sorted(generator.permutation(len(mine))[:limit])
        chosen += [mine[i] for i in picked]
    return chosen


def _judge_clips(clips: Sequence[Clip], tagger: Tagger) -> tuple[Tags, FloatArray]:
    rate = tagger.config.mel.sample_rate
    parts, timbres = [], []
    for clip in clips:
        samples = load_clip(clip.path, rate)
        parts.append(tagger.tag([samples], rate))
        timbres.append(timbre(samples, rate))
    return stack_tags(parts), np.stack(timbres)


def _real_mixtures(
    pairs: Sequence[tuple[str, str]], clips: Sequence[Clip], tagger: Tagger, generator: np.random.Generator
) -> Estimate | None:
    rate = tagger.config.mel.sample_rate
    parts, kept = [], []
    for pair in pairs:
        first, second = ([clip for clip in clips if clip.label == label] for label in pair)
        options = list(itertools.product(first, second))
        for number in generator.permutation(len(options))[:MIXTURES_PER_PAIR]:
            one, other = options[number]
            mixture = mix(load_clip(one.path, rate), load_clip(other.path, rate), generator)
            parts.append(tagger.tag([mixture], rate))
            kept.append(pair)
    return both_present(stack_tags(parts), kept, tagger, generator) if parts else None


def _same_size(
    first: FloatArray, second: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    count = min(len(first), len(second))
    return tuple(rows[np.sort(generator.permutation(len(rows))[:count])] for rows in (first, second))  # type: ignore[return-value]


def evaluate_generator(
    generate: Generate,
    prompts: Sequence[Prompt],
    reference_dir: Path,
    tagger: Tagger,
    settings: Settings,
    provenance: Provenance,
    *,
    random_seed: int = 0,
    on_progress: Progress | None = None,
) -> tuple[GeneratorReport, list[SheetEntry]]:
    """Judge anything that turns a prompt and a seed into sound.

    Args:
        generate: the subject.
        prompts: what to ask for; prompts with a label unknown to the tagger are left out and listed.
        reference_dir: folder of real clips; split ``train`` is the reference, split ``val`` the ceiling.
        tagger: the judge.
        settings: seeds per prompt and first seed are used here, the rest is recorded.
        provenance: recorded.
        random_seed: seed of bootstrap and choice of clips.
        on_progress: called after every generated clip.

    Returns:
        The report and pairs for a contact sheet, a real validation clip each.

    Raises:
        DataError: no prompt has a known label, or there are no real clips of the prompted labels.
    """
    generator = np.random.default_rng(random_seed)
    rate = tagger.config.mel.sample_rate
    known = [p for p in prompts if all(tagger.index(label) is not None for label in p.labels)]
    single_labels = {p.labels[0] for p in known if len(p.labels) == 1}
    if not single_labels:
        raise DataError("no prompt with one label that the tagger knows: nothing can be judged")
    clips = read_clips(reference_dir, ("train", "val"))
    held = [clip for clip in clips if clip.split == "val"]
    reference_clips = _balanced(
        [c for c in clips if c.split == "train"], single_labels, REFERENCE_PER_LABEL, generator
    )
    real_clips = [clip for clip in held if clip.label in single_labels]
    if len(reference_clips) < 2 or len(real_clips) < 2:
        raise DataError(f"{reference_dir}: two train and two val clips of the prompted labels are needed")

    judged: list[_Judged] = []
    examples: dict[str, FloatArray] = {}
    total = len(known) * settings.seeds_per_prompt
    for number, prompt in enumerate(prompts):
        if prompt not in known:
            continue
        for k in range(settings.seeds_per_prompt):
            samples = generate(prompt, settings.first_seed + number * settings.seeds_per_prompt + k)
            judged.append(_Judged(prompt, tagger.tag([samples], rate), timbre(samples, rate)))
            if len(prompt.labels) == 1:
                examples.setdefault(prompt.labels[0], samples)
            if on_progress is not None:
                on_progress(len(judged), total)

    reference_tags, reference_timbre = _judge_clips(reference_clips, tagger)
    real_tags, _ = _judge_clips(real_clips, tagger)
    real = adherence(real_tags, [clip.label for clip in real_clips], tagger, generator)

    single = [j for j in judged if len(j.prompt.labels) == 1]
    suites = []
    for suite in dict.fromkeys(j.prompt.suite for j in single):
        mine = [j for j in single if j.prompt.suite == suite]
        figures = adherence(
            stack_tags([j.tags for j in mine]), [j.prompt.labels[0] for j in mine], tagger, generator
        )
        relative = figures.top5.value / max(real.top5.value, 1e-9)
        suites.append(SuiteFigures(suite, len({j.prompt.text for j in mine}), figures, relative))

    double = [j for j in judged if len(j.prompt.labels) == 2]
    two_sounds = None
    if double:
        pairs = [(j.prompt.labels[0], j.prompt.labels[1]) for j in double]
        ceiling = _real_mixtures(sorted(set(pairs)), held, tagger, generator)
        both = both_present(stack_tags([j.tags for j in double]), pairs, tagger, generator)
        two_sounds = TwoSounds(len({j.prompt.text for j in double}), both, ceiling)

    embeddings = stack_tags([j.tags for j in single]).embeddings
    same_generated, same_real = _same_size(embeddings, real_tags.embeddings, generator)
    texts, labels = [j.prompt.text for j in single], [j.prompt.labels[0] for j in single]
    reference_labels = [clip.label for clip in reference_clips]

    def spread(made: FloatArray, found: FloatArray) -> Diversity | None:
        return diversity(made, texts, labels, found, reference_labels, generator)

    report = GeneratorReport(
        schema=SCHEMA,
        provenance=provenance,
        settings=settings,
        suites=tuple(suites),
        real=real,
        two_sounds=two_sounds,
        frechet_generated=frechet_estimate(same_generated, reference_tags.embeddings, generator),
        frechet_real=frechet_estimate(same_real, reference_tags.embeddings, generator),
        embedding_diversity=spread(embeddings, reference_tags.embeddings),
        timbre_diversity=spread(np.stack([j.timbre for j in single]), reference_timbre),
        skipped_prompts=tuple(p.text for p in prompts if p not in known),
    )
    first_real = {clip.label: clip for clip in reversed([*real_clips, *reference_clips])}
    first_real |= {clip.label: clip for clip in reversed(real_clips)}
    entries = [
        SheetEntry(label, load_clip(first_real[label].path, rate), samples)
        for label, samples in list(examples.items())[:SHEET_LABELS]
        if label in first_real
    ]
    return report, entries


def evaluate_bundle(
    bundle: Path | str | None,
    prompts_csv: Path,
    reference_dir: Path,
    tagger_dir: Path,
    output_dir: Path,
    *,
    seeds_per_prompt: int = 4,
    seconds: float = 5.0,
    steps: int = 1,
    guidance: float | None = None,
    precision: str = "int8",
    backend: str = "auto",
    threads: int | None = None,
    first_seed: int = 0,
    write_audio: bool = False,
    on_progress: Progress | None = None,
) -> GeneratorReport:
    """Generate from every prompt with a bundle and judge the result.

    Args:
        bundle: path or name of the bundle, None for the default one.
        prompts_csv: see :func:`edge_tta.evaluate.suite.read_prompts`.
        reference_dir: folder with ``metadata.csv`` of real clips.
        tagger_dir: folder that holds the tagger.
        output_dir: gets ``evaluation.json``, ``evaluation.md`` and ``contact_sheet.png``.
        seeds_per_prompt: clips per prompt; diversity needs two.
        seconds: duration of every clip.
        steps: sampling steps.
        guidance: guidance strength, None for the bundle's own.
        precision: variant of the bundle.
        backend: runtime backend.
        threads: threads, None for the runtime's choice.
        first_seed: seed of the first clip.
        write_audio: keep the clips as WAV below ``output_dir / "audio"``.
        on_progress: called after every clip.

    Raises:
        DataError, BundleError, BackendError, RequestError, OutputError, MissingExtraError: as the parts say.
    """
    from edge_tta.audio import write_audio as write_audio_file
    from edge_tta.bundle import Bundle
    from edge_tta.runtime.pipeline import TextToAudio
    from edge_tta.runtime.request import GenerationRequest

    if seeds_per_prompt < 1:
        raise DataError(f"seeds per prompt must be at least 1, got {seeds_per_prompt}")
    prompts = read_prompts(prompts_csv)
    tagger = load_tagger(tagger_dir)
    reference_dir, output_dir = Path(reference_dir), Path(output_dir)
    opened = Bundle.open(bundle)
    provenance = Provenance(
        embedder=tagger.digest,
        reference=_file_digest(reference_dir / METADATA_FILE),
        prompts=_file_digest(Path(prompts_csv)),
        subject=opened.manifest.name,
        subject_digest=opened.digest,
    )
    settings = Settings(seeds_per_prompt, seconds, steps, guidance, precision, first_seed)
    audio_dir = output_dir / "audio"
    _make_directory(audio_dir if write_audio else output_dir)
    rate = tagger.config.mel.sample_rate
    with TextToAudio.open(opened, backend=backend, precision=precision, threads=threads) as model:

        def generate(prompt: Prompt, seed: int) -> FloatArray:
            request = GenerationRequest(
                prompt.text, seconds=seconds, seed=seed, steps=steps, guidance=guidance
            )
            audio = model.generate(request).audio
            if audio.sample_rate != rate:
                raise DataError(f"the tagger listens at {rate} Hz, the bundle makes {audio.sample_rate} Hz")
            if write_audio:
                name = "_".join(prompt.labels).replace(" ", "-").replace("/", "-")
                write_audio_file(audio, audio_dir / f"{seed:05d}_{prompt.suite}_{name}.wav")
            return np.asarray(audio.samples.mean(axis=0), dtype=np.float32)

        report, entries = evaluate_generator(
            generate, prompts, reference_dir, tagger, settings, provenance, on_progress=on_progress
        )
    write_report(report, generator_markdown(report), output_dir, "evaluation")
    write_contact_sheet(entries, output_dir / "contact_sheet.png", rate)
    return report


def evaluate_codec(
    reconstruct: Reconstruct,
    reference_dir: Path,
    tagger_dir: Path,
    output_dir: Path,
    *,
    subject: str = "codec",
    splits: Sequence[str] = ("val",),
    random_seed: int = 0,
    on_progress: Progress | None = None,
) -> CodecReport:
    """Put real clips through a codec and judge the reconstructions.

    Args:
        reconstruct: one channel [frames] to [frames] or [1, frames], at the tagger's sample rate.
        reference_dir: folder with ``metadata.csv`` of real clips.
        tagger_dir: folder that holds the tagger.
        output_dir: gets ``codec.json``, ``codec.md`` and ``codec_sheet.png``.
        subject: name of the codec for the report.
        splits: clips to use; ``val`` clips were seen neither by codec nor by tagger.
        random_seed: seed of the bootstrap.
        on_progress: called after every clip.
    """
    tagger = load_tagger(tagger_dir)
    reference_dir, output_dir = Path(reference_dir), Path(output_dir)
    clips = read_clips(reference_dir, splits)
    _make_directory(output_dir)
    generator = np.random.default_rng(random_seed)
    figures, entries = codec_figures(
        reconstruct, clips, tagger, generator, sheet_labels=SHEET_LABELS, on_progress=on_progress
    )
    digest = _file_digest(reference_dir / METADATA_FILE)
    report = CodecReport(SCHEMA, Provenance(tagger.digest, digest, None, subject, None), figures)
    write_report(report, codec_markdown(report), output_dir, "codec")
    rate = tagger.config.mel.sample_rate
    write_contact_sheet(entries, output_dir / "codec_sheet.png", rate, below="reconstructed")
    return report
