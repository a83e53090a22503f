"""Benchmark records become a document and pictures; a row that lacks something is not shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from bench_records import BUSY, make_record
from PIL import Image

from benchmarks.bars import Bar, draw_bars
from benchmarks.plots import COLOURS
from benchmarks.render.__main__ import main
from benchmarks.render.charts import seconds_charts, stage_bars, threads_charts
from benchmarks.render.records import grouped, read_records
from benchmarks.render.report import write_report
from edge_tta.errors import DataError
from edge_tta.runtime.benchmark import BenchmarkRecord
from edge_tta.runtime.profiling import OperatorProfile, StageProfile

SECONDS = (1.0, 2.0, 5.0, 10.0, 12.0)


def sweep() -> list[BenchmarkRecord]:
    """int8 costs 4 ms and 7 ms a second of sound on two threads, twice that on one; fp32 three times as much."""
    return [
        make_record(variant, threads, seconds, factor * (0.004 + 0.007 * seconds) * 2 / threads / 0.9)
        for variant, factor in (("ort-int8", 1), ("ort-fp32", 3))
        for threads in (1, 2)
        for seconds in SECONDS
    ]


def write(path: Path, records: list[BenchmarkRecord]) -> Path:
    path.write_text("".join(json.dumps(dataclasses.asdict(record)) + "\n" for record in records))
    return path


def test_a_sweep_becomes_a_document_with_three_pictures(tmp_path: Path) -> None:
    written = write_report(read_records([write(tmp_path / "r.jsonl", sweep())]), tmp_path / "out")
    names = ["bench.md", "bench_seconds.png", "bench_threads.png", "bench_stages.png"]
    assert [path.name for path in written] == names
    text = written[0].read_text("utf-8")
    for words in (
        "Cortex-X9: asimd, i8mm",
        "performance, 0.3–3.0 GHz",
        "31.5–36.0 °C",
        "battery, 80 %",
        "abababababab",
    ):
        assert words in text
    assert all(f"]({path.name})" in text for path in written[1:])
    row = next(line for line in text.splitlines() if line.startswith("| ort-int8 | 2 | 10 |"))
    assert "| 4.1 | 20.6 | 57.6 | **82.3** (74.1–98.8) | 0.0082 |" in row
    assert (
        "| ort-int8 | 2 | 10 | 350 ms | 110 ms | 770 ms | 244.0 MB | 176.0 MB | 15.0 MB | 40.9 MB |" in text
    )
    # The line goes through the best times, from which the records were made.
    assert (
        "| ort-int8 | 2 | 4.0 | 7.01 | 0 % | 5 |" in text
        and "| ort-fp32 | 1 | 24.0 | 42.04 | 0 % | 5 |" in text
    )
    assert "†" not in text.partition("### Latency")[2] and "Not shown" not in text
    # Records of ONNX Runtime tell no share, and a record may hold a profile.
    assert "in delegates" not in text
    profile = {
        "decoder": StageProfile(0.1, (OperatorProfile("MatMul", "CPUExecutionProvider", 9, 0.06, 0.6),))
    }
    both = [
        make_record("et-xnnpack-int8", delegate_coverage=0.972),
        *sweep()[:1],
        make_record(seconds=5.0, profile=profile),
    ]
    beside = read_records([write(tmp_path / "both.jsonl", both)])
    assert beside.left_out == () and beside.records[2].profile == profile
    text = write_report(beside, tmp_path / "both")[0].read_text("utf-8")
    assert "Operators in delegates: et-xnnpack-int8 97.2 %." in text


def test_the_document_depends_on_the_records_alone(tmp_path: Path) -> None:
    records = sweep()
    first = write_report(read_records([write(tmp_path / "a.jsonl", records)]), tmp_path / "1")
    second = write_report(read_records([write(tmp_path / "b.jsonl", records[::-1])]), tmp_path / "2")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("key", ["commit", "contention", "temperature_before", "peak_rss_bytes", "recipes"])
def test_a_record_that_lacks_something_is_not_shown(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    incomplete = dataclasses.asdict(make_record(threads=1))
    del incomplete[key]
    path = write(tmp_path / "r.jsonl", [make_record()])
    path.write_text(path.read_text() + json.dumps(incomplete) + "\nno json\n")
    assert main([str(path), "-o", str(tmp_path / "out")]) == 0
    assert f"left out: r.jsonl:2: BenchmarkRecord: missing key '{key}'" in capsys.readouterr().err
    text = (tmp_path / "out" / "bench.md").read_text("utf-8")
    assert text.count("| ort-int8 | 1 |") == 0 and "r.jsonl:3: " in text
    path.write_text(json.dumps(incomplete) + "\n")
    assert main([str(path), "-o", str(tmp_path / "none")]) == 2
    assert f"no complete record; r.jsonl:1: BenchmarkRecord: missing key '{key}'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
    with pytest.raises(DataError, match="cannot be read"):
        read_records([tmp_path / "absent.jsonl"])


def test_only_what_may_be_compared_stands_together(tmp_path: Path) -> None:
    older = make_record(total=0.5, date="2026-11-20T10:00:00+00:00")
    other_machine = make_record(fingerprint="0" * 12)
    other_bundle = make_record(bundle_digest="1" * 64)
    groups = grouped([make_record(), older, other_machine, other_bundle, make_record(steps=4)])
    assert [len(group.records) for group in groups] == [1, 1, 1, 1]
    assert groups[0].superseded == 1 and groups[0].records[0].stages["total"].median < 0.1
    path = write(tmp_path / "r.jsonl", [older, make_record(), other_machine])
    written = write_report(read_records([path]), tmp_path / "out")
    assert [path.name for path in written] == ["bench.md", "bench1_stages.png", "bench2_stages.png"]
    assert "1 older records of the same points left out" in written[0].read_text("utf-8")


def test_disturbed_rows_are_marked(tmp_path: Path) -> None:
    records = [make_record(contention=BUSY), make_record("ort-fp32")]
    (document, *_) = write_report(read_records([write(tmp_path / "r.jsonl", records)]), tmp_path)
    rows = [line for line in document.read_text("utf-8").splitlines() if line.startswith("| ort-")]
    assert rows[0].startswith("| ort-fp32 | 2 |") and rows[0].endswith("| 20 | 0.02 |")
    assert rows[1].startswith("| ort-int8 † | 2 |") and rows[1].endswith("| 20 | 1.20 |")


def test_charts_show_medians_between_best_and_p95() -> None:
    (group,) = grouped(sweep())
    one, two = seconds_charts(group)
    assert one.title.startswith("1 thread:") and two.title.startswith("2 threads:")
    assert [series.name for series in two.series] == ["ort-fp32", "ort-int8"]
    assert [x for x, _ in two.series[1].points] == list(SECONDS) and two.from_zero
    assert two.series[1].points[3][1] == pytest.approx(1e3 * 0.074 / 0.9 * 1.001)
    low, high = two.series[1].intervals[3]
    assert (low, high) == pytest.approx((0.9 * two.series[1].points[3][1], 1.2 * two.series[1].points[3][1]))
    assert [chart.title.split(" s ")[0] for chart in threads_charts(group)] == ["2", "5", "10", "12"]
    title, bars = stage_bars(group)
    assert "12 s of sound, 2 threads" in title and [bar.name for bar in bars] == ["ort-fp32", "ort-int8"]
    (lone,) = grouped([make_record()])
    assert seconds_charts(lone) == [] and threads_charts(lone) == []


def test_bars_are_as_wide_as_their_shares() -> None:
    picture = draw_bars("t", ("a", "b"), [Bar("x", (1.0, 3.0), "4 s"), Bar("y", (0.0, 2.0), "2 s")])
    assert isinstance(picture, Image.Image)
    pixels = np.asarray(picture)
    counts = [[int((pixels[row] == colour).all(axis=1).sum()) for colour in COLOURS[:2]] for row in (45, 71)]
    whole = sum(counts[0])
    assert whole > 400 and counts[0][0] == pytest.approx(whole / 4, abs=1)
    assert counts[1] == [0, whole]
    with pytest.raises(DataError, match="bar 'x' cannot be divided into a, b"):
        draw_bars("t", ("a", "b"), [Bar("x", (1.0,), "")])
    with pytest.raises(DataError, match="at least one bar"):
        draw_bars("t", ("a",), [])
