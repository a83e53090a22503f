"""A comparison: forms of parts, blocks in processes of their own, ratios with their noise, and the report."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from bench_records import BUSY, PHONE, QUIET

from benchmarks.peers import compare as comparing
from benchmarks.peers import own, rates, worker
from benchmarks.peers.__main__ import main
from benchmarks.peers.compare import Plan, compare
from benchmarks.peers.counts import count_own, count_part
from benchmarks.peers.figures import fastest, int8_share, ratio, stage_seconds
from benchmarks.peers.graphs import example, write_graphs
from benchmarks.peers.report import write_report
from benchmarks.peers.results import (
    Block,
    Candidate,
    Comparison,
    OwnResult,
    PartResult,
    PeerResult,
    Rates,
)
from benchmarks.peers.systems import PEERS, peer
from edge_tta.bundle import Bundle
from edge_tta.config import from_dict
from edge_tta.errors import ConfigError
from edge_tta.model.presets import preset
from edge_tta.runtime.golden import signal_to_noise_db

ROOT = Path(__file__).resolve().parents[2]
STABLE = "stable-audio-open-small"


@pytest.fixture(autouse=True)
def threads_of_torch() -> Iterator[None]:
    """A worker sets them for its whole process, which here is everybody's."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def block(totals: tuple[float, ...], contention: Any = QUIET, **shares: float) -> Block:
    """Sounds whose parts take shares of the total."""
    runs = tuple(
        {**{name: total * share for name, share in shares.items()}, "total": total} for total in totals
    )
    return Block(runs, 0.5, 100_000_000, contention)


@cache
def own_parts() -> tuple[PartResult, ...]:
    return count_own(preset("edge-tiny"), 1.0, 7)


@cache
def peer_parts(name: str) -> tuple[PartResult, ...]:
    return tuple(count_part(part) for part in peer(name, tiny=True).parts)


def own_result(
    variant: str = "ort-int8", blocks: tuple[Block, ...] = (), bundle: str = "edge-120m"
) -> OwnResult:
    shares = {"tokenizer": 0.0, "text_encoder": 0.1, "generator": 0.5, "decoder": 0.4}
    blocks = blocks or tuple(block((0.05,) * 20, **shares) for _ in range(3))
    return OwnResult(bundle, "ab" * 32, variant, "random", 10.0, 44100, 1, own_parts(), blocks)


def peer_result(name: str = STABLE, eager: float = 20.0, onnx_seconds: float = 5.0) -> PeerResult:
    system = peer(name, tiny=True)
    forms = (Candidate("fp32", 2000, (0.2, 0.1), None), Candidate("int8", 1000, (0.05, 0.06), 33.3))
    parts = tuple(dataclasses.replace(part, candidates=forms, chosen="int8") for part in peer_parts(name))
    shares = {part.name: 1 / len(parts) for part in system.parts}
    blocks = block((eager,) * 5, **shares), block((onnx_seconds,) * 5, **shares)
    return PeerResult(name, system.title, 12.5, 44100, 2, 8, parts, *blocks)


def comparison(*ours: OwnResult, **changes: Any) -> Comparison:
    found = Comparison(
        "peers/1", "2026-11-21T10:00:00+00:00", "ab" * 20, PHONE, PHONE.fingerprint, "3.11.7",
        {"torch": "2.13"}, 2, False, Rates(400.0, 1600.0), ours or (own_result(),),
        (peer_result(), peer_result("meanaudio-s")),
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


@pytest.mark.parametrize(
    ("part", "forms", "integer"),
    [
        ("generator", ["fp32", "int8"], "MatMulInteger"),
        ("decoder", ["fp32, plain", "int8, plain", "fp32, flat", "int8, flat"], "QuantizeLinear"),
    ],
)
def test_every_form_computes_the_part(part: str, forms: list[str], integer: str, tmp_path: Path) -> None:
    from benchmarks.peers.engines import EagerEngine, open_session

    system = peer(STABLE, tiny=True)
    inputs = example(system.part(part))
    expected = EagerEngine(system, 1).run(part, inputs)[0]
    found = dict(write_graphs(system.part(part), tmp_path / "graphs"))
    assert list(found) == forms
    for name, path in found.items():
        output = open_session(path, 1).run(None, inputs)[0]
        assert signal_to_noise_db(expected, output) > (100 if name.startswith("fp32") else 30)
        operators = {node.op_type for node in onnx.load(path).graph.node}
        assert (integer in operators) == name.startswith("int8")
    times = {path: path.stat().st_mtime_ns for path in found.values()}
    assert dict(write_graphs(system.part(part), tmp_path / "graphs")) == found
    assert times == {path: path.stat().st_mtime_ns for path in found.values()}


def test_the_fastest_form_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([(0.5, 0.4, 0.45), (0.9, 0.1, 0.8)])
    real = worker._time
    monkeypatch.setattr(worker, "_time", lambda *given: (real(*given)[0], next(seconds)))
    job = worker.Job("forms", STABLE, True, 1, part="text_encoder", folder=str(tmp_path))
    found = worker.work(job)
    assert isinstance(found, worker.Forms)
    assert found.chosen == "int8" and found.file == str(tmp_path / "text_encoder-int8.onnx")
    plain, integer = found.candidates
    assert plain.snr_db is None and integer.snr_db is not None and integer.snr_db > 30
    assert integer.best == 0.1 and integer.file_bytes < plain.file_bytes


def test_blocks_hold_every_run_of_every_part() -> None:
    found = worker.work(worker.Job("eager", "meanaudio-s", True, 1, runs=5))
    assert isinstance(found, Block) and len(found.runs) == 5 and found.peak_rss_bytes > 0
    assert set(found.runs[0]) == {"text_encoder", "clap_text", "generator", "mel_decoder", "vocoder", "total"}
    assert found.median() == np.median(found.totals) and found.median("vocoder") < found.median()
    with pytest.raises(AssertionError, match="silent"):
        worker._check(peer(STABLE, tiny=True), np.zeros((1, 2, 96), dtype=np.float32))


def test_a_worker_is_a_process_of_its_own() -> None:
    found = rates.measure_rates(1, 64)
    assert found.int8 > 0 and found.float32 > 0
    with pytest.raises(ConfigError, match="unknown system 'none'"):
        worker.run_block(worker.Job("eager", "none", True, 1, runs=5))


def test_our_side_is_measured_by_the_benchmark(toy_bundle: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    assert own.runnable(bundle) == ["ort-int8"]
    found = own.measure_own(bundle, "ort-int8", 1, 0.5)
    assert len(found.runs) == 20 and {"generator", "total"} <= set(found.runs[0])
    golden = own._work(own.Job(str(ROOT / "tests" / "golden" / "edge-tiny"), seconds=1.0))
    assert [part.name for part in golden.parts] == ["text_encoder", "generator", "decoder"]
    assert all(part.parameters > 0 and part.gflop > 0 for part in golden.parts)
    counts = own.Counts(golden.parts)
    assert own.result(bundle, "ort-int8", 0.5, counts, [found]).weights == "shipped"


def test_ours_stands_before_between_and_after_the_peers(
    tmp_path: Path, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def run_block(job: worker.Job) -> Block:
        order.append(f"{job.peer} {job.kind}")
        assert set(job.files) == {part.name for part in peer(job.peer, True).parts} and job.runs == 6
        return block((3.0,) * job.runs, **{part.name: 0.1 for part in peer(job.peer, True).parts})

    def measure(*_: Any) -> Block:
        order.append("ours")
        return block((0.1,) * 20)

    candidate = Candidate("int8", 10, (0.1,), None)
    bundle = Bundle.open(toy_bundle)
    monkeypatch.setattr(comparing, "run_block", run_block)
    monkeypatch.setattr(comparing, "measure_own", measure)
    monkeypatch.setattr(comparing, "try_forms", lambda job: worker.Forms((candidate,), "int8", job.part))
    monkeypatch.setattr(comparing, "prepare", lambda *_: own.Counts(own_parts()))
    monkeypatch.setattr(comparing.Bundle, "open", lambda *_: bundle)
    found = compare(Plan(1, 1.0, 6, tiny=True), tmp_path, lambda _: None)
    turns = [f"{name} {kind}" for name in PEERS for kind in ("eager", "onnx")]
    assert order == ["ours", *(word for turn in turns for word in (turn, "ours"))]
    assert len(found.ours) == 1 and len(found.ours[0].blocks) == 5
    assert [result.parts[0].chosen for result in found.peers] == ["int8", "int8"]
    assert from_dict(Comparison, json.loads(json.dumps(dataclasses.asdict(found)))) == found


def test_a_plan_that_would_mean_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="runs 4 is out of range: at least 5"):
        Plan(1, runs=4)
    assert main(["--threads", "99", "-o", "x.md"]) == 2
    assert "benchmarks.peers: threads 99 is out of range" in capsys.readouterr().err


def test_ratios_are_per_second_of_sound() -> None:
    result = peer_result(eager=20.0)
    steady = ratio(result, result.eager, own_result())
    assert steady.value == pytest.approx((20.0 / 12.5) / (0.05 / 10.0))
    assert (steady.low, steady.high) == pytest.approx((steady.value, steady.value))
    # Ours took twice as long in one block of three: the interval must hold both.
    drifting = own_result(blocks=(block((0.05,) * 20), block((0.1,) * 20), block((0.05,) * 20)))
    found = ratio(result, result.eager, drifting)
    assert found.value == pytest.approx(320) and found.low == pytest.approx(160) and found.high >= 320
    assert ratio(result, result.eager, drifting) == found
    assert ratio(result, block((10.0, 20.0, 30.0, 20.0, 20.0)), own_result()).low < 320


def test_figures_of_stages() -> None:
    slow = own_result("et-xnnpack-int8", (block((0.07,) * 20, generator=0.5),))
    found = comparison(slow, own_result(), own_result(bundle="edge-10m"))
    assert [(own.bundle, own.variant) for own in fastest(found)] == [
        ("edge-120m", "ort-int8"),
        ("edge-10m", "ort-int8"),
    ]
    generator = own_result().parts[1].gflop
    assert int8_share(own_result(), found) == pytest.approx(generator / 0.025 / 1600.0)
    mean = peer_result("meanaudio-s", eager=10.0)
    assert stage_seconds(mean, mean.eager, "decoder") == pytest.approx(4.0)  # two of five parts
    assert stage_seconds(mean, mean.eager, "generator") == pytest.approx(2.0)


def test_the_report_says_what_was_found_and_what_it_is_worth(tmp_path: Path) -> None:
    busy = own_result(blocks=tuple(block((0.05,) * 20, c, text_encoder=0.1, generator=0.5, decoder=0.4)
                                   for c in (QUIET, BUSY, QUIET)))  # fmt: skip
    target = tmp_path / "reports" / "peers.md"
    written = write_report(comparison(busy), target)
    assert [path.name for path in written] == ["peers.md", "peers.json", "peers_stages.png"]
    text = target.read_text("utf-8")
    assert "| Stable Audio Open Small (architecture), torch eager, fp32 | **320** (320–320) |" in text
    assert "| edge-120m (random weights) | ort-int8 | 10.0 s, 44.1 kHz mono | 1 |" in text
    assert "| 12.5 s, 44.1 kHz stereo | 8 |" in text
    assert "| generator | int8 **chosen** | 50.0 | 0.0 | 33.3 |" in text
    assert "341 M: 0.34 B (arXiv 2505.08175)" in text
    assert "load average 0.1 to 3.5; in 1 of 7 blocks others used more than 0.15 cores" in text
    assert "| edge-120m ort-int8 | 50.0 / 50.0 / 50.0 | 0.02 / 1.20 / 0.02 |" in text
    assert "1600 GOP/s" in text and "commit abababab" in text and "shrunken" not in text
    read = from_dict(Comparison, json.loads(written[1].read_text()))
    assert read == comparison(busy)
    again = write_report(read, tmp_path / "again" / "peers.md")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
    shrunken = write_report(comparison(tiny=True), tmp_path / "tiny.md")[0]
    assert "shrunken: the figures mean nothing" in shrunken.read_text("utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_command_on_shrunken_systems(tmp_path: Path) -> None:
    target = tmp_path / "peers.md"
    command = [sys.executable, "-m", "benchmarks.peers", "--tiny", "--threads", "1", "--seconds", "1"]
    done = subprocess.run([*command, "-o", str(target)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = from_dict(Comparison, json.loads(target.with_suffix(".json").read_text()))
    assert [result.name for result in found.peers] == list(PEERS)
    assert all(len(result.eager.runs) == len(result.onnx.runs) == 5 for result in found.peers)
    assert "ort-int8" in {own.variant for own in found.ours}
