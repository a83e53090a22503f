"""What all tests share: no network, and a toy bundle of three tiny graphs that behave like a model."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_tta.config import (
    AudioSpec,
    CodecConfig,
    GeneratorConfig,
    ModelConfig,
    TextEncoderConfig,
    config_digest,
    to_dict,
)

TOY_TEXTS = (
    "rain on a tin roof",
    "a dog barks twice in the yard",
    "wind in the trees and distant thunder",
    "an engine starts, idles and stops",
)
TOY_CHANNELS, TOY_WIDTH, TOY_HOP, TOY_TOKENS = 4, 8, 256, 16


def refuse_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: no test and nothing under test may leave this machine; loopback is for worker processes."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"connection to {address[0]}: everything here works offline")


def pytest_configure(config: pytest.Config) -> None:
    """Tests run offline, and property tests draw the same examples in every run."""
    import hypothesis

    sys.addaudithook(refuse_network)
    hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
    hypothesis.settings.load_profile("repeatable")


def toy_tokenizer() -> bytes:
    """SentencePiece model with byte fallback, trained in milliseconds."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TOY_TEXTS),
        model_writer=model,
        model_type="unigram",
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        unk_id=0,
        eos_id=1,
        bos_id=-1,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture(scope="session")
def toy_tokenizer_model() -> bytes:
    """A tokenizer trained here: unigram, byte fallback, so that nothing is unknown."""
    return toy_tokenizer()


def toy_graphs(rows: int) -> dict[str, bytes]:
    """ONNX files of the three stages; every input matters, so a wrong one shows in the sound."""
    from onnx import TensorProto, checker, helper, numpy_helper

    random = np.random.default_rng(7)

    def weight(name: str, *shape: int, scale: float = 0.3) -> object:
        return numpy_helper.from_array((scale * random.standard_normal(shape)).astype(np.float32), name)

    def port(name: str, *shape: int | str, kind: int = TensorProto.FLOAT) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    def constant(name: str, values: list[int]) -> object:
        return numpy_helper.from_array(np.array(values, dtype=np.int64), name)

    node = helper.make_node
    features = port("tokens", 1, "tokens", TOY_WIDTH), port("pooled", 1, TOY_WIDTH)
    latent = port("latent", 1, "length", TOY_CHANNELS)
    graphs = {
        "text_encoder": (
            [
                node("Gather", ["table", "ids"], ["tokens"], axis=0),
                node("ReduceMean", ["tokens", "axis"], ["pooled"], keepdims=0),
            ],
            [port("ids", 1, "tokens", kind=TensorProto.INT64)],
            list(features),
            [weight("table", rows, TOY_WIDTH, scale=1.0), constant("axis", [1])],
        ),
        "generator": (
            [
                node("ReduceMean", ["tokens", "axis"], ["mean"], keepdims=0),
                node("Add", ["mean", "pooled"], ["text"]),
                node("MatMul", ["text", "text_weight"], ["condition"]),
                node("Unsqueeze", ["condition", "axis"], ["bias"]),
                node("MatMul", ["latent", "latent_weight"], ["mixed"]),
                node("Add", ["mixed", "bias"], ["conditioned"]),
                node("Sum", ["time", "duration", "seconds", "guidance"], ["scalars"]),
                node("Mul", ["scalars", "small"], ["shift"]),
                node("Add", ["conditioned", "shift"], ["velocity"]),
            ],
            [
                latent,
                port("time", 1),
                port("duration", 1),
                *features,
                port("seconds", 1),
                port("guidance", 1),
            ],
            [port("velocity", 1, "length", TOY_CHANNELS)],
            [
                weight("text_weight", TOY_WIDTH, TOY_CHANNELS),
                weight("latent_weight", TOY_CHANNELS, TOY_CHANNELS),
                constant("axis", [1]),
                numpy_helper.from_array(np.array([0.01], dtype=np.float32), "small"),
            ],
        ),
        "decoder": (
            [
                node("MatMul", ["latent", "frame_weight"], ["frames"]),
                node("Reshape", ["frames", "flat"], ["waveform"]),
            ],
            [latent],
            [port("waveform", 1, 1, "samples")],
            [weight("frame_weight", TOY_CHANNELS, TOY_HOP, scale=0.05), constant("flat", [1, 1, -1])],
        ),
    }
    files = {}
    for name, (nodes, inputs, outputs, constants) in graphs.items():
        graph = helper.make_graph(nodes, name, inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        checker.check_model(model, full_check=True)
        files[name] = model.SerializeToString(deterministic=True)
    return files


def write_toy_bundle(target: Path, variants: tuple[str, ...] = ("ort-int8", "ort-fp32")) -> Path:
    """A bundle with real files and golden vectors; both precisions share the float graphs."""
    from edge_tta.bundle.assemble import describe, write_bundle
    from edge_tta.bundle.manifest import Generation, Manifest, Port, Provenance, TokenizerFile, Variant

    tokenizer = toy_tokenizer()
    config = ModelConfig(
        name="toy",
        audio=AudioSpec(hop=TOY_HOP, latent_channels=TOY_CHANNELS),
        text_encoder=TextEncoderConfig(vocab_size=512, max_tokens=TOY_TOKENS, width=TOY_WIDTH),
        generator=GeneratorConfig(latent_channels=TOY_CHANNELS, text_width=TOY_WIDTH),
        codec=CodecConfig(latent_channels=TOY_CHANNELS, n_fft=64, stft_hop=32),
    )
    graphs = toy_graphs(rows=512)
    files = {f"onnx/{name}.onnx": data for name, data in graphs.items()}
    files["tokenizer.model"] = tokenizer
    files["golden.npz"] = toy_golden(graphs)
    files["MODEL_CARD.md"] = b"# Toy\n\nNo model at all: three linear graphs for tests.\n"
    files["ATTRIBUTIONS.csv"] = b"file,author,licence,source\n"

    def ports(*described: tuple[str, str, list[int | str]]) -> list[Port]:
        return [Port(name=name, dtype=dtype, shape=shape) for name, dtype, shape in described]  # type: ignore[arg-type]

    text = ("tokens", "float32", [1, "tokens", TOY_WIDTH]), ("pooled", "float32", [1, TOY_WIDTH])
    latent = ("latent", "float32", [1, "length", TOY_CHANNELS])
    scalars = [(name, "float32", [1]) for name in ("time", "duration", "seconds", "guidance")]
    interfaces = {
        "text_encoder": (ports(("ids", "int64", [1, "tokens"])), ports(*text)),
        "generator": (
            ports(latent, *scalars[:2], *text, *scalars[2:]),
            ports(("velocity", "float32", [1, "length", TOY_CHANNELS])),
        ),
        "decoder": (ports(latent), ports(("waveform", "float32", [1, 1, "samples"]))),
    }
    stages = {
        name: {
            **describe(f"onnx/{name}.onnx", graphs[name]).model_dump(),
            "inputs": [port.model_dump() for port in inputs],
            "outputs": [port.model_dump() for port in outputs],
        }
        for name, (inputs, outputs) in interfaces.items()
    }
    manifest = Manifest(
        schema_version=1,
        name="toy",
        version="1.0.0",
        description="Three linear graphs for tests.",
        licence="Apache-2.0",
        training_data="None.",
        config=to_dict(config),
        config_digest=config_digest(config),
        tokenizer=TokenizerFile(**describe("tokenizer.model", tokenizer).model_dump(), max_tokens=TOY_TOKENS),
        variants={
            name: Variant.model_validate(
                {"backend": "ort", "precision": name.split("-")[1], "stages": stages}
            )
            for name in variants
        },
        generation=Generation(default_guidance=3.0, min_guidance=1.0, max_guidance=8.0, max_steps=8),
        golden=describe("golden.npz", files["golden.npz"]),
        model_card=describe("MODEL_CARD.md", files["MODEL_CARD.md"]),
        attributions=describe("ATTRIBUTIONS.csv", files["ATTRIBUTIONS.csv"]),
        provenance=Provenance(commit="0" * 40, checkpoint="none"),
    )
    write_bundle(target, manifest, files)
    return target


def toy_golden(graphs: dict[str, bytes]) -> bytes:
    """Golden inputs and outputs, computed with the reference evaluator of the onnx package."""
    from onnx.reference import ReferenceEvaluator

    from edge_tta.noise import gaussian_noise

    noise = gaussian_noise(0, (23, TOY_CHANNELS))[None]
    inputs: dict[str, np.ndarray] = {"ids": np.array([[5, 9, 270, 1]], dtype=np.int64), "noise": noise}
    values = {"time": 1.0, "duration": 1.0, "seconds": 0.5, "guidance": 3.0}
    inputs |= {name: np.array([value], dtype=np.float32) for name, value in values.items()}
    tokens, pooled = ReferenceEvaluator(graphs["text_encoder"]).run(None, {"ids": inputs["ids"]})
    (velocity,) = ReferenceEvaluator(graphs["generator"]).run(
        None,
        {"latent": noise, "tokens": tokens, "pooled": pooled, **{name: inputs[name] for name in values}},
    )
    latent = noise - velocity
    (waveform,) = ReferenceEvaluator(graphs["decoder"]).run(None, {"latent": latent})
    archive = io.BytesIO()
    outputs = {
        "tokens": tokens,
        "pooled": pooled,
        "velocity": velocity,
        "latent": latent,
        "waveform": waveform,
    }
    np.savez(archive, **{name: np.asarray(value) for name, value in (inputs | outputs).items()})
    return archive.getvalue()


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the toy bundle; not to be changed by tests."""
    return write_toy_bundle(tmp_path_factory.mktemp("bundles") / "toy")


@pytest.fixture(scope="session")
def coreml_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of the tiny bundle with Core ML variants; not to be changed by tests."""
    pytest.importorskip("coremltools")
    pytest.importorskip("torch")
    from coreml_export import write_tiny_coreml_bundle

    directory = tmp_path_factory.mktemp("coreml")
    return write_tiny_coreml_bundle(directory / "bundle", directory)
