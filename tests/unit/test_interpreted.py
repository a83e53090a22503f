"""Core ML variants judged without Core ML: what the interpreter runs is what a device would be given."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from coreml_export import install_stand_in
from tiny_data import write_checkpoint
from typer.testing import CliRunner

from edge_tta import GenerationRequest, TextToAudio
from edge_tta.bundle import Bundle
from edge_tta.cli.main import app
from edge_tta.errors import BackendError
from edge_tta.runtime.backend import LoadedModel, load_variant

pytest.importorskip("coremltools")

REQUEST = GenerationRequest("rain on a tin roof", seconds=0.5, seed=3)


@pytest.fixture
def model(coreml_bundle: Path) -> LoadedModel:
    from export.interpreted import load_interpreted

    return load_interpreted(Bundle.open(coreml_bundle), "coreml-fp16", 1)


def test_the_sound_is_that_of_the_core_ml_backend(
    coreml_bundle: Path, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TextToAudio(model) as here:
        result = here.generate(REQUEST)
    assert result.backend == "coreml-interpreted"
    install_stand_in(monkeypatch)
    with TextToAudio.open(coreml_bundle, backend="coreml", precision="fp16") as there:
        expected = there.generate(REQUEST).audio.samples
    assert np.abs(expected).max() > 0 and np.array_equal(result.audio.samples, expected)


def test_other_variants_are_opened_as_ever(toy_bundle: Path) -> None:
    from export.interpreted import load_interpreted

    bundle = Bundle.open(toy_bundle)
    assert load_interpreted(bundle, "ort-int8", 1).backend.name == "ort"
    with pytest.raises(BackendError, match="has no variant 'coreml-int8'"):
        load_interpreted(bundle, "coreml-int8", 1)


@pytest.mark.skipif(sys.platform == "darwin", reason="there Core ML itself runs")
def test_validate_judges_what_cannot_run_here_only_when_told_to(coreml_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendError):
        load_variant(Bundle.open(coreml_bundle), "coreml-fp16", 1)
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    write_checkpoint(folder)
    found = {}
    for name, extra in (("plain", []), ("interpreted", ["--interpret"])):
        command = ["validate", str(coreml_bundle), "--reference", str(folder), *extra]
        command += [
            "--variant",
            "coreml-fp16",
            "--count",
            "1",
            "--seconds",
            "0.5",
            "-o",
            str(tmp_path / name),
        ]
        result = CliRunner().invoke(app, [*command, "--quiet"])
        assert result.exit_code == 0, result.output
        (found[name],) = json.loads((tmp_path / name / "validate.json").read_text())["variants"]
    assert (found["plain"]["status"], found["plain"]["backend"]) == ("not run", "coreml")
    assert (found["interpreted"]["status"], found["interpreted"]["backend"]) == ("ran", "coreml-interpreted")
    assert found["interpreted"]["figures"]["generator.latent_snr_db"]["value"] > 30
    text = (tmp_path / "interpreted" / "validate.md").read_text()
    assert "Its saved program was interpreted" in text
