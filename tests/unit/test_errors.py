"""The error tree: one base, one exit code each, and the package's lazy front door."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import edge_tta
from edge_tta import errors

ROOT = Path(__file__).resolve().parents[2]
KINDS = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.EdgeTTAError)
]
EXIT_CODES = {
    "EdgeTTAError": 1,
    "TrainingError": 1,
    "RequestError": 2,
    "ConfigError": 2,
    "MissingExtraError": 2,
    "OutputError": 2,
    "DataError": 2,
    "BundleError": 3,
    "BackendError": 4,
    "GateError": 5,
    "Cancelled": 130,
}


def test_every_error_has_its_documented_exit_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in KINDS} == EXIT_CODES


def test_a_missing_extra_says_what_to_install() -> None:
    error = errors.MissingExtraError("train", "training")
    assert str(error) == "training needs the 'train' extra: pip install 'edge-tta[train]'"
    assert error.extra == "train"


@pytest.mark.parametrize("name", edge_tta.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(edge_tta, name).__name__ == name
    assert name in dir(edge_tta)


def test_an_unknown_name_is_an_ordinary_attribute_error() -> None:
    assert not hasattr(edge_tta, "TextToVideo")
    with pytest.raises(AttributeError, match="TextToVideo"):
        edge_tta.TextToVideo  # noqa: B018


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert edge_tta.__version__ == project["version"]


def test_values_and_bundles_load_nothing_native_or_large() -> None:
    code = (
        "import sys; from edge_tta import Audio, Bundle, EdgeTTAError; import edge_tta.noise, edge_tta.text;"
        "print([m for m in ('torch', 'onnxruntime', 'onnx', 'sentencepiece', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
