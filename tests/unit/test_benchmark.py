"""edge-tta bench: complete records from processes of their own, sweeps, and warnings about a busy machine."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bench_records import BUSY, QUIET
from typer.testing import CliRunner, Result

from edge_tta.bundle import Bundle
from edge_tta.cli.main import app
from edge_tta.config import from_dict
from edge_tta.errors import BackendError, MissingExtraError, RequestError
from edge_tta.runtime import apart, contention, revision
from edge_tta.runtime.benchmark import BenchmarkRecord, _cold_start, run_benchmark
from edge_tta.runtime.contention import BUSY_CORES, ContentionMeter
from edge_tta.runtime.device import this_device
from edge_tta.runtime.measurement import Job, measure_apart
from edge_tta.runtime.profiling import OperatorProfile, StageProfile, summarise

RECORD_KEYS = {
    "schema", "date", "commit", "device", "fingerprint", "temperature_before", "temperature_after", "contention",
    "bundle", "bundle_digest", "bundle_commit", "variant", "backend", "backend_version", "precision", "recipes",
    "delegate_coverage", "edge_tta_version", "python_version", "threads", "seconds", "steps", "runs", "load_seconds",
    "warm_up_seconds", "cold_start_seconds", "cold_starts", "stages", "totals", "real_time_factor",
    "baseline_rss_bytes", "peak_rss_bytes", "retained_rss_bytes", "file_bytes", "profile",
}  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("edge-tta: ") and result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


@pytest.fixture(scope="module")
def record(toy_bundle: Path) -> BenchmarkRecord:
    """One real record."""
    return run_benchmark(Bundle.open(toy_bundle), "ort-int8", threads=1, seconds=0.5, cold_starts=1)


def test_bench_appends_complete_records(toy_bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "results.jsonl"
    options = ("--seconds", "0.5", "--threads", "1", "--cold-starts", "1", "-o", str(target))
    first = run("bench", str(toy_bundle), *options)
    assert first.exit_code == 0, first.stderr
    for words in ("text_encoder", "real-time factor", "cold start", "kept after close"):
        assert words in first.stdout
    second = run("bench", str(toy_bundle), *options, "--json", "--precision", "fp32")
    records = [json.loads(line) for line in target.read_text().splitlines()]
    assert len(records) == 2 and records[1] == json.loads(second.stdout)
    for found in records:
        assert set(found) == RECORD_KEYS
        assert found["schema"] == "bench/1" and found["runs"] == 20 and found["threads"] == 1
        stages = found["stages"]
        assert set(stages) == {"tokenizer", "text_encoder", "generator", "decoder", "total"}
        assert all(0 < stage["best"] <= stage["median"] <= stage["p95"] for stage in stages.values())
        assert len(found["totals"]) == 20 and stages["total"]["median"] == np.median(found["totals"])
        assert found["real_time_factor"] == pytest.approx(stages["total"]["median"] / 0.5)
        assert 0.05 < found["cold_start_seconds"] < 60
        # All that ONNX Runtime is asked for runs there or is refused: a share would say nothing.
        assert found["delegate_coverage"] is None and found["profile"] is None
        assert found["file_bytes"] == sum(path.stat().st_size for path in (toy_bundle / "onnx").iterdir())
    assert [found["variant"] for found in records] == ["ort-int8", "ort-fp32"]


def test_bench_refuses_what_would_mean_nothing(toy_bundle: Path, tmp_path: Path) -> None:
    refused(run("bench", str(toy_bundle), "--runs", "19"), 2, "runs 19 is out of range: at least 20")
    refused(run("bench", str(toy_bundle), "--cold-starts", "0"), 2, "cold_starts 0 is out of range")
    refused(run("bench", str(toy_bundle), "--seconds", "13"), 2, "seconds 13 is out of range")
    refused(run("bench", str(toy_bundle), "--threads", "65"), 2, "threads 65 is out of range")
    refused(run("bench", str(toy_bundle), "--threads", "1,two"), 2, "threads '1,two' must be numbers")
    refused(run("bench", str(toy_bundle), "--variant", "ort-int2"), 4, "'ort-int2'", "ort-fp32, ort-int8")
    refused(run("bench", str(toy_bundle), "--precision", "fp16"), 4, "no fp16 variant")
    refused(run("bench", "nonexistent"), 3, "no bundle 'nonexistent'")
    nowhere = str(tmp_path / "nowhere" / "results.jsonl")
    refused(run("bench", str(toy_bundle), "-o", nowhere), 2, "does not exist")


def test_bench_refuses_what_it_could_not_write_before_it_measures(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_tta.runtime.benchmark.run_benchmark", None)
    refused(run("bench", str(toy_bundle), "-o", str(tmp_path)), 2, "it is a directory")
    monkeypatch.setattr("os.access", lambda *_: False)
    refused(run("bench", str(toy_bundle), "-o", str(tmp_path / "a.jsonl")), 2, "no permission to write in")


def test_a_profile_tells_the_operators_of_each_stage(toy_bundle: Path) -> None:
    """Runs of their own: three steps of a generator with two products are six a sound, warm-up left out."""
    options = ("--seconds", "0.5", "--threads", "1", "--cold-starts", "1", "--steps", "3", "--profile")
    result = run("bench", str(toy_bundle), *options, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert from_dict(BenchmarkRecord, document).profile is not None
    counts = {
        stage: {item["operator"]: item["count"] for item in found["operators"]}
        for stage, found in document["profile"].items()
    }
    assert list(counts) == ["text_encoder", "generator", "decoder"]
    assert counts["text_encoder"] == {"Gather": 1, "ReduceMean": 1}
    assert counts["decoder"] == {"MatMul": 1, "Reshape": 1}
    assert counts["generator"]["MatMul"] == 6 and counts["generator"]["Sum"] == 3
    for found in document["profile"].values():
        times = [item["seconds"] for item in found["operators"]]
        assert times == sorted(times, reverse=True) and 0 < sum(times) <= found["seconds"]
        for item in found["operators"]:
            assert item["share"] == pytest.approx(item["seconds"] / found["seconds"])
            assert item["provider"] == "CPUExecutionProvider"


def test_events_before_the_runs_that_count_are_left_out() -> None:
    def run_of(start: int, took: int, **kernels: int) -> list[dict[str, Any]]:
        session = {"cat": "Session", "ts": start, "dur": took, "name": "model_run", "args": {}}
        nodes = [
            {
                "cat": "Node",
                "ts": start + 1,
                "dur": dur,
                "name": f"{kind}_0_kernel_time",
                "args": {"op_name": kind, "provider": "CPUExecutionProvider"},
            }
            for kind, dur in kernels.items()
        ]
        return [*nodes, session]

    loading = {"cat": "Session", "ts": 0, "dur": 9000, "name": "session_initialization", "args": {}}
    events = [loading, *run_of(10, 5000, MatMul=4000), *run_of(6000, 100, MatMul=60, Add=20)]
    events += run_of(7000, 300, MatMul=180, Add=100)
    found = summarise(events, left_out=1, sounds=2)
    assert found.seconds == pytest.approx(200e-6)
    assert [(item.operator, item.count) for item in found.operators] == [("MatMul", 1), ("Add", 1)]
    assert [item.share for item in found.operators] == pytest.approx([0.6, 0.3])
    with pytest.raises(BackendError, match="3 runs of a stage for 4 sounds"):
        summarise(events, left_out=1, sounds=3)


def test_a_profile_is_shown_and_refused_where_nothing_tells_it(
    record: BenchmarkRecord, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = Path(__file__).parents[1] / "golden" / "edge-tiny-executorch"
    refused(
        run("bench", str(tiny), "--variant", "et-xnnpack-fp32", "--profile"),
        4,
        "et-xnnpack-fp32 cannot be profiled: executorch does not tell what operators take",
    )
    operators = (
        OperatorProfile("MatMulInteger", "CPUExecutionProvider", 40, 0.0060, 0.6),
        OperatorProfile("DynamicQuantizeLinear", "CPUExecutionProvider", 30, 0.0030, 0.3),
        OperatorProfile("Add", "CPUExecutionProvider", 7, 0.00005, 0.005),
        OperatorProfile("Cast", "CPUExecutionProvider", 5, 0.00005, 0.005),
    )
    profiled = dataclasses.replace(record, profile={"generator": StageProfile(0.01, operators)})
    fakes(profiled, monkeypatch)
    shown = [line.split() for line in run("bench", str(toy_bundle), "--profile").stdout.splitlines()]
    assert ["generator", "MatMulInteger", "40", "6.00", "ms", "60.0", "%"] in shown
    assert ["2", "more", "12", "0.10", "ms", "1.0", "%"] in shown
    assert ["between", "operators", "0.90", "ms", "9.0", "%"] in shown


def test_a_record_is_read_back_as_it_was(record: BenchmarkRecord) -> None:
    document = json.loads(json.dumps(dataclasses.asdict(record), allow_nan=False))
    assert from_dict(BenchmarkRecord, document) == record


def test_memory_is_that_of_a_process_with_nothing_else(record: BenchmarkRecord) -> None:
    """This process holds torch and more; the measured one holds Python, ONNX Runtime and three tiny graphs."""
    block = np.ones(2**26, dtype=np.float32)  # 256 MiB
    assert 16 * 2**20 < record.baseline_rss_bytes < record.peak_rss_bytes < block.nbytes
    assert record.peak_rss_bytes - record.baseline_rss_bytes < 96 * 2**20
    assert 0 <= record.retained_rss_bytes <= record.peak_rss_bytes - record.baseline_rss_bytes


def test_a_record_names_no_host_and_no_path(record: BenchmarkRecord) -> None:
    text = json.dumps(dataclasses.asdict(record))
    host = socket.gethostname()
    assert len(host) < 4 or host not in text
    assert str(Path.home()) not in text and str(Path(__file__).parents[2]) not in text


def test_fingerprints_tell_machines_apart() -> None:
    device = this_device()
    assert device.fingerprint == this_device().fingerprint and len(device.fingerprint) == 12
    assert device.fingerprint == dataclasses.replace(device, battery_percent=3, affinity=(0,)).fingerprint
    assert device.fingerprint != dataclasses.replace(device, soc="another").fingerprint


def fakes(record: BenchmarkRecord, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[tuple[Any, ...]]:
    """Records in place of measurements; what was asked for is listed."""
    asked: list[tuple[Any, ...]] = []

    def fake(
        bundle: Bundle, variant: str, *, threads: int | None, seconds: float, **_: Any
    ) -> BenchmarkRecord:
        asked.append((variant, threads, seconds))
        if variant in changes.get("refused", ()):
            raise MissingExtraError("executorch", f"the variant {variant}")
        return dataclasses.replace(
            record,
            variant=variant,
            threads=threads or 2,
            seconds=seconds,
            contention=changes.get("contention", QUIET),
        )

    monkeypatch.setattr("edge_tta.runtime.benchmark.run_benchmark", fake)
    return asked


def test_sweeps_measure_every_point_and_keep_what_is_done(
    record: BenchmarkRecord, toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, target = fakes(record, monkeypatch), tmp_path / "sweep.jsonl"
    options = ("--variant", "all", "--threads", "1,2", "--seconds", "0.5,2", "-o", str(target))
    result = run("bench", str(toy_bundle), *options)
    assert result.exit_code == 0, result.output
    points = [(v, t, s) for v in ("ort-fp32", "ort-int8") for t in (1, 2) for s in (0.5, 2.0)]
    assert asked == points
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [(line["variant"], line["threads"], line["seconds"]) for line in lines] == points
    assert "8 of 8: ort-int8, 2 threads, 2 s" in result.stderr and "warning" not in result.stderr
    assert result.stdout.count("ort-int8") == 4
    as_json = run("bench", str(toy_bundle), *options[2:-2], "--json")
    assert [json.loads(line)["threads"] for line in as_json.stdout.splitlines()] == [1, 1, 2, 2]


def test_of_all_variants_those_count_that_run(
    record: BenchmarkRecord, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = fakes(record, monkeypatch, refused=("ort-fp32",))
    result = run("bench", str(toy_bundle), "--variant", "all", "--seconds", "0.5,1")
    assert result.exit_code == 0
    assert "ort-fp32 is left out: the variant ort-fp32 needs the 'executorch' extra" in result.stderr
    assert asked == [("ort-fp32", None, 0.5), ("ort-int8", None, 0.5), ("ort-int8", None, 1.0)]
    refused(run("bench", str(toy_bundle), "--variant", "ort-fp32"), 2, "needs the 'executorch' extra")
    fakes(record, monkeypatch, refused=("ort-fp32", "ort-int8"))
    result = run("bench", str(toy_bundle), "--variant", "all")
    assert result.exit_code == 4 and "no variant that runs here" in result.stderr


def test_a_busy_machine_is_told(
    record: BenchmarkRecord, toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes(record, monkeypatch, contention=BUSY)
    result = run("bench", str(toy_bundle))
    assert result.exit_code == 0
    assert "busy: others used 0.90 cores and the hypervisor took 0.30, load average 3.5" in result.stderr
    fakes(record, monkeypatch)
    assert run("bench", str(toy_bundle)).stderr == ""


def test_contention_is_what_others_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two seconds in which all cores were busy for 3.5 s, this process for 2.5 s of them, and 0.4 s were stolen.
    readings = iter([(10.0, 100.0, 5.0, 1.0), (12.0, 103.5, 7.5, 1.4)])
    monkeypatch.setattr(contention, "_readings", lambda: next(readings))
    found = ContentionMeter().stop()
    assert found.other_cores == pytest.approx(0.5) and found.stolen_cores == pytest.approx(0.2)
    assert found.is_busy
    monkeypatch.setattr(contention, "_readings", lambda: None)
    unknown = ContentionMeter().stop()
    assert unknown.other_cores is None and not unknown.is_busy


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not tell what others use")
def test_another_busy_process_is_seen() -> None:
    spin = "import time\nend = time.perf_counter() + 20\nwhile time.perf_counter() < end: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as other:
        time.sleep(0.3)
        meter = ContentionMeter()
        time.sleep(1.0)
        found = meter.stop()
        other.kill()
    assert found.other_cores is not None and found.other_cores > BUSY_CORES and found.is_busy


def test_errors_of_the_measuring_process_arrive_as_they_are(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job(str(toy_bundle), "ort-int8", 1, 0.5, 1, 20)
    with pytest.raises(RequestError, match=r"seconds 99 is out of range"):
        measure_apart(dataclasses.replace(job, seconds=99.0))
    with pytest.raises(BackendError, match="no variant 'gone'"):
        measure_apart(dataclasses.replace(job, variant="gone"))
    raised = apart._raised({"error": "MissingExtraError", "message": "x needs the 'y' extra"})
    assert type(raised) is MissingExtraError and str(raised) == "x needs the 'y' extra"
    assert raised.exit_code == 2
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(BackendError, match="ort-int8: the process died: exit code 1"):
        measure_apart(job)


def test_a_variant_that_generate_would_not_choose_has_no_cold_start(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_tta.runtime.benchmark.choose_variant", lambda *_: "ort-fp32")
    with pytest.raises(BackendError, match="ort-int8 cannot be asked for by backend and precision"):
        run_benchmark(Bundle.open(toy_bundle), "ort-int8", threads=1, seconds=0.5, cold_starts=1)


def test_a_cold_start_that_says_much_before_it_fails_is_one_line(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """More than a pipe holds, on standard error, before a line on standard output: once both waited for ever."""
    talker = tmp_path / "python"
    talk = "import sys\nsys.stderr.write('much\\n' * 100_000 + 'no\\nroom\\n')\nsys.exit(3)\n"
    talker.write_text(f"#!{sys.executable}\n{talk}")
    talker.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(talker))
    found: Any = SimpleNamespace(backend="ort", precision="int8", threads=1)
    with pytest.raises(BackendError, match=r"^ort-int8: a fresh process failed: \w* (much ){50,}no room$"):
        _cold_start(Bundle.open(toy_bundle), "ort-int8", found, 0.5, 1)


def test_the_commit_is_that_of_this_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "__file__", str(tmp_path / "revision.py"))
    assert revision.source_commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@x"]
    (tmp_path / "revision.py").write_text("")
    subprocess.run([*git, "init", "-q"], check=True)
    assert revision.source_commit() is None  # installed inside another repository
    subprocess.run([*git, "add", "revision.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    assert revision.source_commit() == head
    (tmp_path / "revision.py").write_text("changed")
    assert revision.source_commit() == f"{head}-dirty"
