"""Judging anything that turns a prompt and a seed into sound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_tta.catalog import Clip
from edge_tta.errors import DataError
from edge_tta.evaluate.adherence import adherence, both_present, mix, relative_top5
from edge_tta.evaluate.balance import draw_sets, label_weights, matched_counts
from edge_tta.evaluate.clips import balanced, load_clip, read_clips
from edge_tta.evaluate.codec import stack_tags
from edge_tta.evaluate.contact_sheet import SheetEntry
from edge_tta.evaluate.diversity import Diversity, diversity
from edge_tta.evaluate.embedder_figures import EmbedderFigures, Judged, compare
from edge_tta.evaluate.embedders import (
    Embedder,
    Heard,
    TaggerEmbedder,
    TextEmbedder,
    listen,
    stack_heard,
)
from edge_tta.evaluate.frechet import frechet_estimate
from edge_tta.evaluate.intelligibility import intelligibility
from edge_tta.evaluate.results import (
    SCHEMA,
    GeneratorReport,
    Provenance,
    Settings,
    SuiteFigures,
    TwoSounds,
)
from edge_tta.evaluate.spectral import FloatArray, timbre
from edge_tta.evaluate.spectral_step import SpectralStep, largest_step, long_term_spectrum
from edge_tta.evaluate.statistics import Estimate
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import Tagger, Tags

SHEET_LABELS = 50
MIXTURES_PER_PAIR = 4

Generate = Callable[[Prompt, int], FloatArray]
"""Prompt and seed to one channel [frames] at the tagger's sample rate."""
Progress = Callable[[int, int], None]
"""Called with items done and items in all."""


@dataclass(frozen=True)
class _Judged:
    prompt: Prompt
    tags: Tags
    timbre: FloatArray
    spectrum: FloatArray
    heard: tuple[Heard, ...]
    """By each further embedder."""


def _judge(prompt: Prompt, samples: FloatArray, tagger: Tagger, embedders: Sequence[Embedder]) -> _Judged:
    rate = tagger.config.mel.sample_rate
    heard = tuple(listen(embedder, samples, rate) for embedder in embedders)
    return _Judged(
        prompt, tagger.tag([samples], rate), timbre(samples, rate), long_term_spectrum(samples), heard
    )


def _judge_clips(
    clips: Sequence[Clip], tagger: Tagger, embedders: Sequence[Embedder], prompts: dict[str, list[str]]
) -> list[_Judged]:
    """Real clips as if they had been made from the prompts of their label, in turn."""
    judged = []
    for number, clip in enumerate(clips):
        texts = prompts[clip.label]
        prompt = Prompt(texts[number % len(texts)], (clip.label,), clip.split)
        judged.append(_judge(prompt, load_clip(clip.path, tagger.config.mel.sample_rate), tagger, embedders))
    return judged


def _real_mixtures(
    pairs: Sequence[tuple[str, str]], clips: Sequence[Clip], tagger: Tagger, generator: np.random.Generator
) -> Estimate | None:
    """Both labels in mixtures of real clips, pairs in the shares that they have among generated clips."""
    rate = tagger.config.mel.sample_rate
    parts, kept = [], []
    for pair in sorted(set(pairs)):
        first, second = ([clip for clip in clips if clip.label == label] for label in pair)
        options = list(itertools.product(first, second))
        for number in generator.permutation(len(options))[:MIXTURES_PER_PAIR]:
            one, other = options[number]
            mixture = mix(load_clip(one.path, rate), load_clip(other.path, rate), generator)
            parts.append(tagger.tag([mixture], rate))
            kept.append(pair)
    return both_present(stack_tags(parts), kept, tagger, label_weights(kept, pairs)) if parts else None


def evaluate_generator(
    generate: Generate,
    prompts: Sequence[Prompt],
    reference_dir: Path,
    tagger: Tagger,
    settings: Settings,
    provenance: Provenance,
    *,
    embedders: Sequence[Embedder] = (),
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
        embedders: further judges beside the tagger.
        random_seed: seed of bootstrap and choice of clips.
        on_progress: called after every generated clip.

    Returns:
        The report and pairs for a contact sheet, a real validation clip each.

    Raises:
        DataError: no prompt has a known label, or there are too few real clips of the prompted labels.
    """
    generator = np.random.default_rng(random_seed)
    rate = tagger.config.mel.sample_rate
    known = [p for p in prompts if all(tagger.index(label) is not None for label in p.labels)]
    single_labels = {p.labels[0] for p in known if len(p.labels) == 1}
    if not single_labels:
        raise DataError("no prompt with one label that the tagger knows: nothing can be judged")
    clips = read_clips(reference_dir, ("train", "val"))
    held = [clip for clip in clips if clip.split == "val"]
    reference_clips = balanced([c for c in clips if c.split == "train"], single_labels, generator)
    real_clips = [clip for clip in held if clip.label in single_labels]
    real_labels = [clip.label for clip in real_clips]
    if len(reference_clips) < 2 or len(real_clips) < 2:
        raise DataError(f"{reference_dir}: two train and two val clips of the prompted labels are needed")
    asked = [p.labels[0] for p in known if len(p.labels) == 1 for _ in range(settings.seeds_per_prompt)]
    matched = matched_counts(asked, real_labels)
    if sum(matched.values()) < 2:
        raise DataError(
            f"{reference_dir}: two generated and two val clips of the same labels are needed; ask for more seeds, or "
            "give val clips of more labels"
        )

    judged: list[_Judged] = []
    examples: dict[str, FloatArray] = {}
    total = len(known) * settings.seeds_per_prompt
    for number, prompt in enumerate(prompts):
        if prompt not in known:
            continue
        for k in range(settings.seeds_per_prompt):
            samples = generate(prompt, settings.first_seed + number * settings.seeds_per_prompt + k)
            judged.append(_judge(prompt, samples, tagger, embedders))
            if len(prompt.labels) == 1:
                examples.setdefault(prompt.labels[0], samples)
            if on_progress is not None:
                on_progress(len(judged), total)

    wordings: dict[str, list[str]] = {}
    for prompt in known:
        if len(prompt.labels) == 1 and prompt.text not in wordings.setdefault(prompt.labels[0], []):
            wordings[prompt.labels[0]].append(prompt.text)
    references = _judge_clips(reference_clips, tagger, embedders, wordings)
    reals = _judge_clips(real_clips, tagger, embedders, wordings)
    reference_tags = stack_tags([j.tags for j in references])
    reference_timbre = np.stack([j.timbre for j in references])
    real_tags = stack_tags([j.tags for j in reals])
    real_weights = label_weights(real_labels, asked)
    real = adherence(real_tags, real_labels, tagger, real_weights)

    single = [j for j in judged if len(j.prompt.labels) == 1]
    # What is held against real clips: sounds of labels that have some.
    compared = [j for j in single if j.prompt.labels[0] in matched]
    suites = []
    for suite in dict.fromkeys(j.prompt.suite for j in single):
        mine = [j for j in single if j.prompt.suite == suite]
        figures = adherence(stack_tags([j.tags for j in mine]), [j.prompt.labels[0] for j in mine], tagger)
        texts = {j.prompt.text for j in mine}
        suites.append(SuiteFigures(suite, len(texts), figures, relative_top5(figures, real)))

    double = [j for j in judged if len(j.prompt.labels) == 2]
    two_sounds = []
    ceilings: dict[tuple[tuple[str, str], ...], Estimate | None] = {}
    for suite in dict.fromkeys(j.prompt.suite for j in double):
        mine = [j for j in double if j.prompt.suite == suite]
        pairs = tuple((j.prompt.labels[0], j.prompt.labels[1]) for j in mine)
        if pairs not in ceilings:
            # Suites that ask for the same sounds in other words have one ceiling.
            ceilings[pairs] = _real_mixtures(pairs, held, tagger, generator)
        both = both_present(stack_tags([j.tags for j in mine]), pairs, tagger)
        two_sounds.append(TwoSounds(suite, len({j.prompt.text for j in mine}), both, ceilings[pairs]))

    embeddings = stack_tags([j.tags for j in single]).embeddings
    prompts_of, labels = [j.prompt.text for j in single], [j.prompt.labels[0] for j in single]
    reference_labels = [clip.label for clip in reference_clips]

    def spread(made: FloatArray, found: FloatArray) -> Diversity | None:
        return diversity(made, prompts_of, labels, found, reference_labels, generator)

    def shared_step(sounds: list[_Judged]) -> SpectralStep | None:
        return largest_step([j.spectrum for j in sounds], rate, np.random.default_rng([random_seed, 3]))

    frechet = tuple(
        frechet_estimate(
            vectors[draw_sets(names, matched, generator)[0]], reference_tags.embeddings, generator
        )
        for vectors, names in ((embeddings, labels), (real_tags.embeddings, real_labels))
    )
    report = GeneratorReport(
        schema=SCHEMA,
        provenance=provenance,
        settings=settings,
        suites=tuple(suites),
        real=real,
        two_sounds=tuple(two_sounds),
        frechet_generated=frechet[0],
        frechet_real=frechet[1],
        embedding_diversity=spread(embeddings, reference_tags.embeddings),
        timbre_diversity=spread(np.stack([j.timbre for j in single]), reference_timbre),
        skipped_prompts=tuple(p.text for p in prompts if p not in known),
        labels_without_real=tuple(sorted(set(asked) - set(real_labels))),
        embedders=_all_figures(
            tagger,
            embedders,
            (compared, reals, references),
            real_weights,
            (frechet[0], frechet[1]),
            # A generator of their own: these figures leave the intervals of the others as they were.
            np.random.default_rng([random_seed, 1]),
        ),
        intelligibility=intelligibility(
            stack_tags([j.tags for j in single]),
            [j.prompt for j in single],
            real_tags,
            real_labels,
            tagger,
        ),
        step_generated=shared_step(single),
        step_real=shared_step(references),
    )
    first_real = {clip.label: clip for clip in reversed([*real_clips, *reference_clips])}
    first_real |= {clip.label: clip for clip in reversed(real_clips)}
    entries = [
        SheetEntry(label, load_clip(first_real[label].path, rate), samples)
        for label, samples in list(examples.items())[:SHEET_LABELS]
        if label in first_real
    ]
    return report, entries


def _all_figures(
    tagger: Tagger,
    embedders: Sequence[Embedder],
    sets: tuple[list[_Judged], list[_Judged], list[_Judged]],
    real_weights: npt.NDArray[np.float64],
    frechet: tuple[Estimate, Estimate],
    generator: np.random.Generator,
) -> tuple[EmbedderFigures, ...]:
    """Figures of the tagger and of every further embedder on generated, real (with weights) and reference clips."""
    built_in = TaggerEmbedder(tagger)
    vectors = built_in.label_vectors()

    def clips(heard: Heard, judged: list[_Judged], texts: FloatArray | None) -> Judged:
        labels = tuple(j.prompt.labels[0] for j in judged)
        prompts = tuple(j.prompt.text for j in judged) if judged is sets[0] else labels
        return Judged(heard, prompts, labels, texts, real_weights if judged is sets[1] else None)

    own = [
        clips(
            built_in.heard(stack_tags([j.tags for j in judged])),
            judged,
            np.stack([vectors[j.prompt.labels[0]] for j in judged]),
        )
        for judged in sets
    ]
    made, real, reference = own
    found = [compare(built_in, made, real, reference, generator, text_side="label vectors", frechet=frechet)]
    for number, embedder in enumerate(embedders):
        words: dict[str, FloatArray] = {}
        if isinstance(embedder, TextEmbedder):
            prompts = sorted({j.prompt.text for judged in sets for j in judged})
            words = dict(zip(prompts, embedder.embed_text(prompts), strict=True))
        theirs = [
            clips(
                stack_heard([j.heard[number] for j in judged]),
                judged,
                np.stack([words[j.prompt.text] for j in judged]) if words else None,
            )
            for judged in sets
        ]
        made, real, reference = theirs
        found.append(
            compare(embedder, made, real, reference, generator, text_side="prompts" if words else "none")
        )
    return tuple(found)
