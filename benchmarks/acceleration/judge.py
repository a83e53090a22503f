"""Judges trained entries: the same prompts, noise and real clips for all, every figure with its interval."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.acceleration.place import (
    WEIGHTS,
    commit,
    digest_of_files,
    files_of,
    load,
    place_of,
    this_machine,
    today,
)
from benchmarks.acceleration.plan import Entry, Study
from benchmarks.acceleration.records import Basis, EvaluationRecord, StudyRecord, append_records, read_records
from benchmarks.acceleration.sounds import Order, Subject, Way, device_of
from edge_tta.catalog import METADATA_FILE, Clip
from edge_tta.errors import DataError
from edge_tta.evaluate.adherence import adherence
from edge_tta.evaluate.balance import draw_sets, label_weights, matched_counts
from edge_tta.evaluate.clips import balanced, load_clip, read_clips
from edge_tta.evaluate.codec import stack_tags
from edge_tta.evaluate.embedder_figures import FRECHET_LIMIT, Judged, compare
from edge_tta.evaluate.embedders import TaggerEmbedder
from edge_tta.evaluate.frechet import frechet_in_sets
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.statistics import Estimate, mean_estimate
from edge_tta.evaluate.suite import Prompt, read_prompts
from edge_tta.evaluate.tagger import Tagger, Tags, load_tagger

STRAIGHTNESS_CLIPS = 25
"""Clips that S(z) is taken of, about: each costs as much as a clip of 32 steps."""
NAMES = {
    "frechet": "Fréchet distance",
    "frechet_limit": FRECHET_LIMIT,
    "kl": "KL of labels, reference to clip",
    "text_score": "text score",
    "ccds": "conditional diversity (CCDS)",
}
"""Figures of the embedder, by their name here and there."""

Tell = Callable[[str], Any]


@dataclass(frozen=True)
class Request:
    """What is asked for of every entry."""

    seconds: float = 3.0
    clips_per_prompt: int = 2
    batch: int = 25
    """Clips made at a time."""
    device: str = "cpu"


class Bench:
    """The judge with its prompts and real clips.

    Args:
        reference: folder of real clips; split ``train`` is the reference, ``val`` the ceiling.
        tagger: folder of the tagger.
        prompts: list with one label a prompt.
        request: what to ask for.

    Raises:
        DataError: unreadable data, or no prompt of a label that the tagger and both splits know.
    """

    def __init__(self, reference: Path, tagger: Path, prompts: Path, request: Request) -> None:
        self.request, self.tagger = request, load_tagger(tagger)
        self.embedder = TaggerEmbedder(self.tagger)
        self.vectors = self.embedder.label_vectors()
        clips = read_clips(reference, ("train", "val"))
        known = {split: {clip.label for clip in clips if clip.split == split} for split in ("train", "val")}
        heard = set(self.tagger.labels) & known["train"] & known["val"]
        self.prompts: tuple[Prompt, ...] = tuple(
            prompt
            for prompt in read_prompts(prompts)
            if len(prompt.labels) == 1 and prompt.labels[0] in heard
        )
        if not self.prompts:
            raise DataError(f"{prompts}: no prompt with one label that tagger and reference know")
        labels = {prompt.labels[0] for prompt in self.prompts}
        train = [clip for clip in clips if clip.split == "train"]
        self._train = balanced(train, labels, np.random.default_rng(0))
        self._real = [clip for clip in clips if clip.split == "val" and clip.label in labels]
        if min(len(self._train), len(self._real)) < 2:
            raise DataError(f"{reference}: two train and two val clips of the prompted labels are needed")
        self.basis = Basis(
            self.tagger.digest,
            _digest(reference / METADATA_FILE),
            _digest(prompts),
            request.seconds,
            request.clips_per_prompt,
            "by label",
        )

    def order(self, seed: int) -> Order:
        """The clips of a seed: prompt p has the noise of seed * 100000 + p * clips and following."""
        count = self.request.clips_per_prompt
        texts = tuple(prompt.text for prompt in self.prompts for _ in range(count))
        first = seed * 100_000
        return Order(texts, tuple(range(first, first + len(texts))), self.request.seconds)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Label of every clip of an order."""
        count = self.request.clips_per_prompt
        return tuple(prompt.labels[0] for prompt in self.prompts for _ in range(count))

    @cached_property
    def reference(self) -> Judged:
        """Real training clips."""
        return self._judged(_tag_files(self._train, self.tagger), [clip.label for clip in self._train])

    @cached_property
    def _real_tags(self) -> Tags:
        return _tag_files(self._real, self.tagger)

    @cached_property
    def real(self) -> tuple[Judged, dict[str, Estimate]]:
        """Real validation clips and those of their figures that no generator changes."""
        labels = [clip.label for clip in self._real]
        generator, weights = np.random.default_rng(1), label_weights(labels, self.labels)
        hits = adherence(self._real_tags, labels, self.tagger, weights)
        judged = replace(self._judged(self._real_tags, labels), weights=weights)
        distance = self._distance(judged, generator)
        return judged, {"top1": hits.top1, "top5": hits.top5, "frechet": distance}

    def _distance(self, judged: Judged, generator: np.random.Generator) -> Estimate:
        """Fréchet distance of sets with as many clips of each label as real ones: it falls with their number."""
        counts = matched_counts(self.labels, [clip.label for clip in self._real])
        sets = draw_sets(judged.labels, counts, np.random.default_rng(2))
        rows, fixed = judged.heard.embeddings[np.concatenate(sets)], self.reference.heard.embeddings
        return frechet_in_sets(rows, fixed, len(sets[0]), generator)

    def _judged(self, tags: Tags, labels: Sequence[str], prompts: Sequence[str] | None = None) -> Judged:
        vectors = np.stack([self.vectors[label] for label in labels])
        return Judged(self.embedder.heard(tags), tuple(prompts or labels), tuple(labels), vectors)

    def figures(
        self, clips: Sequence[FloatArray], seed: int
    ) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
        """Figures of the clips of an order, and of real clips judged the same way.

        Raises:
            DataError: a clip is empty or not finite.
        """
        tags = stack_tags([self.tagger.tag([clip], self.tagger.config.mel.sample_rate) for clip in clips])
        generator = np.random.default_rng([3, seed])
        hits = adherence(tags, self.labels, self.tagger)
        made = self._judged(tags, self.labels, self.order(seed).texts)
        real, real_figures = self.real
        distance = self._distance(made, generator)
        found = compare(
            self.embedder, made, real, self.reference, generator, frechet=(distance, real_figures["frechet"])
        )
        own, theirs = {"top1": hits.top1, "top5": hits.top5}, dict(real_figures)
        for name, title in NAMES.items():
            comparison = found.get(title)
            if comparison is not None:
                own[name] = _plain(comparison.generated)
                if comparison.real is not None:
                    theirs[name] = _plain(comparison.real)
        return own, theirs


def judge_study(
    study: Study,
    work: Path,
    results: Path,
    bench: Bench,
    only: Sequence[str],
    seeds: Sequence[int],
    tell: Tell = lambda _: None,
) -> int:
    """Judge every trained entry at every number of steps, and append what is not recorded yet.

    Returns:
        Number of new evaluations.

    Raises:
        DataError: nothing is trained, or the tagger listens at another rate.
        ConfigError, OutputError: from checkpoints and files.
    """
    written = read_records(results) if results.is_file() else []
    done = {record.key for record in written if isinstance(record, EvaluationRecord)}
    studies = [record for record in written if isinstance(record, StudyRecord)]
    if not studies or studies[-1].study != study:
        append_records(results, [StudyRecord(study)])
    count, trained = 0, 0
    for seed in seeds:
        for entry in study.select(only, with_parents=False):
            training = place_of(work, entry, seed).training()
            if training is None:
                tell(f"{entry.name}, seed {seed}: not trained")
                continue
            trained += 1
            if training not in written:
                append_records(results, [training])
            if not training.failure and entry.group != "stages":
                for record in judge_entry(study, work, bench, entry, seed, done, tell):
                    append_records(results, [record])
                    count += 1
    if not trained:
        raise DataError(f"{work}: nothing is trained there; run 'python -m benchmarks.acceleration train'")
    return count


def judge_entry(
    study: Study,
    work: Path,
    bench: Bench,
    entry: Entry,
    seed: int,
    done: set[tuple[Any, ...]],
    tell: Tell,
) -> Iterator[EvaluationRecord]:
    """Evaluations of one entry and seed that are not ``done``, one after the other as they are found."""
    place, way = place_of(work, entry, seed), Way(entry.sampler, entry.guidance)
    device, device_name = device_of(bench.request.device)
    blank = EvaluationRecord(
        entry.name,
        seed,
        0,
        digest_of_files(files_of(place.checkpoint, WEIGHTS)),
        way.sampler,
        way.guidance,
        bench.basis,
        this_machine(torch.get_num_threads(), device.type, device_name),
        today(),
        commit(),
    )
    wanted = [steps for steps in study.steps if replace(blank, steps=steps).key not in done]
    if not wanted:
        tell(f"{entry.name}, seed {seed}: judged before")
        return
    subject, rate = Subject(place.checkpoint, device), bench.tagger.config.mel.sample_rate
    if subject.audio.sample_rate != rate:
        raise DataError(f"the tagger listens at {rate} Hz, {entry.name} makes {subject.audio.sample_rate} Hz")
    straight, order = straightness_of(subject, entry, bench, seed), bench.order(seed)
    for steps in wanted:
        title = f"{entry.name}, seed {seed}, {steps} steps"
        begun = replace(blank, steps=steps, load=load())
        timed = tuple(subject.seconds_per_clip(order, steps, way))
        clips = subject.make(order, steps, way, bench.request.batch)
        if all(np.isfinite(clip).all() for clip in clips):
            own, theirs = bench.figures(clips, seed)
            tell(f"{title}: Fréchet distance {own['frechet'].value:.2f}")
            yield replace(begun, figures={**own, **straight}, real=theirs, times=timed)
        else:
            tell(f"{title}: not finite")
            yield replace(begun, failure="its sounds are not finite")


def straightness_of(subject: Subject, entry: Entry, bench: Bench, seed: int) -> dict[str, Estimate]:
    """S(z) of the entry's flow; nothing for networks that jump, or whose velocity overflows."""
    if entry.sampler == "ping-pong" or not entry.straightness:
        return {}
    whole, stride = bench.order(seed), bench.request.clips_per_prompt
    rows = range(0, len(whole.texts), max(stride, len(whole.texts) // STRAIGHTNESS_CLIPS))
    order = Order(
        tuple(whole.texts[row] for row in rows), tuple(whole.seeds[row] for row in rows), whole.seconds
    )
    values = subject.straightness(order, Way(entry.sampler, entry.guidance), bench.request.batch)
    if not np.isfinite(values).all():
        return {}
    groups = [bench.labels[row] for row in rows]
    return {"straightness": mean_estimate(values, np.random.default_rng([5, seed]), groups=groups)}


def _plain(figure: Estimate) -> Estimate:
    """Without the embedder's name: the basis has it."""
    return Estimate(figure.value, figure.low, figure.high, figure.n)


def _tag_files(clips: Sequence[Clip], tagger: Tagger) -> Tags:
    rate = tagger.config.mel.sample_rate
    return stack_tags([tagger.tag([load_clip(clip.path, rate)], rate) for clip in clips])


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
