"""A comparison as ``peers.md``, a picture and ``peers.json``: a function of the comparison alone."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.bars import Bar, write_bars
from benchmarks.markdown import table
from benchmarks.peers.figures import (
    fastest,
    gflop_of_sound,
    int8_share,
    parameters_of,
    ratio,
    stage_seconds,
)
from benchmarks.peers.published import PUBLISHED
from benchmarks.peers.results import Block, Comparison, OwnResult, PeerResult
from edge_tta.bundle.manifest import STAGES
from edge_tta.files import make_folder, write_file
from edge_tta.runtime.contention import BUSY_CORES

ENGINES = {"eager": "torch eager, fp32", "onnx": "ONNX, best form of every part"}


def write_report(comparison: Comparison, target: Path) -> tuple[Path, ...]:
    """Write the document, and beside it what it rests on and a picture; each file appears whole or not at all.

    Args:
        comparison: what was found.
        target: the document, ending in .md.

    Returns:
        What was written.

    Raises:
        MissingExtraError: Pillow is not installed.
        OutputError: the files cannot be written.
    """
    make_folder(target.parent)
    data, picture = target.with_suffix(".json"), target.with_name(f"{target.stem}_stages.png")
    write_file(data, (json.dumps(asdict(comparison), allow_nan=False) + "\n").encode())
    write_bars("Shares of the stages (medians)", STAGES, _bars(comparison), picture)
    write_file(target, "\n".join(markdown(comparison, data.name, picture.name)).encode())
    return target, data, picture


def markdown(comparison: Comparison, data: str, picture: str) -> list[str]:
    """Lines of the document."""
    lines = ["# Beside other systems", "", *_reading(comparison, data), *_systems(comparison)]
    lines += [*_ratios(comparison), f"![shares of the stages]({picture})", "", *_own(comparison)]
    for peer in comparison.peers:
        lines += _parts(peer)
    return [*lines, *_noise(comparison), *_machine(comparison)]


def _reading(comparison: Comparison, data: str) -> list[str]:
    shrunken = "**The peers are shrunken: the figures mean nothing.** " if comparison.tiny else ""
    text = (
        f"{shrunken}What a second of sound costs on the same machine, with {comparison.threads} threads, in one run. "
        "The peers are rebuilt from published facts with random weights: speed and size can be compared, quality "
        "cannot. Each makes what it always makes, at its own sample rate, and takes as many steps as it was published "
        "with. Times are from prompt to samples without writing a file; theirs leave out the tokenizer, ours have it. "
        "The best ONNX form of a part is the fastest of several that were tried, in int8 or float; see below. Times: "
        f"median, in brackets fastest and slowest. Everything measured is in [{data}]({data})."
    )
    return [text, ""]


def _systems(comparison: Comparison) -> list[str]:
    head = (
        "system",
        "run by",
        "makes",
        "steps",
        "parameters",
        "GFLOP",
        "time, ms",
        "real-time factor",
        "GFLOP/s",
        "peak",
    )
    rows = []
    for own in comparison.ours:
        blocks = own.blocks
        what = f"{own.bundle} ({own.weights} weights)", own.variant
        gflop = gflop_of_sound(own.parts)
        rows.append(
            _row(what, _sound(own), 1, parameters_of(own.parts), gflop, own.totals, own.seconds, blocks)
        )
    for peer in comparison.peers:
        for engine, block in (("eager", peer.eager), ("onnx", peer.onnx)):
            what, gflop = (peer.title, ENGINES[engine]), gflop_of_sound(peer.parts)
            parameters = parameters_of(peer.parts)
            rows.append(
                _row(what, _sound(peer), peer.steps, parameters, gflop, block.totals, peer.seconds, (block,))
            )
    return ["## What a sound costs", "", *table(head, rows, 3)]


def _sound(made: OwnResult | PeerResult) -> str:
    channels = {1: "mono", 2: "stereo"}[made.channels]
    return f"{made.seconds:.1f} s, {made.sample_rate / 1000:g} kHz {channels}"


def _row(
    what: tuple[str, str],
    sound: str,
    steps: int,
    parameters: int,
    gflop: float,
    totals: list[float],
    seconds: float,
    blocks: tuple[Block, ...],
) -> tuple[str, ...]:
    middle = float(np.median(totals))
    return (
        *what,
        sound,
        str(steps),
        f"{parameters / 1e6:.1f} M",
        f"{gflop:.1f}",
        f"**{1e3 * middle:.1f}** ({1e3 * min(totals):.1f}–{1e3 * max(totals):.1f})",
        f"{middle / seconds:.4f}",
        f"{gflop / middle:.0f}",
        f"{max(block.peak_rss_bytes for block in blocks) / 1e6:.0f} MB",
    )


def _ratios(comparison: Comparison) -> list[str]:
    ours = fastest(comparison)
    rows = []
    for peer in comparison.peers:
        for engine, block in (("eager", peer.eager), ("onnx", peer.onnx)):
            figures = [ratio(peer, block, own) for own in ours]
            cells = [f"**{figure.value:.0f}** ({figure.low:.0f}–{figure.high:.0f})" for figure in figures]
            rows.append((f"{peer.title}, {ENGINES[engine]}", *cells))
    head = ("", *(own.name for own in ours))
    text = (
        "Time per second of sound over that of our fastest variant of each bundle. In brackets: 95 % of the medians of "
        "resampled runs; of ours, whole blocks before and after the peers' are drawn too, so that the interval holds "
        "what else the machine did."
    )
    return ["## How many times longer a second of sound takes", "", text, "", *table(head, rows, 1)]


def _own(comparison: Comparison) -> list[str]:
    rows = []
    for own in comparison.ours:
        runs = [run for block in own.blocks for run in block.runs]
        cells = [f"{1e3 * float(np.median([run[name] for run in runs])):.1f}" for name in (*STAGES, "total")]
        gflop = [f"{part.gflop:.1f}" for part in own.parts]
        rows.append((own.name, *cells, " / ".join(gflop), f"{100 * int8_share(own, comparison):.0f} %"))
    head = (
        "variant",
        *(f"{name.replace('_', ' ')}, ms" for name in STAGES),
        "total, ms",
        "GFLOP",
        "of int8 limit",
    )
    rates = comparison.rates
    text = (
        "GFLOP of text encoder, generator and decoder. Of int8 limit: what the generator reaches of the "
        f"{rates.int8:.0f} GOP/s of a large int8 matrix product here (float32: {rates.float32:.0f} GFLOP/s)."
    )
    return ["## Ours by stage", "", *table(head, rows, 1), text, ""]


def _parts(peer: PeerResult) -> list[str]:
    rows, forms = [], []
    for part in peer.parts:
        eager, onnx = peer.eager.median(part.name), peer.onnx.median(part.name)
        gflop = part.calls * part.gflop
        known = PUBLISHED[peer.name, part.name]
        rows.append(
            (
                part.name.replace("_", " "),
                f"{part.parameters:,}",
                f"{known.parameters / 1e6:.0f} M: {known.source}",
                f"{part.calls} × {part.gflop:.1f}",
                f"{1e3 * eager:.1f}",
                f"{gflop / eager:.0f}",
                f"{1e3 * onnx:.1f}",
                f"{gflop / onnx:.0f}",
            )
        )
        for form in part.candidates:
            forms.append(
                (
                    part.name.replace("_", " "),
                    form.name + (" **chosen**" if form.name == part.chosen else ""),
                    f"{1e3 * form.best:.1f}",
                    f"{form.file_bytes / 1e6:.1f}",
                    "" if form.snr_db is None else f"{form.snr_db:.1f}",
                )
            )
    head = ("part", "parameters", "published", "calls × GFLOP", "eager, ms", "GFLOP/s", "ONNX, ms", "GFLOP/s")
    tried = ("part", "form", "fastest call, ms", "file, MB", "SNR to float, dB")
    return [
        f"## {peer.title}: parts",
        "",
        *table(head, rows, 3),
        "Forms tried in ONNX Runtime (flat: convolutions written as two-dimensional ones):",
        "",
        *table(tried, forms, 2),
    ]


def _noise(comparison: Comparison) -> list[str]:
    rows = []
    for own in comparison.ours:
        medians = [1e3 * block.median() for block in own.blocks]
        rows.append((own.name, " / ".join(f"{value:.1f}" for value in medians), _others(own.blocks)))
    for peer in comparison.peers:
        for engine, block in (("eager", peer.eager), ("onnx", peer.onnx)):
            runs = " / ".join(f"{1e3 * total:.0f}" for total in block.totals)
            rows.append((f"{peer.title}, {ENGINES[engine]}", runs, _others((block,))))
    found = [block.contention for own in comparison.ours for block in own.blocks]
    found += [block.contention for peer in comparison.peers for block in (peer.eager, peer.onnx)]
    loads = [item.load_average_before[0] for item in found if item.load_average_before is not None]
    busy = sum(item.is_busy for item in found)
    load = f"load average {min(loads):.1f} to {max(loads):.1f}; " if loads else ""
    text = (
        f"Medians of our blocks in the order of the run, and every run of the peers, ms. Before the blocks: {load}"
        f"in {busy} of {len(found)} blocks others used more than {BUSY_CORES:g} cores."
    )
    return ["## Noise", "", text, "", *table(("", "ms", "cores others used"), rows)]


def _others(blocks: tuple[Block, ...]) -> str:
    values = [
        None
        if (found := block.contention).other_cores is None
        else found.other_cores + (found.stolen_cores or 0.0)
        for block in blocks
    ]
    return " / ".join("not readable" if value is None else f"{value:.2f}" for value in values)


def _machine(comparison: Comparison) -> list[str]:
    device = comparison.device
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    processor = f"{device.soc}{', virtual' if device.virtual else ''} ({', '.join(device.abi_features)})"
    memory = "" if device.memory_bytes is None else f" {device.memory_bytes / 2**30:.0f} GiB,"
    text = (
        f"{processor}, {device.cores} cores,{memory} {device.os}; fingerprint {comparison.fingerprint}. {versions}, "
        f"Python {comparison.python}; commit {comparison.commit or 'unknown'}; {comparison.date}."
    )
    return ["## Machine", "", text, ""]


def _bars(comparison: Comparison) -> list[Bar]:
    bars = []
    for own in comparison.ours:
        runs = [run for block in own.blocks for run in block.runs]
        parts = tuple(float(np.median([run[name] for run in runs])) for name in STAGES)
        bars.append(Bar(own.name, parts, f"{1e3 * float(np.median(own.totals)):.0f} ms"))
    for peer in comparison.peers:
        for engine, block in (("eager", peer.eager), ("onnx", peer.onnx)):
            parts = tuple(stage_seconds(peer, block, name) for name in STAGES)
            bars.append(Bar(f"{peer.name}, {engine}", parts, f"{1e3 * block.median():.0f} ms"))
    return bars
