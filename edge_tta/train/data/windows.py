"""Training windows of any length from short clips: sequences with natural gaps, cross-faded loops, mixtures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from edge_tta.catalog import Clip
from edge_tta.errors import ConfigError, DataError
from edge_tta.train.data.captions import OWN_CAPTION_SHARE, Captioner
from edge_tta.train.data.clip_cache import ClipCache

FADE_SECONDS = 0.005
"""Raised-cosine fade at every cut, so that no seam clicks."""

CROSSFADE_SECONDS = 0.35
"""Equal-power cross-fade where a texture is looped."""

ONSET_SHARE = 0.05
"""A sound is heard from where it first reaches this share of its peak."""

GAPS = {"event": (0.15, 1.2), "oneshot": (0.25, 1.5), "music": (0.05, 0.6), "word": (0.25, 1.5)}
"""Shortest and longest silence between two clips of a sequence, seconds, by kind of label."""

REPEATED_SHARE = {"event": 0.75, "oneshot": 0.5, "music": 0.5, "word": 0.0}
"""Share of windows in which a short clip is followed by others, by kind of label; a word is said once."""


@dataclass(frozen=True)
class WindowPolicy:
    """How windows are drawn."""

    sample_rate: int = 44100
    """Hz."""
    min_seconds: float = 0.5
    """Shortest window."""
    max_seconds: float = 12.0
    """Longest window."""
    short_share: float = 0.4
    """Share of windows between ``min_seconds`` and ``short_seconds``; the rest are longer."""
    short_seconds: float = 4.0
    """Border between short and long windows."""
    mixture_share: float = 0.15
    """Share of windows with two labels."""
    sequence_share: float = 0.3
    """Share of those in which the second follows the first instead of sounding with it."""
    start_at_once_share: float = 0.7
    """Share of event windows whose first clip begins within 50 ms: a user expects sound at once."""
    min_peak_db: float = -9.0
    """Lowest peak a window is scaled to, dBFS."""
    max_peak_db: float = -1.0
    """Highest peak."""

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds <= self.short_seconds <= self.max_seconds:
            raise ConfigError(
                f"windows: min_seconds {self.min_seconds:g}, short_seconds {self.short_seconds:g} and max_seconds "
                f"{self.max_seconds:g} must be above 0 and in rising order"
            )

    def draw_seconds(self, rng: Generator) -> float:
        """A window length in seconds."""
        if rng.random() < self.short_share:
            return float(rng.uniform(self.min_seconds, self.short_seconds))
        return float(rng.uniform(self.short_seconds, self.max_seconds))


@dataclass(frozen=True)
class Window:
    """One training example."""

    samples: NDArray[np.float32]
    """float32 [N], mono."""
    labels: tuple[str, ...]
    captions: tuple[str, ...]
    """Several wordings of what is heard."""
    clip_ids: tuple[str, ...]
    begins: tuple[float, ...] = ()
    """When each label of a mixture is first heard, seconds; a window may be cut before."""
    alone: tuple[tuple[str, ...], ...] = ()
    """As many wordings of each label of a mixture alone."""


def _fade(samples: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Raised-cosine fade of both ends, in place."""
    count = min(count, len(samples) // 2)
    if count > 0:
        ramp = (0.5 - 0.5 * np.cos(np.pi * (np.arange(count) + 0.5) / count)).astype(np.float32)
        samples[:count] *= ramp
        samples[-count:] *= ramp[::-1]
    return samples


def _onset(samples: NDArray[np.float32]) -> int:
    """First sample that is heard."""
    level = np.abs(samples)
    return int(np.argmax(level >= ONSET_SHARE * level.max()))


class WindowBuilder:
    """Builds windows from one split of a catalog; all randomness comes from the generator passed in.

    Args:
        clips: catalog, in the order of ``cache``.
        cache: decoded clips.
        captioner: caption grammar.
        policy: how windows are drawn.
        split: which clips to use.
        own_caption_share: probability that a window of one clip is told by a caption of the clip's own.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        cache: ClipCache,
        captioner: Captioner,
        policy: WindowPolicy,
        split: str = "train",
        own_caption_share: float = OWN_CAPTION_SHARE,
    ) -> None:
        self.clips, self.cache, self.captioner, self.policy = clips, cache, captioner, policy
        self.own_caption_share = own_caption_share
        self.by_label: dict[str, list[int]] = {}
        for index, clip in enumerate(clips):
            if clip.split == split and cache.length(index) > 0:
                self.by_label.setdefault(clip.label, []).append(index)
        if not self.by_label:
            raise DataError(f"no clips in split '{split}'")
        self.labels = sorted(self.by_label)
        sizes = np.sqrt([len(self.by_label[label]) for label in self.labels])
        self.label_probability = sizes / sizes.sum()

    def draw_label(self, rng: Generator) -> str:
        """A label with probability proportional to the square root of its number of clips."""
        return self.labels[int(rng.choice(len(self.labels), p=self.label_probability))]

    def draw(self, rng: Generator, num_captions: int = 4) -> Window:
        """A window of random length and labels."""
        seconds, label = self.policy.draw_seconds(rng), self.draw_label(rng)
        if rng.random() >= self.policy.mixture_share or len(self.labels) < 2:
            return self.build(seconds, label, rng, num_captions)
        other = label
        while other == label:
            other = self.draw_label(rng)
        return self.build_mixture(seconds, label, other, rng, num_captions)

    def build(self, seconds: float, label: str, rng: Generator, num_captions: int = 1) -> Window:
        """A window of one label.

        Args:
            seconds: length.
            label: what is heard.
            rng: source of every choice.
            num_captions: wordings to draw.

        Raises:
            DataError: the split has no clip of this label.
        """
        samples, used = self._assemble(round(seconds * self.policy.sample_rate), label, rng)
        own = self.clips[used[0]].captions if len(set(used)) == 1 else ()
        share = self.own_caption_share
        captions = tuple(self.captioner.describe_clip(label, own, share, rng) for _ in range(num_captions))
        return Window(self._level(samples, rng), (label,), captions, tuple(self.clips[i].id for i in used))

    def build_mixture(
        self, seconds: float, first: str, second: str, rng: Generator, num_captions: int = 1
    ) -> Window:
        """A window of two labels, sounding together or one after the other."""
        total = round(seconds * self.policy.sample_rate)
        sequential = seconds >= 3.0 and rng.random() < self.policy.sequence_share
        if sequential:
            cut = int(total * rng.uniform(0.4, 0.6))
            a, used_a = self._assemble(cut, first, rng)
            b, used_b = self._assemble(total - cut, second, rng)
            samples = np.concatenate([a / (np.abs(a).max() + 1e-6), b / (np.abs(b).max() + 1e-6)])
            starts = (0, cut)
        else:
            a, used_a = self._assemble(total, first, rng)
            b, used_b = self._assemble(total, second, rng)
            offset = 10.0 ** (rng.uniform(-6.0, 6.0) / 20.0)
            a, b = a / (self._loudness(a) + 1e-4), offset * b / (self._loudness(b) + 1e-4)
            samples, starts = a + b, (0, 0)
        captions = tuple(self.captioner.join(first, second, sequential, rng) for _ in range(num_captions))
        ids = tuple(self.clips[index].id for index in (*used_a, *used_b))
        samples = self._level(samples.astype(np.float32), rng)
        # Drawn last: what is heard does not depend on how it may be told.
        alone = tuple(
            tuple(self.captioner.caption(label, rng) for _ in range(num_captions))
            for label in (first, second)
        )
        begins = tuple(
            (start + _onset(part)) / self.policy.sample_rate
            for start, part in zip(starts, (a, b), strict=True)
        )
        return Window(samples, (first, second), captions, ids, begins, alone)

    def _loudness(self, samples: NDArray[np.float32]) -> float:
        """RMS of the loudest 100 ms, so that silence between events does not count."""
        block = max(1, self.policy.sample_rate // 10)
        usable = len(samples) // block * block
        if usable == 0:
            return float(np.sqrt(np.mean(samples**2)))
        return float(np.sqrt((samples[:usable].reshape(-1, block) ** 2).mean(axis=1).max()))

    def _level(self, samples: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
        peak = float(np.abs(samples).max())
        target = 10.0 ** (rng.uniform(self.policy.min_peak_db, self.policy.max_peak_db) / 20.0)
        return (samples * (target / peak)).astype(np.float32) if peak > 1e-5 else samples

    def _assemble(self, total: int, label: str, rng: Generator) -> tuple[NDArray[np.float32], list[int]]:
        """``total`` samples of one label and the clips used."""
        indices = self.by_label.get(label)
        if not indices:
            raise DataError(f"no clip with label '{label}'")
        kind = self.captioner.words(label).kind
        index = indices[int(rng.integers(len(indices)))]
        length = self.cache.length(index)
        if length >= total:
            start = self._crop_start(index, total, kind, rng)
            return _fade(self.cache.read(index, start, total), self._fade_count()), [index]
        if kind == "texture":
            return self._loop(index, total), [index]
        return self._sequence(index, indices, total, kind, rng)

    def _fade_count(self) -> int:
        return round(FADE_SECONDS * self.policy.sample_rate)

    def _crop_start(self, index: int, total: int, kind: str, rng: Generator) -> int:
        """Where to cut a long clip: textures anywhere, words at their start, the rest mostly there or where loud."""
        slack = self.cache.length(index) - total
        if slack == 0 or kind == "word":
            return 0
        if kind != "texture" and rng.random() < 0.5:
            return int(rng.integers(0, min(slack, self.policy.sample_rate // 20) + 1))
        best, best_level = 0, -1.0
        for _ in range(3):
            start = int(rng.integers(0, slack + 1))
            level = self._loudness(self.cache.read(index, start, total))
            if level > best_level:
                best, best_level = start, level
            if kind == "texture":
                break
        return best

    def _loop(self, index: int, total: int) -> NDArray[np.float32]:
        """A texture looped with equal-power cross-fades."""
        clip = self.cache.read(index)
        fade = min(round(CROSSFADE_SECONDS * self.policy.sample_rate), len(clip) // 3)
        if fade < 2:
            return _fade(np.resize(clip, total).astype(np.float32), self._fade_count())
        ramp = np.sin(0.5 * math.pi * (np.arange(fade) + 0.5) / fade).astype(np.float32)
        out = np.zeros(total + len(clip), dtype=np.float32)
        position, first = 0, True
        while position < total:
            piece = clip.copy()
            if not first:
                piece[:fade] *= ramp
            piece[-fade:] *= ramp[::-1]
            out[position : position + len(piece)] += piece
            position, first = position + len(piece) - fade, False
        return _fade(out[:total].copy(), self._fade_count())

    def _sequence(
        self, index: int, indices: list[int], total: int, kind: str, rng: Generator
    ) -> tuple[NDArray[np.float32], list[int]]:
        """Clips of one label with gaps; usually the same clip again, as one dog barks on, sometimes another."""
        rate = self.policy.sample_rate
        out = np.zeros(total, dtype=np.float32)
        low, high = GAPS[kind]
        at_once = rng.random() < self.policy.start_at_once_share
        room = max(0, total - self.cache.length(index))
        position = (
            int(rng.uniform(0.0, 0.05) * rate) if at_once else int(rng.uniform(0.0, min(room, 1.5 * rate)))
        )
        repeats = rng.random() < REPEATED_SHARE[kind]
        used: list[int] = []
        while position < total and (repeats or not used):
            piece = _fade(self.cache.read(index), self._fade_count())[: total - position]
            if len(piece) < 0.3 * self.cache.length(index) and used:
                break
            out[position : position + len(piece)] += piece * 10.0 ** (rng.uniform(-3.0, 0.0) / 20.0)
            used.append(index)
            position += len(piece) + int(rng.uniform(low, high) * rate)
            if rng.random() < 0.3:
                index = indices[int(rng.integers(len(indices)))]
        return _fade(out, self._fade_count()), used
