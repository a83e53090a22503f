"""The result of a validation as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_tta.evaluate.figures import FIGURES
from edge_tta.evaluate.html import Markup, document, element
from edge_tta.evaluate.html_table import Cell, table
from edge_tta.evaluate.parity_pairs import HeardPair
from edge_tta.evaluate.parity_results import Levels, ParityReport
from edge_tta.evaluate.parity_text import (
    figure_interval,
    limit_text,
    measured_text,
    number,
    share,
    sounds_text,
    variant_sentence,
    verdict,
)
from edge_tta.evaluate.parity_variant import variant_section
from edge_tta.evaluate.statistics import Estimate


def parity_page(report: ParityReport, pairs: Mapping[str, Sequence[HeardPair]]) -> str:
    """The page.

    Args:
        report: what was found.
        pairs: by variant, the sounds to be heard, furthest from the reference first.
    """
    reference = report.reference
    sections: list[tuple[str, str, list[Markup]]] = [
        ("gates", "Gates", _gates(report)),
        ("sounds", "Every set of sounds by itself", _levels(report)),
    ]
    for variant in report.variants:
        if variant.status == "ran":
            content = variant_section(report, variant, pairs.get(variant.name, ()))
            sections.append((f"variant-{variant.name}", variant.name, content))
    sections.append(("method", "How this was measured", _method(report)))
    links = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in sections]
    head = element(
        "header",
        element("p", "edge_tta validation", class_="kicker"),
        element("h1", f"{report.bundle} against its float model"),
        element("p", " ".join(variant_sentence(variant) for variant in report.variants), class_="lede"),
        element(
            "p",
            f"Held against {reference.name} ({reference.backend}, fp32) with the same prompts and noise; "
            f"{sounds_text(report)}.",
            class_="soft",
        ),
        element("nav", element("ul", *links), aria_label="Sections"),
    )
    body = [
        element("section", element("h2", title), *content, id=anchor) for anchor, title, content in sections
    ]
    title = f"Validation of {report.bundle}"
    return document(title, element("main", head, *body), scripts=("players.js", "tables.js"))


def badge(text: str) -> Markup:
    """A verdict in colour, with a sign for those who see none."""
    sign = {"pass": "✓ ", "fail": "✗ "}.get(text, "")
    return element("span", f"{sign}{text}", class_=f"verdict {text if sign else 'none'}")


def _gates(report: ParityReport) -> list[Markup]:
    rows: list[list[str | Cell]] = []
    for variant in report.variants:
        for gate in variant.gates:
            # The interval is that of the mean: it says nothing about an extreme.
            figure = variant.figures.get(gate.figure) if gate.statistic == "value" else None
            doubt = element("small", " limit within the interval") if gate.decisive is False else Markup("")
            rows.append(
                [
                    variant.name,
                    element("span", gate.title, Markup("<br>"), element("small", gate.reason)),
                    limit_text(gate),
                    measured_text(gate) if gate.measured is not None else "–",
                    Cell("" if figure is None else figure_interval(gate.figure, figure), look="interval"),
                    element("span", badge(verdict(gate)), doubt),
                ]
            )
        if variant.status != "ran":
            what = element("span", "every sound", Markup("<br>"), element("small", variant.reason))
            rows.append(
                [variant.name, what, "", "", "", badge("fail" if variant.status == "failed" else "not run")]
            )
    if not rows:
        return [element("p", "No gate applies to these variants.")]
    heads = ("variant", "gate", "limit", "measured", "95 % interval", "verdict")
    return [table("Gates", heads, rows, numeric=(2, 3, 4), stacked=True)]


def _levels(report: ParityReport) -> list[Markup]:
    sets: list[tuple[str, Levels]] = [(f"{report.reference.name} (reference)", report.reference.levels)]
    sets += [(variant.name, variant.levels) for variant in report.variants if variant.levels is not None]
    heads = (
        "sounds of", "loudness", "label first", "among five", "Fréchet distance",
        "silent", "too loud", "flat tops", "clicks",
    )  # fmt: skip
    rows: list[list[str | Cell]] = []
    for name, levels in sets:
        loudness, faults = levels.loudness_lufs, levels.defects
        rows.append(
            [
                name,
                "all silent" if loudness is None else f"{number(loudness.value, 1)} LUFS",
                share(levels.top1),
                share(levels.top5),
                _with_interval(levels.frechet),
                *(str(n) for n in (faults.silent, faults.overloaded, faults.flat_topped, faults.clicks)),
            ]
        )
    about = (
        "Loudness is the mean of integrated loudness. Too loud: sounds that were scaled down to fit into full scale; "
        "where two models differ in the highest sample, the level of the whole sound then differs. Clicks are isolated "
        "jumps of all sounds together; many sounds have some by nature, so only a change says something."
    )
    notes = [
        about,
        *(f"Not measured: {name}, because {reason}." for name, reason in report.not_measured.items()),
    ]
    return [
        table("Every set of sounds by itself", heads, rows, numeric=range(1, len(heads))),
        *(element("p", note, class_="soft") for note in notes),
    ]


def _with_interval(estimate: Estimate | None) -> Markup:
    if estimate is None:
        return Markup("not measured")
    interval = f" {number(estimate.low, 1)} to {number(estimate.high, 1)}"
    return element("span", number(estimate.value, 1), element("span", interval, class_="interval"))


def _method(report: ParityReport) -> list[Markup]:
    facts = [
        ("Bundle", f"{report.bundle} {report.bundle_version}, digest {report.bundle_digest}"),
        ("Commit", report.bundle_commit or "not stated"),
        ("Reference", f"{report.reference.name} on {report.reference.backend}, fp32"),
        ("Sounds", f"{sounds_text(report)}; seeds from {report.settings.first_seed}"),
        ("Prompts and seeds", f"SHA-256 {report.settings.prompts_digest}"),
        ("Tagger", report.tagger_digest or "none"),
        (
            "Real clips",
            f"{report.real_clips}, metadata {report.real_clips_digest}" if report.real_clips else "none",
        ),
        ("Gates", report.gates_name),
        ("Processor", f"{report.device['soc']}; {', '.join(report.device['abi_features'])}"),
        ("Threads", str(report.settings.threads)),
        ("Tools", ", ".join(f"{name} {version}" for name, version in report.tools.items())),
    ]
    meanings = [(kind.title, kind.meaning) for kind in {k.title: k for k in FIGURES.values()}.values()]
    return [
        element(
            "p",
            "Intervals are 95 % bootstrap intervals over whole prompts, because seeds of one prompt are alike; those "
            "of adherence and Fréchet distance are over whole labels. Variant and reference are always resampled "
            "together. A verdict goes by the measured figure; it says so where the interval holds the limit, so that "
            "more sounds could turn it.",
        ),
        element("h3", "Figures"),
        _definitions(meanings),
        element("h3", "What was used"),
        _definitions(facts),
    ]


def _definitions(rows: Sequence[tuple[str, str]]) -> Markup:
    pieces = [part for name, text in rows for part in (element("dt", name), element("dd", text))]
    return element("dl", *pieces)
