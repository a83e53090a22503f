"""Benchmark records without measuring anything."""

from __future__ import annotations

from typing import Any

from edge_tta.runtime.benchmark import BenchmarkRecord, Distribution
from edge_tta.runtime.contention import Contention
from edge_tta.runtime.device import Device

QUIET = Contention((0.1, 0.1, 0.1), (0.5, 0.2, 0.1), 0.02, 0.0)
BUSY = Contention((3.5, 1.0, 1.0), (3.5, 1.0, 1.0), 0.9, 0.3)
PHONE = Device(
    model="Phone 3", soc="Cortex-X9", abi_features=("asimd", "i8mm"), os="Android-20", cores=4, affinity=(0, 1, 2, 3),
    memory_bytes=8 * 2**30, virtual=False, governor="performance", clock_khz=((300000, 3000000),) * 4, plugged=0,
    battery_percent=80,
)  # fmt: skip


def make_record(
    variant: str = "ort-int8", threads: int = 2, seconds: float = 10.0, total: float = 0.08, **changes: Any
) -> BenchmarkRecord:
    """A record whose stages take 5, 25 and 70 % of ``total`` seconds; any field may be replaced."""
    shares = {"tokenizer": 0.001, "text_encoder": 0.05, "generator": 0.25, "decoder": 0.7, "total": 1.001}
    fields: dict[str, Any] = {
        "schema": "bench/1",
        "date": "2026-11-21T10:00:00+00:00",
        "commit": "ab" * 20,
        "device": PHONE,
        "fingerprint": PHONE.fingerprint,
        "temperature_before": 31.5,
        "temperature_after": 36.0,
        "contention": QUIET,
        "bundle": "toy",
        "bundle_digest": "0f" * 32,
        "bundle_commit": "cd" * 20,
        "variant": variant,
        "backend": variant.partition("-")[0],
        "backend_version": "1.31.1",
        "precision": variant.rpartition("-")[2],
        "recipes": {"onnx-int8": "ef" * 32},
        "delegate_coverage": None if variant.startswith("ort-") else 1.0,
        "edge_tta_version": "0.1.0",
        "python_version": "3.11.7",
        "threads": threads,
        "seconds": seconds,
        "steps": 1,
        "runs": 20,
        "load_seconds": 0.35,
        "warm_up_seconds": 0.11,
        "cold_start_seconds": 0.77,
        "cold_starts": 3,
        "stages": {
            name: Distribution(0.9 * total * share, total * share, 1.2 * total * share)
            for name, share in shares.items()
        },
        "totals": (total,) * 20,
        "real_time_factor": total / seconds,
        "baseline_rss_bytes": 68_000_000,
        "peak_rss_bytes": 244_000_000,
        "retained_rss_bytes": 15_000_000,
        "file_bytes": 40_900_000,
    }
    return BenchmarkRecord(**{**fields, **changes})
