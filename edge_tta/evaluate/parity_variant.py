"""The part of the page that is about one variant: figures, charts, the furthest sounds, and all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.html import Markup, element
from edge_tta.evaluate.html_table import Cell, table
from edge_tta.evaluate.parity import clip_values
from edge_tta.evaluate.parity_pairs import AUDIBLE_LOG_MEL, HeardPair, pairs_section
from edge_tta.evaluate.parity_results import ClipParity, ParityReport, VariantParity
from edge_tta.evaluate.parity_text import STAGE_TITLES, figure_interval, figure_number, number
from edge_tta.evaluate.strip_chart import Limit, Strip, strip_chart

SNR_ROWS = {
    "text_encoder.tokens_snr_db": "text encoder, tokens",
    "generator.latent_snr_db": "generator, latent",
    "end_to_end.latent_snr_db": "end to end, latent",
    "decoder.waveform_snr_db": "decoder, waveform",
    "end_to_end.waveform_snr_db": "end to end, waveform",
}
MEL_ROWS = {"decoder.log_mel_distance": "decoder", "end_to_end.log_mel_distance": "end to end"}
"""Rows of the charts by figure."""


def variant_section(report: ParityReport, variant: VariantParity, pairs: Sequence[HeardPair]) -> list[Markup]:
    """Everything about one variant that ran.

    Args:
        report: the validation it is part of.
        variant: one with the status "ran".
        pairs: sounds to be heard, furthest from the reference first.
    """
    rows: list[list[str | Cell]] = []
    stage = ""
    for key, kind in FIGURES.items():
        figure = variant.figures.get(key)
        if figure is None:
            continue
        if kind.stage != stage:
            stage = kind.stage
            rows.append([STAGE_TITLES[stage]])
        unit = f" {kind.unit}" if kind.unit else ""
        spread = [
            Cell("" if v is None else figure_number(key, v))
            for v in (figure.median, figure.lowest, figure.highest)
        ]
        rows.append(
            [
                element("span", kind.title, element("small", unit)),
                figure_number(key, figure.value),
                Cell(figure_interval(key, figure), look="interval"),
                *spread,
                str(figure.n),
            ]
        )
    heads = ("figure", "mean", "95 % interval", "median", "lowest", "highest", "sounds")
    content = [
        element(
            "p",
            f"{variant.backend}, {variant.precision}, {variant.file_bytes / 1e6:.1f} MB of files. Each stage is judged "
            "with the reference's own input, so that errors do not add up; end to end is from the prompt.",
        ),
        table(f"Figures of {variant.name}", heads, rows, numeric=range(1, 7)),
        *_charts(report, variant),
    ]
    title = "The sound" if len(pairs) == 1 else f"The {len(pairs)} sounds"
    if pairs:
        about = (
            "By log-mel distance, end to end. Sounds are stored without loss; both pictures of a pair have one scale "
            "of levels. “Switch sides here” goes on with the other sound at the same moment."
        )
        content += [
            element("h3", f"{title} furthest from the reference"),
            element("p", about, class_="soft"),
            pairs_section(pairs, report.reference.name, variant.name),
        ]
    elif all(clip.log_mel < AUDIBLE_LOG_MEL for clip in variant.clips):
        content.append(
            element("p", "No sound differs from the reference's by 0.02 dB: there is nothing to hear.")
        )
    return [*content, _all_sounds(variant)]


def _charts(report: ParityReport, variant: VariantParity) -> list[Markup]:
    ratios = _chart("Signal-to-noise ratio", "dB", SNR_ROWS, variant, from_zero=False)
    apart = report.reference.seed_log_mel
    marks = [] if apart is None else [Limit(apart.value, (len(MEL_ROWS) - 1,), "two seeds apart")]
    distances = _chart("Log-mel distance", "log10 magnitude", MEL_ROWS, variant, from_zero=True, marks=marks)
    about = (
        "A dot is a sound, the upright stroke the median. A waveform's ratio says little about this decoder: its "
        "phases are running sums, so the smallest rounding shifts the waveform without changing what is heard. Judge "
        "it by log-mel distance, beside that of two seeds of one prompt, which are two different sounds."
    )
    return [element("div", ratios, distances, class_="charts"), element("p", about, class_="soft")]


def _chart(
    title: str,
    unit: str,
    rows: Mapping[str, str],
    variant: VariantParity,
    *,
    from_zero: bool,
    marks: Sequence[Limit] = (),
) -> Markup:
    """A strip chart of figures that are means over sounds, with the gates that are held against them."""
    strips, limits = [], list(marks)
    for place, (key, label) in enumerate(rows.items()):
        values = clip_values(variant.clips, key)
        assert values is not None
        strips.append(Strip(label, values))
        for gate in variant.gates:
            limit = gate.at_most if gate.at_least is None else gate.at_least
            if gate.figure == key and limit is not None:
                limits.append(Limit(limit, (place,), "gate"))
    drawn = strip_chart(title, strips, unit, limits=limits, from_zero=from_zero)
    return element("div", element("h3", title), drawn)


def _all_sounds(variant: VariantParity) -> Markup:
    """Every sound in a table that can be sorted."""
    heads = (
        "prompt", "suite", "seed", "tokens dB", "generator dB", "decoder dB", "latent dB", "waveform dB",
        "log-mel", "STFT", "loudness LU", "label's place",
    )  # fmt: skip
    rows = [_sound(clip) for clip in variant.clips]
    return element(
        "details",
        element("summary", f"All {len(rows)} sounds"),
        table(f"All sounds of {variant.name}", heads, rows, numeric=range(2, len(heads)), sortable=True),
    )


def _sound(clip: ClipParity) -> list[str | Cell]:
    ratios = (
        clip.tokens_snr_db, clip.generator_snr_db, clip.decoder_snr_db, clip.latent_snr_db, clip.waveform_snr_db
    )  # fmt: skip
    loudness = clip.loudness_change_lu
    place = "–"
    if clip.rank is not None and clip.reference_rank is not None:
        place = f"{clip.reference_rank + 1} → {clip.rank + 1}"
    return [
        Cell(clip.prompt, look="prompt"),
        clip.suite,
        Cell(str(clip.seed), clip.seed),
        *(Cell(number(ratio, 1), ratio) for ratio in ratios),
        Cell(number(clip.log_mel, 3), clip.log_mel),
        Cell(number(clip.stft, 3), clip.stft),
        Cell("–" if loudness is None else number(loudness, 2, signed=True), loudness or 0.0),
        Cell(place, 10**6 if clip.rank is None else clip.rank),
    ]
