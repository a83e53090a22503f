"""What a run learns from: how much of each part, and how many clips are left out for which reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_tta.catalog import Clip
from edge_tta.errors import DataError
from edge_tta.flow.couple_store import read_couple_records
from edge_tta.train.clips import UNKNOWN_LICENCE, Report, choose_clips, seconds_of_clips, told_counts
from edge_tta.train.couple_data import couple_shards
from edge_tta.train.data.captions import Captioner
from edge_tta.train.latent_sets import brought_latents
from edge_tta.train.latents import seconds_in
from edge_tta.train.recipes import Recipe
from edge_tta.train.stages.tagger import known_labels, split_of
from edge_tta.train.stages.wording import is_held_out

PARTS = {"train": "training", "val": "validation"}
"""What clips of a split are used for."""


@dataclass(frozen=True)
class Amount:
    """How much of something there is."""

    count: int
    unit: str
    """What is counted, in the plural."""
    seconds: float | None = None
    """Length of the sound together; None for texts."""
    labels: int | None = None
    """How many different labels clips have; None for all else."""

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        labels = {} if self.labels is None else {"labels": self.labels}
        hours = {} if self.seconds is None else {"hours": round(self.seconds / 3600, 4)}
        return {self.unit: self.count, **labels, **hours}

    def __str__(self) -> str:
        counted = f"{self.count} {self.unit}" + ("" if self.labels is None else f", {self.labels} labels")
        if self.seconds is None:
            return counted
        minutes = self.seconds / 60
        if minutes < 1:
            return f"{counted}, {self.seconds:.1f} s"
        return f"{counted}, {minutes / 60:.2f} h" if minutes >= 6 else f"{counted}, {minutes:.1f} min"


@dataclass(frozen=True)
class DataSummary:
    """What a run learns from and is validated on."""

    source: str
    """Folder or grammar, several of them joined by commas."""
    used: Mapping[str, Amount]
    """By part: "training", "development" (training recordings that are held out), "validation"."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Clips that are not used, by the reason."""
    unknown_licences: Mapping[str, int] = field(default_factory=dict)
    """Clips that are left out, by a licence that is not known."""
    own_captions: int | None = None
    """Clips in use that have captions of their own; None where nothing is told."""
    unknown_labels: Mapping[str, int] = field(default_factory=dict)
    """Clips in use by a label that the grammar does not know, so that its name is all that is told; a caption that
    stands in for a label is none."""

    def plain(self) -> dict[str, Any]:
        """JSON values."""
        captions = {}
        if self.own_captions is not None:
            captions = {"own_captions": self.own_captions, "unknown_labels": dict(self.unknown_labels)}
        return {
            "source": self.source,
            **{part: amount.plain() for part, amount in self.used.items()},
            "left_out": dict(self.left_out),
            "unknown_licences": dict(self.unknown_licences),
            **captions,
        }

    def lines(self) -> list[tuple[str, str]]:
        """Names with what there is to say, for people."""
        told = [("data", self.source), *((part, str(amount)) for part, amount in self.used.items())]
        for reason, count in self.left_out.items():
            which = f" ({told_counts(self.unknown_licences)})" if reason == UNKNOWN_LICENCE else ""
            told.append(("left out", f"{count} clips: {reason}{which}"))
        if self.own_captions is not None:
            told.append(("captions", f"{self.own_captions} clips have their own"))
        if self.unknown_labels:
            count, which = sum(self.unknown_labels.values()), told_counts(self.unknown_labels)
            told.append(("unknown", f"{count} clips have a label that the grammar does not know ({which})"))
        return told


def summarise(recipe: Recipe, report: Report) -> DataSummary | None:
    """What a recipe learns from, without decoding it; its clips are opened.

    Args:
        recipe: of any stage.
        report: told (what, done, total).

    Returns:
        None where the recipe does not say what to learn from.

    Raises:
        ConfigError, DataError: data that the recipe names are missing, broken or of no use to it.
    """
    if recipe.text_encoder is not None:
        grammar = Captioner.load(recipe.data.captions)
        source = _joined(f"grammar {recipe.data.captions}", *recipe.text_encoder.extra_texts)
        return DataSummary(source, {"training": Amount(len(grammar.labels), "labels")})
    if recipe.text_wordings is not None:
        return _wordings(recipe.text_wordings.captions, recipe.text_wordings.held_out)
    couples = recipe.generator.couples if recipe.generator is not None else ""
    used = {"training": _couples(Path(couples))} if couples else {}
    if recipe.generator is not None and recipe.data.latents:
        folder = Path(recipe.data.latents)
        splits = ("val",) if couples else ("train", "val")
        for split, shards in zip(splits, brought_latents(folder, splits)[1], strict=True):
            if shards:
                used[PARTS[split]] = _windows(shards)
        return DataSummary(_joined(couples, recipe.data.latents), used)
    if not recipe.data.folder:
        return DataSummary(couples, used) if couples else None
    return _clips(recipe, used, _joined(couples, recipe.data.folder), report)


def _joined(*sources: str) -> str:
    return ", ".join(source for source in sources if source)


def _wordings(captions: str, held_out: float) -> DataSummary:
    grammar = Captioner.load(captions)
    texts = [text for words in grammar.labels.values() for text in words.wordings]
    held = sum(is_held_out(text, held_out) for text in texts)
    used = {"training": Amount(len(texts) - held, "wordings"), "validation": Amount(held, "wordings")}
    return DataSummary(f"grammar {captions}", used)


def _couples(folder: Path) -> Amount:
    records = [record for shard in couple_shards(folder) for record in read_couple_records(shard)]
    return Amount(len(records), "couples", sum(record["seconds"] for record in records))


def _windows(shards: Sequence[Path]) -> Amount:
    seconds = [each for shard in shards for each in seconds_in(shard)]
    return Amount(len(seconds), "windows", sum(seconds))


def _clips(recipe: Recipe, used: Mapping[str, Amount], source: str, report: Report) -> DataSummary:
    """What a stage does with the clips of its folder; ``used`` is what it learns from besides."""
    choice = choose_clips(recipe.data)
    clips, left_out = choice.clips, Counter(choice.left_out)
    seconds = seconds_of_clips(clips, report)
    known = set(known_labels(clips, recipe.tagger.minimum_clips)) if recipe.tagger is not None else set[str]()
    parts: dict[str, list[int]] = {"training": [], "development": [], "validation": []}
    for index, clip in enumerate(clips):
        part, reason = _part_of(recipe, clip, known)
        if part:
            parts[part].append(index)
        else:
            left_out[reason] += 1
    amounts = {
        part: Amount(
            len(chosen),
            "clips",
            sum(seconds[index] for index in chosen),
            len({clips[index].label for index in chosen}),
        )
        for part, chosen in parts.items()
        if chosen
    }
    summary = DataSummary(source, {**used, **amounts}, dict(left_out), choice.unknown_licences)
    if "training" not in summary.used:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise DataError(f"{source}: no clip is left to learn from; left out are {reasons or 'none'}")
    if recipe.generator is None or recipe.generator.couples:
        return summary
    grammar = Captioner.load(recipe.data.captions)
    told = [clips[index] for chosen in parts.values() for index in chosen]
    named = (clip.label for clip in told if clip.label not in clip.captions)
    unknown = Counter(label for label in named if label not in grammar.labels)
    return replace(
        summary,
        own_captions=sum(any(clip.captions) for clip in told),
        unknown_labels=dict(unknown.most_common()),
    )


def _part_of(recipe: Recipe, clip: Clip, known: set[str]) -> tuple[str, str]:
    """The part that a clip is used for, or none and why."""
    tagger, generator = recipe.tagger, recipe.generator
    if clip.split not in PARTS:
        return "", f"split {clip.split}"
    if tagger is not None:
        if clip.label not in known:
            return "", f"label with fewer than {tagger.minimum_clips} training clips"
        return split_of(clip, tagger.development_share), ""
    if generator is not None and generator.couples and clip.split == "train":
        return "", "couples are learnt from in place of clips"
    if generator is not None and recipe.data.num_validation_windows == 0 and clip.split == "val":
        return "", "data.num_validation_windows is 0"
    return PARTS[clip.split], ""
