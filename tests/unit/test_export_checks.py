"""What an export refuses before anything is lowered: places, texts, recipes and sizes that come to no bundle."""

from __future__ import annotations

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
import pytest

pytest.importorskip("torch")
import torch

import export.assemble
import export.to_onnx
from edge_tta.bundle import Bundle
from edge_tta.bundle.manifest import STAGES
from edge_tta.errors import BundleError, ConfigError, EdgeTTAError, OutputError
from export.assemble import complete_parts, export_bundle
from export.bundle_text import BundleText, read_text
from export.recipe import ExportRecipe, VariantRecipe
from export.tiny import tiny_checkpoint
from export.wrappers import stage_graphs
from quantization.module_layers import helpers_of, module_layers
from quantization.onnx_layers import Layer, is_helper, layers_of, weights_of
from quantization.recipe import load_recipe

TINY = Path(__file__).parents[1] / "golden" / "edge-tiny"
FLOATS = VariantRecipe("ort", "fp32")
FACTS = {
    "version": '"1.0.0"',
    "description": '"Random weights."',
    "licence": '"Apache-2.0"',
    "training_data": '"None."',
    "default_guidance": "3.0",
    "min_guidance": "1.0",
    "max_guidance": "5.0",
    "max_steps": "8",
}
DYNAMIC = 'scheme = { weights = "int8", activations = "dynamic" }'
BLOCKS = 'scheme = { weights = "int8", activations = "dynamic", granularity = "block", block_size = 32 }'


def never(*_: object, **__: object) -> Any:
    raise AssertionError("work was begun")


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is exported, lowered or converted."""
    monkeypatch.setattr(export.to_onnx, "export_onnx", never)
    if find_spec("executorch") is not None:
        monkeypatch.setattr("export.to_executorch.lower", never)
    if find_spec("coremltools") is not None:
        monkeypatch.setattr("export.to_coreml.convert_stage", never)


def texts(folder: Path, card: str = "# Test\n", attributions: str = "id\n", **facts: str) -> BundleText:
    """What a checkpoint folder says, with some of it changed."""
    folder.mkdir()
    lines = [f"{name} = {value}" for name, value in (FACTS | facts).items()]
    (folder / "bundle.toml").write_text("\n".join(lines))
    (folder / "MODEL_CARD.md").write_text(card)
    (folder / "ATTRIBUTIONS.csv").write_text(attributions)
    return read_text(folder)


def refused(
    tmp_path: Path,
    kind: type[EdgeTTAError],
    message: str,
    *variants: VariantRecipe,
    target: Path | None = None,
    text: BundleText | None = None,
    max_file_bytes: int | None = None,
) -> None:
    """The export is refused with one line, and leaves everything as it was."""
    text = text or texts(tmp_path / "checkpoint")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message) as caught:
        recipe = ExportRecipe("test", variants or (FLOATS,))
        where = target or tmp_path / "bundle"
        export_bundle(tiny_checkpoint(), where, text, recipe, max_file_bytes=max_file_bytes)
    assert "\n" not in str(caught.value) and sorted(tmp_path.rglob("*")) == before


def by_recipe(folder: Path, target: str, stage: str, table: str, name: str = "mine") -> VariantRecipe:
    """A variant by a quantization recipe for one stage."""
    path = folder / f"{name}-{stage}.toml"
    path.write_text(f'name = "{name}"\ntarget = "{target}"\n[{stage}]\n{table}\n')
    backend: Any = "ort" if target == "onnx" else target
    return VariantRecipe(backend, load_recipe(str(path)).precision, str(path))


def rule(stage: str, pattern: str) -> str:
    return f'[[{stage}.layers]]\npattern = "{pattern}"\nreason = "because"'


@pytest.mark.parametrize(
    ("target", "stage", "table", "message"),
    [
        ("onnx", "generator", rule("generator", "generator.nothing.*"), "matches no layer of generator"),
        ("onnx", "generator", "", "no layer of generator would be quantized; the largest has 384 weights"),
        ("onnx", "decoder", "min_elements = 16", "is a fixed helper matrix; .*keep it float by a rule"),
        ("executorch", "decoder", rule("decoder", "decoder.nothing.*"), "matches no layer of decoder"),
        ("executorch", "text_encoder", f"min_elements = 64\n{BLOCKS}", "blocks of 32 do not divide 8 inputs"),
        ("coreml", "decoder", rule("decoder", "decoder.nothing.*"), "matches no layer of decoder"),
        (
            "coreml",
            "text_encoder",
            'min_elements = 64\nscheme = { weights = "palette4", granularity = "group", block_size = 16 }',
            "groups of 16 do not divide 8 output channels",
        ),
        (
            "onnx",
            "generator",
            'min_elements = 64\nscheme = { weights = "int8" }',
            "no fast kernel for a product in int8 per channel, float inputs",
        ),
    ],
)
def test_recipes_that_do_not_fit_the_model(
    tmp_path: Path, target: str, stage: str, table: str, message: str
) -> None:
    if target != "onnx":
        pytest.importorskip({"executorch": "executorch", "coreml": "coremltools"}[target])
    if "scheme" not in table:
        scheme = 'scheme = { weights = "int8" }' if target == "coreml" else DYNAMIC
        table = f"{scheme}\n{table}"
    # The float variant comes first: its work would be done before the other is looked at.
    refused(tmp_path, ConfigError, message, FLOATS, by_recipe(tmp_path, target, stage, table))


def test_recipes_for_another_runtime_and_of_one_name(tmp_path: Path) -> None:
    other = VariantRecipe("ort", "int8", "executorch-int8")
    refused(tmp_path, ConfigError, "ort-int8: recipe executorch-int8 is for executorch, not for onnx", other)
    table = f"min_elements = 64\n{DYNAMIC}"
    first = by_recipe(tmp_path, "onnx", "generator", table)
    second = VariantRecipe(
        "ort", "int8", by_recipe(tmp_path, "onnx", "text_encoder", table).quantization, label="b"
    )
    text = texts(tmp_path / "again")
    refused(tmp_path, ConfigError, "ort-b: another recipe is called mine too", first, second, text=text)


def test_durations_that_the_model_does_not_make(tmp_path: Path) -> None:
    variant = VariantRecipe("coreml", "fp16", seconds=(2.0, 60.0))
    refused(tmp_path, ConfigError, r"coreml-fp16: 60 s is out of range: this model makes up to 12 s", variant)


@pytest.mark.parametrize("stage", STAGES)
def test_the_module_tells_what_the_graph_will_be(stage: str) -> None:
    """The layers are those of the graph, and so is what becomes of them: the check is no guess."""
    parts, _ = complete_parts(tiny_checkpoint())
    opened, made = Bundle.open(TINY), stage_graphs(parts)[stage]
    graph = onnx.load_from_string(opened.read(opened.variants["ort-fp32"].stages[stage])).graph
    layers = module_layers(made.module, made.inputs)
    expected = {layer.name: layer for layer in layers_of(graph)}
    assert {layer.name for layer in layers} == set(expected)
    for layer in layers:
        other = expected[layer.name]
        assert (layer.kind, layer.elements, layer.grouped) == (other.kind, other.elements, other.grouped)
    weights = weights_of(graph)
    fixed = {name for name, layer in expected.items() if layer.kind == "product" and is_helper(weights[name])}
    assert fixed == {
        layer.name for layer in layers if layer.kind == "product" and is_fixed(made.module, layer)
    }
    assert bool(fixed) == (stage == "decoder")


def is_fixed(module: torch.nn.Module, layer: Layer) -> bool:
    return helpers_of(module)(layer.name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"licence": '"?"'}, "licence: String should match"),
        ({"version": '"one"'}, "version: String should match"),
        ({"description": '"\\u001b[31m"'}, "description: String should match"),
        ({"attributions": ""}, "ATTRIBUTIONS.csv is empty"),
        ({"card": ""}, "MODEL_CARD.md is empty"),
    ],
)
def test_texts_that_no_manifest_takes(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    refused(tmp_path, ConfigError, message, text=texts(tmp_path / "checkpoint", **changes))


def test_names_that_no_manifest_takes(tmp_path: Path) -> None:
    table = f"min_elements = 64\n{DYNAMIC}"
    named = by_recipe(tmp_path, "onnx", "text_encoder", table, name="My Recipe")
    refused(tmp_path, ConfigError, r"recipes\.My Recipe", named)
    labelled = VariantRecipe("ort", "fp32", label="My Label")
    refused(tmp_path, ConfigError, "variants.*ort-My Label", labelled, text=texts(tmp_path / "again"))


def test_guidance_that_contradicts_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"bundle\.toml: default_guidance is not between"):
        texts(tmp_path / "checkpoint", default_guidance="9.0")


def test_places_where_no_bundle_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = texts(tmp_path / "checkpoint")
    (tmp_path / "file").write_text("x")
    site = tmp_path / "site"
    site.mkdir()
    # Web pages have a file of that name too.
    (site / "manifest.json").write_text('{"name": "my site", "icons": []}')
    refused(tmp_path, BundleError, "file exists and is no bundle", target=tmp_path / "file", text=text)
    refused(tmp_path, BundleError, "site exists and is no bundle", target=site, text=text)
    refused(tmp_path, OutputError, "Not a directory", target=tmp_path / "file" / "bundle", text=text)
    refused(tmp_path, OutputError, "File name too long", target=tmp_path / ("b" * 250), text=text)
    with monkeypatch.context() as patch:
        (tmp_path / "mounted").mkdir()
        patch.setattr(os.path, "ismount", lambda path: Path(path).name == "mounted")
        refused(tmp_path, OutputError, "it is a mount point", target=tmp_path / "mounted", text=text)
    make = Path.mkdir

    def only_read(path: Path, *arguments: Any, **options: Any) -> None:
        if tmp_path / "closed" in path.parents:
            raise PermissionError(13, "Permission denied")
        make(path, *arguments, **options)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(Path, "mkdir", only_read)
    refused(tmp_path, OutputError, "Permission denied", target=tmp_path / "closed" / "a" / "b", text=text)


def test_files_so_small_that_no_graph_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export.assemble, "MAX_PARTS", 1)
    message = "the largest graph of ort-fp32 has at least .* more than 1 parts of 4096; allow files of 1 MiB or more"
    refused(tmp_path, ConfigError, message, max_file_bytes=4096)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("moment", ["export_onnx", "write_bundle"])
def test_an_export_that_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, error: type[BaseException]
) -> None:
    """Neither at its output, nor of the temporary files that tools leave when they are stopped."""
    bundle = Bundle.open(TINY)
    graphs = {stage: bundle.read(bundle.variants["ort-fp32"].stages[stage]) for stage in STAGES}
    temporary, text = tmp_path / "temporary", texts(tmp_path / "checkpoint")
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    made: list[Path] = []

    def tool(_: object) -> bytes:
        made.append(Path(tempfile.mkdtemp()) / "model")
        made[-1].write_bytes(b"left behind")
        if moment == "export_onnx" and len(made) == 2:
            raise error
        return graphs[STAGES[len(made) - 1]]

    def full_disk(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content[:10])
        raise error

    monkeypatch.setattr(export.to_onnx, "export_onnx", tool)
    if moment == "write_bundle":
        monkeypatch.setattr("edge_tta.bundle.assemble._write", full_disk)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error):
        export_bundle(tiny_checkpoint(), tmp_path / "new" / "bundle", text, ExportRecipe("test", (FLOATS,)))
    assert len(made) == (2 if moment == "export_onnx" else 3)
    assert all(temporary in path.parents for path in made)
    assert sorted(tmp_path.rglob("*")) == before and tempfile.tempdir == str(temporary)
