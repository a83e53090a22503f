"""A tiny bundle with Core ML variants, and a stand-in for Core ML that runs packages where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

MIXED_RECIPE = """
name = "mixed"
target = "coreml"
description = "every way to compress in one variant: scales, static inputs, palettes"

[text_encoder]
scheme = { weights = "int8" }
min_elements = 64
[[text_encoder.layers]]
pattern = "encoder.embedding.weight"
scheme = { weights = "int8" }
reason = "a table is quantized by a rule alone"
[[text_encoder.layers]]
pattern = "encoder.layers.0.query.weight"
reason = "something must stay float"

[generator]
scheme = { weights = "int8", activations = "static" }
min_elements = 64

[decoder]
scheme = { weights = "palette4", granularity = "group", block_size = 16 }
min_elements = 128
[[decoder.layers]]
pattern = "decoder.latent_blocks.*"
scheme = { weights = "int8" }
reason = "24 and 12 channels make no groups"
[[decoder.layers]]
pattern = "decoder.frame_blocks.0.project.weight"
scheme = { weights = "int4", granularity = "block", block_size = 16 }
reason = "its 8 channels make no group, its 16 inputs make a block"
[[decoder.layers]]
pattern = "decoder.magnitude.weight"
reason = "its 17 channels make no groups"
[[decoder.layers]]
pattern = "decoder.shortcut.weight"
reason = "its 136 channels make no groups"
[[decoder.layers]]
pattern = "decoder.envelope.*"
reason = "gains in time"
[[decoder.layers]]
pattern = "decoder.dft.*synthesis_*"
reason = "its 17 channels make no groups"
[[decoder.layers]]
pattern = "decoder.dft.*analysis_*"
reason = "its 17 channels make no groups"
[[decoder.layers]]
pattern = "decoder.excitation.*"
reason = "its 17 channels make no groups"
"""


def write_tiny_coreml_bundle(target: Path, recipes: Path) -> Path:
    """The tiny bundle with Core ML variants in halves and in a mixture of everything.

    Args:
        target: bundle directory.
        recipes: directory for the quantization recipe.
    """
    from export.recipe import ExportRecipe, VariantRecipe
    from export.tiny import write_tiny_bundle
    from quantization.calibration import read_calibration

    path, prompts = recipes / "mixed.toml", recipes / "prompts.csv"
    path.write_text(MIXED_RECIPE, encoding="utf-8")
    # Thousands of tiny frames would take longer than all the rest.
    prompts.write_text("prompt,seconds,guidance,steps,seed\nrain,0.5,3,2,1\na dog barking,0.7,2,1,2\n")
    variants = VariantRecipe("coreml", "fp16"), VariantRecipe("coreml", "int4", str(path), label="mixed")
    write_tiny_bundle(target, ExportRecipe("coreml", variants), read_calibration(prompts))
    return target


def install_stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Put the stand-in in the place of Core ML; the runtime then believes that it is on a Mac."""
    import coremltools

    from edge_tta.runtime import apple

    stand_in = StandIn()
    monkeypatch.setattr(apple, "sys", SimpleNamespace(platform="darwin"))
    monkeypatch.setattr(apple, "platform", SimpleNamespace(mac_ver=lambda: ("15.1", ("", "", ""), "arm64")))
    monkeypatch.setattr(coremltools.utils, "compile_model", stand_in.compile)
    monkeypatch.setattr(coremltools.models, "CompiledMLModel", stand_in.open)
    return stand_in


class StandIn:
    """Compiles by copying, and predicts with the interpreter of saved programs."""

    def __init__(self) -> None:
        self.compiled: list[Path] = []
        self.opened: list[tuple[str, Any]] = []
        self.given: list[dict[str, NDArray[Any]]] = []
        self._interpreters: dict[str, Any] = {}

    def compile(self, package: str, destination: str) -> str:
        """As ``coremltools.utils.compile_model``."""
        self.compiled.append(Path(package))
        shutil.copytree(package, destination)
        return destination

    def open(self, path: str, compute_units: Any, function_name: str) -> Any:
        """As ``coremltools.models.CompiledMLModel``."""
        from export.mil_interpreter import MilInterpreter

        self.opened.append((function_name, compute_units))
        if path not in self._interpreters:
            self._interpreters[path] = MilInterpreter(Path(path), "declared")
        interpreter = self._interpreters[path]

        def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
            self.given.append(dict(inputs))
            # Core ML answers with arrays of its own layout.
            return {
                name: np.asfortranarray(value)
                for name, value in interpreter.run(function_name, inputs).items()
            }

        return SimpleNamespace(predict=predict)
