"""The table of targets follows from what was recorded, and says what is missed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from bench_records import PHONE, QUIET, make_record

from benchmarks.gates import page
from benchmarks.gates.__main__ import main
from benchmarks.peers.results import Block, Comparison, OwnResult, PartResult, PeerResult, Rates

GATE = {
    "title": "Latent",
    "figure": "snr",
    "at_least": 20.0,
    "at_most": None,
    "measured": 12.0,
    "passed": False,
}


def block(seconds: float) -> Block:
    run = {"text_encoder": 0.0, "generator": seconds / 2, "decoder": seconds / 2, "total": seconds}
    return Block((run,) * 5, 0.5, 1, QUIET)


def comparison(eager: float) -> Comparison:
    """Ours takes 0.1 s for 10 s; of its generator's 10 GFLOP in 0.05 s a machine of 400 GFLOP/s does one half."""
    own = OwnResult(
        "edge-120m", "ab" * 32, "ort-int8", "random", 10.0, 44100, 1,
        (PartResult("generator", "generator", 1, 1, 10.0),), (block(0.1),),
    )  # fmt: skip
    peer = PeerResult("stable-audio-open-small", "Small", 10.0, 44100, 2, 8, (), block(eager), block(5.0))
    return Comparison(
        "peers/1", "2026-01-02T00:00:00+00:00", "c" * 40, PHONE, "f" * 12, "3.11", {}, 2, False,
        Rates(100.0, 400.0), (own,), (peer,),
    )  # fmt: skip


def reports(folder: Path, **of_record: Any) -> Path:
    (folder / "edge-120m").mkdir(parents=True)
    record = dataclasses.replace(make_record("ort-int8", 2, 10.0), bundle="edge-120m", **of_record)
    slower = dataclasses.replace(record, threads=1, real_time_factor=9.0)
    lines = [json.dumps(dataclasses.asdict(item)) + "\n" for item in (slower, record)]
    (folder / "edge-120m" / "bench.jsonl").write_text("".join(lines))
    validation = {
        "schema": "validate/1", "bundle": "edge-10m", "bundle_digest": "d", "device": {"soc": "a chip"},
        "settings": {"prompts": 64, "seeds_per_prompt": 2},
        "variants": [
            {"name": "ort-int8", "status": "ran", "gates": [GATE]},
            {"name": "coreml-int8", "status": "not run", "gates": []},
        ],
    }  # fmt: skip
    (folder / "edge-120m" / "validate.json").write_text(json.dumps(validation))
    (folder / "peers.json").write_text(json.dumps(dataclasses.asdict(comparison(31.0))))
    return folder


def row(text: str, *starts: str) -> str:
    (found,) = (
        line for line in text.splitlines() if line.startswith("| ") and all(s in line for s in starts)
    )
    return found


def test_every_recorded_figure_meets_its_target_or_misses_it(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in", real_time_factor=0.0059, peak_rss_bytes=351_000_000)
    assert main(["--reports", str(folder), "-o", str(tmp_path / "new" / "gates.md")]) == 0
    text = (tmp_path / "new" / "gates.md").read_text("utf-8")
    assert "| at most 0.006 | edge-120m ort-int8 | 0.0059 | met |" in row(text, "real-time factor")
    assert "| 351 MB | **missed** |" in row(text, "peak memory")
    assert "| 310 (310 to 310) | met |" in row(text, "eager float32")
    assert "| 50 (50 to 50) | met |" in row(text, "best int8 export")
    assert "| at least 60% | edge-120m ort-int8 | 50% | **missed** |" in row(text, "matrix product")
    assert "| at least 20 | edge-10m ort-int8 | 12.00 | **missed** | 128 sounds, a chip |" in row(
        text, "Latent"
    )
    assert "coreml" not in text and "9.0" not in text


def test_of_one_machine_the_newest_bundle_counts(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in", real_time_factor=0.1, date="2026-01-01T00:00:00+00:00")
    bench = folder / "edge-120m" / "bench.jsonl"
    old = json.loads(bench.read_text("utf-8").splitlines()[1])
    new = old | {"date": "2026-02-01T00:00:00+00:00", "bundle_digest": "ef" * 32, "real_time_factor": 0.002}
    bench.write_text(json.dumps(new) + "\n" + json.dumps(old) + "\n")
    assert main(["--reports", str(folder), "-o", str(tmp_path / "gates.md")]) == 0
    assert "| 0.0020 | met |" in row((tmp_path / "gates.md").read_text("utf-8"), "real-time factor")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("peers.json", "{", "cannot be read"),
        ("peers.json", "{}", "peers.json"),
        ("edge-120m/validate.json", '{"schema": "validate/2"}', "schema is 'validate/2'"),
        ("edge-120m/validate.json", '{"schema": "validate/1"}', "no validation report"),
        ("edge-120m/bench.jsonl", "{}", "no complete record"),
    ],
)
def test_damaged_records_are_one_line(
    file: str, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reports(tmp_path / "in")
    (folder / file).write_text(content)
    assert main(["--reports", str(folder), "-o", str(tmp_path / "gates.md")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "gates.md").exists()


def test_nothing_recorded_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--reports", str(tmp_path), "-o", str(tmp_path / "gates.md")]) == 2
    assert "no recorded measurements" in capsys.readouterr().err


def test_a_target_held_by_a_test_that_is_gone_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "HELD", (("something", "tests/unit/test_gates.py", "test_that_never_was"),))
    assert main(["--reports", str(reports(tmp_path / "in")), "-o", str(tmp_path / "gates.md")]) == 2
    assert "has no test_that_never_was" in capsys.readouterr().err
