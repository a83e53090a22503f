"""The Arm comparison without an emulator: what is fetched and when, what is counted, what passes."""

from __future__ import annotations

import io
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile

from benchmarks.arm import apt, cases, kit, machine, stages
from benchmarks.arm.__main__ import main
from benchmarks.arm.errors import EmulationError
from benchmarks.arm.instructions import count_instructions
from benchmarks.arm.judge import join, judge, stage_verdict
from benchmarks.arm.kit import Kit
from benchmarks.arm.report import summary, write_report
from benchmarks.arm.steps import call, once
from edge_tta.bundle import Bundle
from edge_tta.errors import RequestError

LISTED = """\
http://a.example/debian/ bookworm main
http://b.example/debian-security/ bookworm-security main
http://c.example/postgres/ bookworm-pgdg main
http://d.example/tool/ bookworm stable
"""
LOG = b"""----------------
IN: MlasGemm
0x7f9b0e71ae40:  4e8be1c3  sdot     v3.4s, v14.16b, v11.4b[0]
0x7f9b0e71ae44:  9b217c00  smull    x0, w0, w1
0x7f9b0e71ae48:  0e62c042  smull    v2.4s, v2.4h, v2.4h
0x7f3b6bf66964:  808c02c0  fmopa    za0.s, p0/m, p0/m, z22.s, z12.s
0x7f3b6bf66968:  a08c02c0  smopa    za0.s, p0/m, p0/m, z22.b, z12.b
0x7f3b6bf66968:  4e21cc00  fmla     v0.4s, v0.4s, v1.4s
0x7f3b6bf6696c:  4e80a41f  smmla    v31.4s, v0.16b, v0.16b
"""


def script(path: Path, says: str) -> Path:
    """A program that prints a line."""
    path.write_text(f"#!/bin/sh\necho '{says}'\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_a_step_is_done_once_and_again_for_other_inputs(tmp_path: Path) -> None:
    filled = []

    def fill(folder: Path) -> None:
        filled.append(folder)
        (folder / "part").write_text(str(len(filled)), encoding="utf-8")

    assert once(tmp_path / "step", {"version": 1}, fill) == tmp_path / "step"
    once(tmp_path / "step", {"version": 1}, fill)
    assert len(filled) == 1
    once(tmp_path / "step", {"version": 2}, fill)
    assert (tmp_path / "step" / "part").read_text(encoding="utf-8") == "2"


def test_a_step_that_fails_keeps_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    once(tmp_path / "step", {"version": 1}, lambda folder: (folder / "old").touch())

    def broken(folder: Path) -> None:
        (folder / "half").touch()
        raise EmulationError("no network")

    with pytest.raises(EmulationError):
        once(tmp_path / "step", {"version": 2}, broken)
    assert [path.name for path in tmp_path.iterdir()] == ["step"]
    assert (tmp_path / "step" / "old").exists() and not (tmp_path / "step" / "half").exists()


def test_a_program_that_fails_is_told_with_its_last_words() -> None:
    with pytest.raises(EmulationError, match=r"trying failed \(exit code 3\): one / two"):
        call(["sh", "-c", "echo one >&2; echo two >&2; exit 3"], "trying")
    with pytest.raises(EmulationError, match="signal 6"):
        call(["sh", "-c", "kill -ABRT $$"], "trying")
    with pytest.raises(EmulationError, match="there is no program"):
        call(["no-such-program"], "trying")
    assert call(["sh", "-c", "echo figures; exit 4"], "trying", accepted=(0, 4)) == "figures\n"


def test_sources_are_the_release_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apt, "call", lambda *_, **__: LISTED)
    assert apt.configured_sources("bookworm") == [
        apt.Source("http://a.example/debian/", "bookworm"),
        apt.Source("http://b.example/debian-security/", "bookworm-security"),
    ]
    with pytest.raises(EmulationError, match="no archive with 'trixie main'"):
        apt.configured_sources("trixie")


def test_another_system_is_told_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        apt.platform, "freedesktop_os_release", lambda: {"ID": "other", "PRETTY_NAME": "Other 9"}
    )
    monkeypatch.setattr(kit.shutil, "which", lambda _: None)
    assert main(["--bundle", str(toy_bundle), "--work", str(tmp_path)]) == 6
    assert "needs apt on Debian; this is Other 9" in capsys.readouterr().err


def test_a_bundle_without_anything_to_compare_does_not_pass(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, toy_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.arm.judge.onnx_variants", lambda _: [])
    assert main(["--bundle", str(toy_bundle), "--work", str(tmp_path)]) == 2
    assert "has no variant for ONNX Runtime or for ExecuTorch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "usable"), [("7.2.22 (Debian 1:7.2)", False), ("10.0.13", True), ("11.1.3", True)]
)
def test_only_an_emulator_that_computes_right_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, usable: bool
) -> None:
    program = script(tmp_path / "qemu-aarch64", f"qemu-aarch64 version {said}")
    monkeypatch.setattr(kit.shutil, "which", {"qemu-aarch64": str(program)}.get)
    told: list[str] = []

    def refuse(self: Kit, folder: Path) -> None:
        raise EmulationError("nothing newer")

    monkeypatch.setattr(Kit, "_fetch_emulator", refuse)
    made = Kit(tmp_path / "work", told.append, "python")
    if usable:
        assert made.emulator == kit.Emulator(program, said)
    else:
        with pytest.raises(EmulationError, match="nothing newer"):
            _ = made.emulator
        assert "7.2.22" in told[0]


def test_core_requirements_are_those_of_the_project_in_the_versions_of_here() -> None:
    found = dict(requirement.split("==") for requirement in kit.core_requirements())
    assert set(found) == {"numpy", "onnxruntime", "pydantic", "rich", "sentencepiece", "soundfile", "typer"}
    assert found["numpy"] == np.__version__


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_instructions_are_counted_by_family(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr("benchmarks.arm.instructions._CHUNK", chunk)
    assert count_instructions(io.BytesIO(LOG)) == {
        "float multiply-add": 1,
        "dot product": 1,
        "widening multiply": 1,
        "SME float outer product": 1,
        "SME int8 outer product": 1,
        "int8 matrix product": 1,
    }


def test_what_a_core_reached_comes_through_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def logging(core: str, _: Kit, log: Path | None) -> machine.Machine:
        (tmp_path / "log").write_bytes(LOG * 1000)
        return machine.Machine(core, ("sh", "-c", f"cat {tmp_path}/log > {log}"))

    monkeypatch.setattr(machine, "emulated", logging)
    with machine.traced("core", Kit(tmp_path, print, "python")) as (core, reached):
        call([*core.python], "logging")
        call([*core.python], "logging")
    assert reached["dot product"] == 2000
    with machine.traced("core", Kit(tmp_path, print, "python")) as (_, nothing):
        pass
    assert nothing == Counter()


@pytest.mark.parametrize(
    ("here", "there", "passed"),
    [(30.0, 29.6, True), (30.0, 29.4, False), (30.0, 33.0, True), (120.0, 59.6, True), (120.0, 59.4, False)],
)
def test_a_stage_may_be_half_a_decibel_below_this_machine(here: float, there: float, passed: bool) -> None:
    assert stage_verdict({"snr_db": there}, here)["passed"] is passed


def record(
    folder: Path, name: str, snr_db: float, noise: float, sha: str = "a", odd: float = 0.0
) -> dict[str, Any]:
    """A measured machine with sounds that differ by some noise, the last one by more."""
    time = np.arange(22050) / 44100
    for precision, amount in (("fp32", 0.0), ("int8", noise)):
        (folder / f"{name}-{precision}").mkdir(parents=True)
        for seed in range(8):
            tone = 0.3 * np.sin(2 * np.pi * (440 + seed) * time)
            hiss = np.random.default_rng(seed).standard_normal(time.size)
            share = amount + (odd if amount and seed == 7 else 0.0)
            file = folder / f"{name}-{precision}" / f"{seed:03d}.wav"
            soundfile.write(file, tone + 0.01 * (1 + share) * hiss, 44100)
    stage = {"bundle": name, "runtime": "ONNX Runtime", "variant": "ort-int8", "stage": "generator"}
    return {
        "architecture": "aarch64",
        "python": "3.11",
        "features": ["asimddp"],
        "noise_sha256": sha,
        "stages": [{**stage, "snr_db": snr_db, "max_abs_error": 0.1}],
        "instructions": {"ONNX Runtime": {"dot product": 12}},
        "sounds": str(folder),
    }


@pytest.mark.parametrize(
    ("snr_db", "noise", "sha", "odd", "passed"),
    [
        (29.8, 0.1, "a", 0.0, True),
        (28.0, 0.1, "a", 0.0, False),
        (29.8, 3.0, "a", 0.0, False),
        (29.8, 0.1, "b", 0.0, False),
        (29.8, 0.1, "a", 0.5, True),
    ],
)
def test_a_core_passes_by_stages_sounds_and_noise(
    toy_bundle: Path, tmp_path: Path, snr_db: float, noise: float, sha: str, odd: float, passed: bool
) -> None:
    bundle = Bundle.open(toy_bundle)
    here = record(tmp_path / "here", bundle.name, 30.0, 0.1)
    core = judge(record(tmp_path / "core", bundle.name, snr_db, noise, sha, odd), here, bundle)
    assert core["passed"] is passed
    found = {
        "gates": {"stage_db": 0.5, "sound_log_mel": 0.025},
        "requests": {"prompts": 32, "sounds": 8, "seconds": 1.0},
        "versions": {"qemu": "11.1", "onnxruntime": "1.31", "numpy": "2.4"},
        "here": here,
        "cores": [{"machine": "cortex-a76", "note": "", **join([core])}],
        "passed": passed,
    }
    page, data = write_report(found, tmp_path / "report")
    assert json.loads(data.read_text(encoding="utf-8"))["cores"][0]["passed"] is passed
    text = page.read_text(encoding="utf-8")
    assert f"{snr_db:.1f}" in text and "| 12 |" in text
    assert ("failed" in text.lower()) is not passed and ("Noise is equal" in text) is passed
    assert any("FAILED" in line for line in summary(found)) is not passed


def test_a_core_with_fewer_sounds_is_not_judged(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    here, core = (record(tmp_path / name, bundle.name, 30.0, 0.1) for name in ("here", "core"))
    next((tmp_path / "core" / f"{bundle.name}-int8").iterdir()).unlink()
    with pytest.raises(EmulationError, match="7 sounds on the core, 8 here"):
        judge(core, here, bundle)


def test_cases_come_from_the_float_model_and_survive_a_file(toy_bundle: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    made = cases.make_cases(bundle, ["rain", "a dog", *("wind",) * 8])
    cases.write_cases(made, tmp_path / "cases.npz")
    read = cases.read_cases(tmp_path / "cases.npz")
    assert {stage: len(requests) for stage, requests in read.items()} == {
        "text_encoder": 10,
        "generator": cases.NUM_SOUNDS,
        "decoder": cases.NUM_SOUNDS,
    }
    for stage, requests in made.items():
        for case, other in zip(requests, read[stage], strict=True):
            assert set(case.inputs) == set(other.inputs)
            for name, value in case.inputs.items():
                np.testing.assert_array_equal(value, other.inputs[name])
    # One seed a request: noise differs where prompts do not.
    first, second = (read["generator"][number].inputs["latent"] for number in (2, 3))
    assert not np.array_equal(first, second)
    (text, generator, decoder) = stages.check_variant(bundle, "ort-fp32", read)
    assert text["requests"] == 10 and text["variant"] == "ort-fp32"
    assert min(text["snr_db"], generator["snr_db"], decoder["snr_db"]) > 100


def test_distance_is_over_all_requests_together() -> None:
    loud, soft = np.full((1, 4), 10.0), np.full((1, 4), 1.0)
    asked = {"decoder": [cases.Case({}, loud), cases.Case({}, soft)]}
    (found,) = cases.judge_stages(asked, lambda _, number, case: case.expected + (number == 1))
    assert found["snr_db"] == pytest.approx(10 * np.log10((400 + 4) / 4)) and found["max_abs_error"] == 1.0
    with pytest.raises(ValueError, match=r"decoder made \(4,\), not \(1, 4\)"):
        cases.judge_stages(asked, lambda _, __, case: case.expected[0])


def test_the_float_model_may_be_in_another_bundle_of_the_same_model(toy_bundle: Path) -> None:
    bundle = Bundle.open(toy_bundle)
    without = Mock(manifest=bundle.manifest.model_copy(), variants={"et-xnnpack-int8": None})
    assert cases.float_bundle(bundle, ()) is bundle
    assert cases.float_bundle(without, (without, bundle)) is bundle
    without.manifest = bundle.manifest.model_copy(update={"version": "0.0.1"})
    with pytest.raises(RequestError, match="add a --bundle of the same model"):
        cases.float_bundle(without, (without, bundle))
