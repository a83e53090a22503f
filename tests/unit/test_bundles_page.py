"""The list of bundles says what their manifests say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bundles.__main__ import main
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES

TINY = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"


def test_every_variant_with_its_bytes_and_ratios(tmp_path: Path) -> None:
    shipped = Bundle.open(None)
    assert main([str(TINY), str(shipped.root), "-o", str(tmp_path / "new" / "bundles.md")]) == 0
    lines = (tmp_path / "new" / "bundles.md").read_text("utf-8").splitlines()
    for bundle in (Bundle.open(TINY), shipped):
        assert any(line.startswith(f"`{bundle.digest[:12]}`") for line in lines)
        for name, variant in bundle.variants.items():
            ratios = " | ".join(f"{variant.parity_snr_db[stage]:.1f}" for stage in STAGES)
            row = f"| {name} | {variant.backend} | {variant.precision} | {variant.size() / 1e6:.1f} | {ratios} |"
            assert row in lines


def test_what_is_no_bundle_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "-o", str(tmp_path / "bundles.md")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1 and not (tmp_path / "bundles.md").exists()
