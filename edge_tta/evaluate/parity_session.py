"""A validation under way: the reference's sounds are made once, then every variant is held against them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edge_tta.audio import Audio
from edge_tta.bundle import Bundle
from edge_tta.errors import BackendError, MissingExtraError
from edge_tta.evaluate.defects import Defects, find_defects
from edge_tta.evaluate.gates import Gate, judge
from edge_tta.evaluate.parity import (
    Heard,
    Item,
    compare_clip,
    figures_of,
    hear,
    levels_of,
    mel_distance,
    stft_distance,
)
from edge_tta.evaluate.parity_pairs import AUDIBLE_LOG_MEL, HeardPair
from edge_tta.evaluate.parity_results import ClipParity, Levels, ReferenceParity, VariantParity
from edge_tta.evaluate.parity_sources import Listeners, real_embedding
from edge_tta.evaluate.rendition import RenditionStore, render
from edge_tta.evaluate.spectral import FloatArray
from edge_tta.evaluate.statistics import Spread, spread
from edge_tta.runtime.backend import LoadedModel, load_variant

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done, and units of work done and in all; a unit is a sound made or a real clip heard."""

Loader = Callable[[Bundle, str, int], LoadedModel]
"""As ``edge_tta.runtime.backend.load_variant``."""


class ParitySession:
    """Reference and variants on the same prompts and noise.

    Args:
        items: sounds to make.
        listeners: tagger and real clips.
        store: keeps the reference's renditions.
        variants: how many will be compared, for the progress.
        on_progress: told after every unit of work.
        load: opens a variant of a bundle by its name, for so many threads.
    """

    def __init__(
        self,
        items: Sequence[Item],
        listeners: Listeners,
        store: RenditionStore,
        variants: int,
        on_progress: OnProgress | None = None,
        load: Loader = load_variant,
    ) -> None:
        self._load = load
        self._items, self._listeners, self._store = items, listeners, store
        self._on_progress = on_progress
        self._done, self._total = 0, len(items) * (1 + variants) + len(listeners.clips)
        self._heard: list[Heard] = []
        self._real: FloatArray | None = None

    def make_reference(self, name: str, model: LoadedModel) -> ReferenceParity:
        """Make and keep every sound of the reference, and hear the real clips.

        Raises:
            RequestError: the bundle does not make such sounds.
            BackendError: the reference fails; then there is nothing to compare with.
            DataError: a real clip is not readable audio.
        """
        tagger = self._listeners.tagger
        defects, mel, stft, prompts = [], [], [], []
        before: tuple[str, Audio] | None = None
        for number, item in enumerate(self._items):
            made = render(model, item.request)
            self._store.put(number, made)
            self._heard.append(hear(made.audio, item.prompt, tagger))
            defects.append(find_defects(made.waveform, made.audio))
            if before is not None and before[0] == item.prompt.text:
                pair = before[1].samples, made.audio.samples
                mel.append(mel_distance(*pair, made.audio.sample_rate))
                stft.append(stft_distance(*pair))
                prompts.append(item.prompt.text)
            before = item.prompt.text, made.audio
            self._report(f"reference {name}")
        if tagger is not None and self._listeners.clips:
            rows = []
            for clip in self._listeners.clips:
                rows.append(real_embedding(tagger, clip))
                self._report("real clips")
            self._real = np.stack(rows)

        def apart(values: list[float]) -> Spread | None:
            return spread(values, np.random.default_rng(2), groups=prompts) if values else None

        levels = self._levels(self._heard, defects)

        return ReferenceParity(name, model.backend.name, levels, apart(mel), apart(stft))

    def compare(
        self, bundle: Bundle, name: str, threads: int, gates: Sequence[Gate], worst: int
    ) -> tuple[VariantParity, tuple[HeardPair, ...]]:
        """Hold one variant against the reference; one that does not run here, or breaks, says so.

        Args:
            bundle: what it is a variant of.
            name: its name.
            threads: threads a stage may use.
            gates: limits; those of its precision are judged.
            worst: how many sounds to keep, furthest from the reference first; none that nobody could tell.

        Raises:
            BundleError: a file of the variant is damaged.
        """
        entry = bundle.variants[name]
        size = entry.size()
        try:
            model = self._load(bundle, name, threads)
        except (BackendError, MissingExtraError) as error:
            self._report(name, len(self._items))
            return VariantParity(name, entry.backend, entry.precision, size, "not run", str(error)), ()
        clips: list[ClipParity] = []
        heard: list[Heard] = []
        kept: dict[int, HeardPair] = {}
        try:
            for number, item in enumerate(self._items):
                reference = self._store.get(number)
                clip, mine, made = compare_clip(
                    item, reference, self._heard[number], model, self._listeners.tagger
                )
                clips.append(clip)
                heard.append(mine)
                if clip.log_mel >= AUDIBLE_LOG_MEL:
                    kept[number] = HeardPair(clip, reference.audio, made.audio)
                kept = {place: kept[place] for place in _furthest(kept, worst)}
                self._report(name)
        except BackendError as error:
            self._report(name, len(self._items) - len(clips))
            return VariantParity(name, entry.backend, entry.precision, size, "failed", str(error)), ()
        finally:
            model.backend.close()
        # Seeded anew: the figures of a variant do not depend on which others there are.
        figures = figures_of(clips, heard, self._heard, self._real, np.random.default_rng(1))
        report = VariantParity(
            name,
            model.backend.name,
            entry.precision,
            size,
            "ran",
            figures=figures,
            levels=self._levels(heard, [clip.defects for clip in clips]),
            gates=judge(gates, entry.precision, figures),
            worst=tuple(kept),
            clips=tuple(clips),
        )
        return report, tuple(kept.values())

    def _levels(self, heard: Sequence[Heard], defects: Sequence[Defects]) -> Levels:
        """Figures of one set of sounds; all sets are resampled alike."""
        asked = [item.prompt for item in self._items]
        return levels_of(heard, defects, asked, self._real, np.random.default_rng(0))

    def _report(self, doing: str, units: int = 1) -> None:
        self._done += units
        if self._on_progress is not None:
            self._on_progress(doing, self._done, self._total)


def _furthest(pairs: dict[int, HeardPair], count: int) -> list[int]:
    """Places of the pairs with the largest end-to-end log-mel distance, largest first."""
    return sorted(pairs, key=lambda place: (-pairs[place].clip.log_mel, place))[:count]
