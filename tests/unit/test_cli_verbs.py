"""info, verify, bench, doctor and the verbs that need more than the core install."""

from __future__ import annotations

import importlib.util
import json
import shutil
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import describe, write_bundle
from edge_tta.bundle.manifest import Calibration, Delegation
from edge_tta.cli.doctor import shadowed_packages
from edge_tta.cli.main import app
from edge_tta.errors import BundleError
from edge_tta.runtime.golden import check_golden, signal_to_noise_db


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(result: Result, code: int, *words: str) -> None:
    assert result.exit_code == code, result.output
    assert result.stderr.startswith("edge-tta: ") and result.stderr.count("\n") == 1
    for word in words:
        assert word in result.stderr


def copy_with(bundle: Path, target: Path, change: dict[str, Any]) -> Path:
    """The bundle with some fields of its manifest changed, written afresh."""
    opened = Bundle.open(bundle)
    files = {entry.file: opened.read(entry) for entry in opened.manifest.files()}
    files |= change.pop("files", {})
    manifest = opened.manifest.model_copy(update=change)
    write_bundle(target, manifest, files)
    return target


def test_no_verb_shows_help_and_lists_all_verbs() -> None:
    result = run()
    assert result.exit_code == 0
    for verb in [
        "generate",
        "info",
        "verify",
        "bench",
        "doctor",
        "reconstruct",
        "train",
        "recipes",
        "evaluate",
        "validate",
        "listen",
    ]:
        assert f"\n  {verb} " in result.stdout
        assert run(verb, "--help").exit_code == 0


def test_every_verb_offers_json() -> None:
    for verb in [
        "generate",
        "info",
        "verify",
        "bench",
        "doctor",
        "reconstruct",
        "train",
        "evaluate",
        "validate",
    ]:
        assert "--json" in run(verb, "--help").stdout
    for verb in ("ls", "cp"):
        assert "--json" in run("recipes", verb, "--help").stdout
    for verb in ("make", "score"):
        assert "--json" in run("listen", verb, "--help").stdout


def test_unknown_verb_and_option() -> None:
    refused(run("sing"), 2, "No such command 'sing'")
    refused(run("info", "--loud"), 2, "No such option: --loud", "info --help")


def test_version() -> None:
    result = run("--version")
    assert result.exit_code == 0 and result.stdout.strip()


def test_info(toy_bundle: Path) -> None:
    result = run("info", str(toy_bundle))
    assert result.exit_code == 0
    for words in (
        "toy@",
        "0.5 to 12 s, 44100 Hz, mono",
        "Apache-2.0",
        "ort-int8",
        "ort-fp32",
        "default 3",
        "None.",
    ):
        assert words in result.stdout
    document = json.loads(run("info", str(toy_bundle), "--json").stdout)
    assert document["digest"] == Bundle.open(toy_bundle).digest
    onnx_bytes = sum(path.stat().st_size for path in (toy_bundle / "onnx").iterdir())
    assert document["sizes"] == {"ort-int8": onnx_bytes, "ort-fp32": onnx_bytes}


def test_info_shows_where_operators_run(tmp_path: Path) -> None:
    tiny = Path(__file__).parents[1] / "golden" / "edge-tiny-executorch"
    variants = dict(Bundle.open(tiny).variants)
    stages: dict[str, Any] = {
        "decoder": {
            "subgraphs": 3,
            "delegated": {"aten_add_tensor": 9},
            "portable": {"aten_cumsum_default": 2},
        },
        "generator": {
            "subgraphs": 1,
            "delegated": {"aten_add_tensor": 4, "aten_mm_default": 7},
            "portable": {},
        },
    }
    records = {stage: Delegation(**record) for stage, record in stages.items()}
    variants["et-xnnpack-int8"] = variants["et-xnnpack-int8"].model_copy(update={"delegation": records})
    bundle = str(copy_with(tiny, tmp_path / "bundle", {"variants": variants}))
    shown = run("info", bundle).stdout
    assert "    decoder       9 nodes in 3 subgraphs of XNNPACK, 2 outside\n" in shown
    assert (
        "    generator     11 nodes in 1 subgraph of XNNPACK, 0 outside\n" in shown and "aten_" not in shown
    )
    table = run("info", bundle, "--operators").stdout.removeprefix(shown).splitlines()
    assert table == [
        "",
        "et-xnnpack-int8: nodes in XNNPACK + outside",
        "  operator                    decoder       generator",
        "  aten_add_tensor               9 + 0           4 + 0",
        "  aten_cumsum_default           0 + 2                ",
        "  aten_mm_default                               7 + 0",
    ]
    found = json.loads(run("info", bundle, "--json").stdout)["variants"]
    assert found["et-xnnpack-int8"]["delegation"] == stages and "delegation" not in found["et-xnnpack-fp32"]


def test_info_shows_what_ranges_were_found_on(toy_bundle: Path, tmp_path: Path) -> None:
    variants = dict(Bundle.open(toy_bundle).variants)
    record = Calibration(sha256="ab" * 32, requests=32)
    variants["ort-int8"] = variants["ort-int8"].model_copy(update={"calibration": record})
    static = str(copy_with(toy_bundle, tmp_path / "static", {"variants": variants}))
    line = "ranges of inputs found on 32 requests, list abababababab\n"
    assert line in run("info", static).stdout and line not in run("info", str(toy_bundle)).stdout
    found = json.loads(run("info", static, "--json").stdout)["variants"]
    assert found["ort-int8"]["calibration"] == record.model_dump() and "calibration" not in found["ort-fp32"]


def test_verify(toy_bundle: Path) -> None:
    result = run("verify", str(toy_bundle))
    assert result.exit_code == 0
    assert "7 files" in result.stdout and "all as the manifest says" in result.stdout


def test_verify_finds_damage_in_any_file(toy_bundle: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(toy_bundle)) for path in toy_bundle.rglob("*") if path.is_file()]
    assert len(names) == 8
    for number, name in enumerate(names):
        copy = tmp_path / str(number)
        shutil.copytree(toy_bundle, copy)
        data = bytearray((copy / name).read_bytes())
        data[len(data) // 3] ^= 0x01
        (copy / name).write_bytes(data)
        refused(run("verify", str(copy)), 3, name)


def test_verify_numeric(toy_bundle: Path) -> None:
    result = run("verify", str(toy_bundle), "--numeric", "--json")
    assert result.exit_code == 0, result.stderr
    stages = json.loads(result.stdout)["numeric"]
    assert [(stage["variant"], stage["stage"]) for stage in stages] == [
        (variant, stage)
        for variant in ("ort-fp32", "ort-int8")
        for stage in ("text_encoder", "generator", "decoder")
    ]
    assert all(stage["passed"] and stage["snr_db"] > 100 for stage in stages)


def test_verify_numeric_of_chosen_variants(toy_bundle: Path) -> None:
    result = run("verify", str(toy_bundle), "--numeric", "--json", "--variant", "ort-int8")
    assert {stage["variant"] for stage in json.loads(result.stdout)["numeric"]} == {"ort-int8"}
    refused(run("verify", str(toy_bundle), "--numeric", "--variant", "ort-int4"), 4, "no variant 'ort-int4'")
    refused(run("verify", str(toy_bundle), "--variant", "ort-int8"), 2, "--numeric")


@pytest.mark.parametrize("array", ["pooled", "velocity", "waveform"])
def test_verify_numeric_finds_a_wrong_stage(toy_bundle: Path, tmp_path: Path, array: str) -> None:
    golden = Bundle.open(toy_bundle).golden()
    stage = {"pooled": "generator", "velocity": "generator", "waveform": "decoder"}[array]
    golden[array] = golden[array] * np.float32(1.01)
    np.savez(tmp_path / "golden.npz", **golden)  # type: ignore[arg-type]
    data = (tmp_path / "golden.npz").read_bytes()
    change = {"golden": describe("golden.npz", data), "files": {"golden.npz": data}}
    bundle = copy_with(toy_bundle, tmp_path / "changed", change)
    assert run("verify", str(bundle)).exit_code == 0
    result = run("verify", str(bundle), "--numeric")
    refused(result, 4, f"{stage} reaches", "at least 60.0 dB is required")
    assert "FAILED" in result.stdout


def test_golden_vectors_must_be_complete(toy_bundle: Path, tmp_path: Path) -> None:
    golden = Bundle.open(toy_bundle).golden()
    del golden["waveform"]
    np.savez(tmp_path / "golden.npz", **golden)  # type: ignore[arg-type]
    data = (tmp_path / "golden.npz").read_bytes()
    change = {"golden": describe("golden.npz", data), "files": {"golden.npz": data}}
    with pytest.raises(BundleError, match=r"golden.npz: no array waveform"):
        check_golden(Bundle.open(copy_with(toy_bundle, tmp_path / "changed", change)))


def test_tolerance_follows_the_manifest(toy_bundle: Path, tmp_path: Path) -> None:
    variants = dict(Bundle.open(toy_bundle).variants)
    stated = {"text_encoder": 40.0, "generator": 20.0, "decoder": 150.0}
    variants["ort-int8"] = variants["ort-int8"].model_copy(update={"parity_snr_db": stated})
    bundle = copy_with(toy_bundle, tmp_path / "changed", {"variants": variants})
    required = {s.stage: s.required_db for s in check_golden(Bundle.open(bundle)) if s.variant == "ort-int8"}
    assert required == {"text_encoder": 37.0, "generator": 17.0, "decoder": 60.0}


def test_signal_to_noise() -> None:
    reference = np.ones(1000, np.float32)
    assert signal_to_noise_db(reference, reference) == 200.0
    assert signal_to_noise_db(reference, reference * np.float32(0.9)) == pytest.approx(20.0, abs=1e-3)
    assert signal_to_noise_db(reference, reference * np.float32(np.nan)) == -200.0


def test_doctor() -> None:
    result = run("doctor", "--json")
    document = json.loads(result.stdout)
    assert document["packages"]["onnxruntime"]
    assert set(document["missing_by_extra"]) == {
        "train",
        "export",
        "eval",
        "public",
        "executorch",
        "coreml",
    }
    assert document["shadowed"] == {}
    assert 1 <= document["default_threads"] <= 4
    assert run("doctor").stdout.startswith("edge-tta ")


def test_doctor_fails_on_a_damaged_shipped_bundle(
    toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toy_bundle, tmp_path / "toy")
    monkeypatch.setattr("edge_tta.bundle.shipped.ASSETS", tmp_path)
    assert "bundle toy: ok" in run("doctor").stdout
    (tmp_path / "toy" / "MODEL_CARD.md").write_text("changed")
    refused(run("doctor"), 3, "toy (MODEL_CARD.md", "install the package again")


def test_doctor_names_who_shadows_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "__init__.py").write_text("")
    monkeypatch.delitem(__import__("sys").modules, "export", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert shadowed_packages() == {"export": str(tmp_path / "export")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "codec"),
        ("recipes", "ls"),
        ("recipes", "cp", "codec", "mine.toml"),
        ("reconstruct", "in.wav", "-o", "out.wav"),
    ],
)
def test_missing_extra(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    really = importlib.util.find_spec

    def without_torch(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "torch" else really(name, package)

    monkeypatch.setattr("edge_tta.cli.extras.find_spec", without_torch)
    refused(run(*arguments), 2, "needs the 'train' extra: pip install 'edge-tta[train]'")
    assert list(tmp_path.iterdir()) == []


def test_any_missing_package_of_an_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise ModuleNotFoundError("No module named 'scipy'", name="scipy.linalg")

    monkeypatch.setattr("edge_tta.bundle.Bundle.open", fail)
    refused(run("info"), 2, "package scipy.linalg", "pip install 'edge-tta[train]'")
