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

FIGURES = {
    "generator.latent_snr_db": {"value": 12.0, "low": 11.0, "high": 13.0, "n": 128, "lowest": 9.0},
    "end_to_end.top5_change_points": {"value": -0.5, "low": -1.5, "high": 0.5, "n": 128},
    "end_to_end.top1_change_points": {"value": -1.5, "low": -2.5, "high": 0.5, "n": 128},
}
"""Without the Fréchet distance, as `validate` writes it without --reference-clips."""


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
        "schema": "validate/1", "bundle": "edge-10m", "bundle_digest": "0123456789abcdef", "device": {"soc": "a chip"},
        "settings": {"prompts": 64, "seeds_per_prompt": 2},
        "variants": [
            {"name": "ort-int8", "status": "ran", "precision": "int8", "figures": FIGURES},
            {"name": "ort-fp32", "status": "ran", "precision": "fp32", "figures": FIGURES},
            {"name": "coreml-int8", "status": "not run", "precision": "int8", "figures": {}},
        ],
    }  # fmt: skip
    (folder / "edge-120m" / "validate.json").write_text(json.dumps(validation))
    (folder / "peers.json").write_text(json.dumps(dataclasses.asdict(comparison(31.0))))
    return folder


def page_of(folder: Path, path: Path) -> str:
    assert main(["--reports", str(folder), "-o", str(path)]) == 0
    return path.read_text("utf-8")


def row(text: str, *starts: str) -> str:
    (found,) = (
        line for line in text.splitlines() if line.startswith("| ") and all(s in line for s in starts)
    )
    return found


def test_every_recorded_figure_meets_its_target_or_misses_it(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in", real_time_factor=0.0059, peak_rss_bytes=351_000_000)
    text = page_of(folder, tmp_path / "new" / "gates.md")
    assert "| at most 0.006 | edge-120m ort-int8 | 0.0059 | met |" in row(text, "real-time factor")
    assert "| 351 MB | **missed** |" in row(text, "peak memory")
    assert "| 310 (310 to 310) | met |" in row(text, "eager float32")
    assert "| 50 (50 to 50) | met |" in row(text, "best int8 export")
    assert "| at least 60% | edge-120m ort-int8 | 50% | **missed** |" in row(text, "matrix product")
    assert (
        "| at least 20 dB | edge-10m ort-int8, `0123456789ab` | 12.0 dB (11.0 to 13.0) | **missed** "
        "| 128 sounds, a chip |"
    ) in row(text, "Latent", "ort-int8")
    # Of an extreme there is no interval.
    assert "| at least 60 dB, every sound | edge-10m ort-fp32, `0123456789ab` | 9.0 dB | **missed** |" in row(
        text, "Latent", "ort-fp32"
    )
    assert "coreml-int8" not in text and "9.0000" not in text


def test_what_a_record_does_not_hold_was_not_measured(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in")
    text = page_of(folder, tmp_path / "gates.md")
    assert "| at most 5 % | edge-10m ort-int8, `0123456789ab` | not measured | not measured |" in row(
        text, "Fréchet", "ort-int8"
    )


def test_a_verdict_says_whether_the_sample_decides(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in")
    text = page_of(folder, tmp_path / "gates.md")
    assert "| −0.5 points (−1.5 to +0.5) | met; sample does not decide |" in row(
        text, "label among five", "ort-int8"
    )
    assert "| −1.5 points (−2.5 to +0.5) | **missed**; sample does not decide |" in row(
        text, "label first", "ort-int8"
    )


def test_validations_of_one_variant_in_two_bundles_are_told_apart(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in")
    first = json.loads((folder / "edge-120m" / "validate.json").read_text("utf-8"))
    second = first | {"bundle_digest": "fedcba9876543210", "bundle_version": "0.7.0"}
    (folder / "edge-120m" / "validate-later.json").write_text(json.dumps(second))
    text = page_of(folder, tmp_path / "gates.md")
    assert row(text, "Latent", "| edge-10m ort-int8, `0123456789ab` |")
    assert row(text, "Latent", "| edge-10m 0.7.0 ort-int8, `fedcba987654` |")


def estimate(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high, "n": 50}


def evaluation(suite: str, five: float, digest: str = "ab" * 32, steps: int = 1) -> dict[str, Any]:
    first = estimate(0.4, 0.3, 0.5)
    return {
        "provenance": {"subject": "edge-10m", "subject_digest": digest, "embedder": "e"},
        "settings": {"seeds_per_prompt": 4, "precision": "int8", "steps": steps},
        "suites": [
            {"suite": suite, "prompts": 50, "relative_top5": 0.9,
             "adherence": {"top1": first, "top5": estimate(five, 0.0, 1.0)}},
        ],
        "two_sounds": []
        if suite == "labels"
        else [{"suite": "two sounds", "prompts": 60, "both": estimate(0.4, 0.3, 0.45)}],
        "timbre_diversity": {"ratio": estimate(0.49, 0.45, 0.55)}, "embedding_diversity": None,
    }  # fmt: skip


def test_targets_of_quality_follow_from_the_evaluations(tmp_path: Path) -> None:
    folder = reports(tmp_path / "in")
    for name, data in (
        ("a-paraphrases", evaluation("paraphrases", 0.74)),
        ("labels", evaluation("labels", 0.8)),
        ("others", evaluation("paraphrases", 0.1, "cd" * 32)),
        ("exact-labels", evaluation("labels", 0.81, "ef" * 32)),
        ("exact-paraphrases", evaluation("paraphrases", 0.76, "ef" * 32)),
        ("labels-four-steps", evaluation("labels", 0.85, steps=4)),
    ):
        (folder / "edge-120m" / name).mkdir()
        (folder / "edge-120m" / name / "evaluation.json").write_text(json.dumps(data))
    figures = {
        "top1_change": estimate(-0.03, -0.05, -0.01), "reconstructed_top5": estimate(0.7, 0.6, 0.8),
        "original_top5": estimate(0.71, 0.6, 0.8),
    }  # fmt: skip
    codec = {"provenance": {"subject": "edge-10m"}, "figures": figures}
    (folder / "codec").mkdir()
    (folder / "codec" / "codec.json").write_text(json.dumps(codec))
    text = page_of(folder, tmp_path / "gates.md")
    ours = "| edge-10m, `abababababab` |"
    assert f"| at least 0.85 {ours} 0.90 | met |" in row(
        text, "share of the real clips", ours, "seeds, int8 |"
    )
    # Held against the labels of the same bundle only, whatever comes first.
    assert f"{ours} -6.0 points | **missed** |" in row(text, "among five, paraphrases", ours)
    assert "| not measured | not measured |" in row(text, "among five, paraphrases", "cdcdcdcdcdcd")
    assert "| -5.0 points | met |" in row(text, "among five, paraphrases", "efefefefefef")
    assert ours in row(text, "| labels: 50 prompts × 4 seeds, int8, 4 steps |")
    assert "| 40.0 % (30.0 to 45.0) | **missed** |" in row(text, "two sounds", ours)
    assert "| 0.49 (0.45 to 0.55) | **missed**; sample does not decide |" in row(
        text, "timbre", ours, "| labels: 50 labels, int8 |"
    )
    assert "| -3.0 points (-5.0 to -1.0) | **missed**; sample does not decide |" in row(
        text, "codec: label first"
    )
    assert "| -1.0 points | met |" in row(text, "codec: label among five")


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
        ("labels/evaluation.json", "{}", "no evaluation report"),
        ("edge-120m/codec.json", "[]", "no report of a codec"),
    ],
)
def test_damaged_records_are_one_line(
    file: str, content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = reports(tmp_path / "in")
    path = folder / "edge-120m" / file if file.endswith("evaluation.json") else folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
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
