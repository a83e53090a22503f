"""The tiny model lowered here and now: where every operator runs, what it computes, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("executorch")
pytest.importorskip("torchao")
import torch

from edge_tta.model.presets import preset
from edge_tta.runtime.et_program import EtProgram
from edge_tta.runtime.golden import signal_to_noise_db
from export.assemble import complete_parts
from export.random_weights import random_checkpoint
from export.tiny import tiny_checkpoint
from export.to_executorch import PREFIXES, LoweredProgram, lower, xnnpack_modules
from export.wrappers import ModelParts, StageGraph, stage_graphs
from quantization.executorch import quantize_linears
from quantization.recipe import load_recipe

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
DELEGATION = GOLDEN / "executorch-delegation.json"
"""Written anew by ``python tests/integration/test_executorch_export.py`` when a release lowers otherwise; review it."""


def parts() -> ModelParts:
    tiny = tiny_checkpoint()
    assert tiny.text_encoder is not None and tiny.generator is not None and tiny.codec is not None
    return ModelParts(tiny.config, tiny.text_encoder, tiny.generator, tiny.codec.decoder)


def lowered(precision: str) -> tuple[LoweredProgram, dict[str, StageGraph]]:
    """The tiny model as a program."""
    model = parts()
    modules = xnnpack_modules(model, False)
    if precision == "int8":
        recipe = load_recipe(str(GOLDEN / "executorch-tiny-int8.toml"))
        for stage, module in modules.items():
            quantize_linears(stage, PREFIXES[stage], module, recipe)
    return lower(modules, stage_graphs(model)), stage_graphs(model)


Made = tuple[str, LoweredProgram, dict[str, StageGraph]]


@pytest.fixture(scope="module", params=["int8", pytest.param("fp32", marks=pytest.mark.slow)])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    yield request.param, *lowered(request.param)


def test_delegation_is_the_reviewed_one(made: Made) -> None:
    precision, program, _ = made
    found = {method: table.model_dump() for method, table in program.delegation.items()}
    expected = json.loads(DELEGATION.read_text())[precision]
    assert found == expected


def test_convolutions_and_products_are_all_delegated(made: Made) -> None:
    precision, program, _ = made
    for method, table in program.delegation.items():
        heavy = ("linear", "mm", "bmm", "convolution", "softmax", "gelu", "sigmoid", "layer_norm")
        assert not [name for name in table.portable if any(word in name for word in heavy)], method
        if precision == "int8":
            assert any("choose_qparams" in name for name in table.delegated), method
            assert not any("quant" in name for name in table.portable), method


@pytest.mark.parametrize(("frames", "tokens"), [(1, 1), (200, 7), (4135, 16)])
def test_the_program_computes_the_model(made: Made, frames: int, tokens: int) -> None:
    precision, program, stages = made
    make = torch.Generator().manual_seed(frames)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=make)

    scalars = torch.ones(1), torch.ones(1)
    inputs: dict[str, tuple[torch.Tensor, ...]] = {
        "text_encoder": (torch.arange(tokens)[None] * 17 % 250,),
        "generator": (draw(1, frames, 4), *scalars, draw(1, tokens, 8), draw(1, 8), *scalars),
        "decoder": (draw(1, frames, 4),),
    }
    loaded = EtProgram("tiny", program.data, 1)
    try:
        for stage, given in inputs.items():
            with torch.no_grad():
                expected: Any = stages[stage].module(*given)
            expected = expected if isinstance(expected, tuple) else (expected,)
            outputs = loaded.run(stage, [value.numpy() for value in given])
            for one, other in zip(expected, outputs, strict=True):
                ratio = signal_to_noise_db(one.numpy(), other)
                # Phases are sums over all frames, so int8 moves long waveforms without changing what is heard.
                floor = {"fp32": 75.0, "int8": -3.0 if stage == "decoder" else 35.0}[precision]
                assert ratio > floor, (stage, ratio)
    finally:
        loaded.close()


def test_the_committed_program_is_made_of_the_same_operators(made: Made) -> None:
    from edge_tta.bundle.pte_inspect import inspect_pte

    precision, program, _ = made
    committed = GOLDEN / "edge-tiny-executorch" / f"et-xnnpack-{precision}" / "model.pte"
    assert inspect_pte("fresh", program.data) == inspect_pte("committed", committed.read_bytes())


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(made: Made) -> None:
    precision, program, _ = made
    code = (
        f"import sys, hashlib; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n"
        f"import test_executorch_export as t\n"
        f"print(hashlib.sha256(t.lowered({precision!r})[0].data).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=1200,
        env=environment,
        check=True,
    )
    assert done.stdout.split()[-1] == hashlib.sha256(program.data).hexdigest()


@pytest.mark.slow
def test_several_joint_blocks_are_lowered_and_computed() -> None:
    """Text and audio run side by side there, which ExecuTorch's own grouping turns into a cycle."""
    tiny = preset("edge-tiny")
    config = replace(tiny, generator=replace(tiny.generator, joint_blocks=3, shared_modulation=False))
    model, _ = complete_parts(random_checkpoint(config, tiny_checkpoint().tokenizer))
    stage, module = stage_graphs(model)["generator"], xnnpack_modules(model, False)["generator"]
    loaded = EtProgram("joint", lower({"generator": module}, {"generator": stage}).data, 1)
    try:
        (found,) = loaded.run("generator", [value.numpy() for value in stage.inputs])
    finally:
        loaded.close()
    with torch.no_grad():
        expected = stage.module(*stage.inputs).numpy()
    assert signal_to_noise_db(expected, found) > 75


if __name__ == "__main__":
    tables = {
        precision: {method: table.model_dump() for method, table in lowered(precision)[0].delegation.items()}
        for precision in ("fp32", "int8")
    }
    DELEGATION.write_text(json.dumps(tables, indent=1, sort_keys=True) + "\n")
