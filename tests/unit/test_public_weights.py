"""Paper configurations on public weights: tiny random T5 and CLAP checkpoints in the public file layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the public extra")

from public_weights import TEXTS, WIDTH, write_clap, write_t5

from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import ConfigError, DataError, RequestError
from edge_tta.evaluate.embedders import TextEmbedder, open_embedder
from edge_tta.model.presets import preset
from edge_tta.model.public_t5 import T5TextEncoder, load_t5
from edge_tta.train import public_text, text_features
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.public_text import PublicText, PublicTextConfig, with_public_text
from edge_tta.train.text_features import read_shard


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_t5(tmp_path_factory.mktemp("flan-t5"))


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("clap"))


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * 48000))).astype(np.float32)


def test_clap_embeds_sound_and_text_in_one_space(clap: Path) -> None:
    embedder = open_embedder("clap", clap)
    assert isinstance(embedder, TextEmbedder) and embedder.sample_rate == 48000
    clips = [noise(0.5), noise(0.5, 1)]
    sounds, texts = embedder.embed(clips), embedder.embed_text(TEXTS)
    assert sounds.shape == (2, 12) and texts.shape == (4, 12)
    assert np.allclose(np.linalg.norm(sounds, axis=1), 1, atol=1e-5)
    assert np.allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    assert np.array_equal(embedder.embed(clips[1:])[0], sounds[1])
    assert np.array_equal(embedder.embed_text(TEXTS[2:])[0], texts[2])
    assert not np.allclose(texts[0], texts[1])
    model, extractor = embedder.model, embedder.extractor
    inputs = extractor(clips[0], sampling_rate=48000, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**inputs, input_ids=torch.tensor([[0, 5, 2]])).audio_embeds[0]
    assert np.allclose(sounds[0], expected.numpy(), atol=1e-5)


def test_clap_hears_all_of_a_long_clip_without_chance(clap: Path) -> None:
    embedder = open_embedder("clap", clap)
    long = np.concatenate([noise(8, 1), noise(8, 2)])
    first, last = embedder.embed([long[:480000]])[0], embedder.embed([long[-480000:]])[0]
    whole = embedder.embed([long])[0]
    assert np.array_equal(embedder.embed([long])[0], whole)
    expected = (first + last) / np.linalg.norm(first + last)
    assert np.allclose(whole, expected, atol=1e-5)


def test_the_digest_of_clap_follows_every_file(clap: Path, tmp_path: Path) -> None:
    for path in clap.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert open_embedder("clap", tmp_path).digest == open_embedder("clap", clap).digest
    settings = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "padding": "pad"}))
    assert open_embedder("clap", tmp_path).digest != open_embedder("clap", clap).digest
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be loaded as CLAP") as caught:
        open_embedder("clap", tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="preprocessor_config"):
        open_embedder("clap", tmp_path)


def test_features_are_those_of_the_networks(t5: Path, clap: Path) -> None:
    encoder = PublicText(t5, clap=clap)
    assert encoder.width == 12
    features = encoder.encode(TEXTS)
    judge = open_embedder("clap", clap)
    for text in TEXTS:
        ids = torch.from_numpy(encoder.tokenizer.encode(text).ids)[None]
        assert ids[0, -1] == 1
        with torch.inference_mode():
            expected = encoder.encoder(input_ids=ids).last_hidden_state[0].numpy()
        assert features[text].tokens.shape == (ids.shape[1], 12)
        assert np.allclose(features[text].tokens[:, :WIDTH], expected, atol=5e-3)
        assert not features[text].tokens[:, WIDTH:].any()
        assert np.allclose(features[text].pooled, judge.embed_text([text])[0] * 12**0.5, atol=1e-5)
    assert features[TEXTS[0]].tokens.dtype == np.float16
    assert features[TEXTS[0]].pooled.dtype == np.float32
    with pytest.raises(RequestError):
        encoder.encode(["..."])


def test_the_tokenizer_is_t5_s_own(t5: Path) -> None:
    from transformers import T5Tokenizer

    theirs = T5Tokenizer(str(t5 / "spiece.model"), extra_ids=0, legacy=True)
    ours = PublicText(t5).tokenizer
    for text in (*TEXTS, "something new, 42 times!"):
        assert ours.encode(text).ids.tolist() == theirs(text).input_ids
    assert len(PublicText(t5, max_tokens=5).encode(TEXTS)[TEXTS[1]].tokens) == 5


def test_features_are_cached_by_weights_and_text(
    t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = PublicText(t5, tmp_path)
    known = first.encode(TEXTS[:3])
    again = PublicText(t5, tmp_path)
    computed = []
    compute = again._compute
    monkeypatch.setattr(again, "_compute", lambda texts, ids: computed.extend(texts) or compute(texts, ids))
    found = again.encode(TEXTS)
    assert computed == [TEXTS[3]]
    for text, features in known.items():
        assert np.array_equal(found[text].tokens, features.tokens)
        assert np.array_equal(found[text].pooled, features.pooled)
    shards = sorted(tmp_path.rglob("*.npz"))
    assert len(shards) == 2
    shards[0].write_bytes(shards[0].read_bytes()[:-200])
    assert read_shard(shards[0]) == {}
    repaired = PublicText(t5, tmp_path).encode(TEXTS)
    assert all(np.array_equal(repaired[text].tokens, found[text].tokens) for text in TEXTS)
    other = PublicText(write_t5(tmp_path / "other", num_layers=1), tmp_path)
    assert other.digest != first.digest and not other._store._known


def test_windows_and_couples_are_conditioned_on_the_features(t5: Path, clap: Path) -> None:
    text = PublicText(t5, clap=clap)
    captions = CaptionFeatures()
    told: list[tuple[int, int]] = []
    captions.encode(text, TEXTS, lambda *news: told.append(news))
    assert set(captions.features) == set(captions.pooled) == set(TEXTS) and told[-1] == (4, 4)
    condition = captions.condition(TEXTS[:2], torch.ones(2))
    features = text.encode(TEXTS[:2])
    for row, caption in enumerate(TEXTS[:2]):
        own = torch.from_numpy(features[caption].tokens.astype(np.float32))
        assert torch.equal(condition.tokens[row, : len(own)], own)
        assert condition.text_mask[row].tolist() == [
            place < len(own) for place in range(condition.text_mask.shape[1])
        ]
        assert not condition.tokens[row, len(own) :].any()
        assert torch.equal(condition.pooled[row], torch.from_numpy(features[caption].pooled))


def test_an_interruption_loses_at_most_a_shard(
    t5: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_features, "SHARD_TEXTS", 2)
    monkeypatch.setattr(public_text, "BATCH", 1)

    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        PublicText(t5, tmp_path).encode(TEXTS, stop)
    told: list[tuple[int, int]] = []
    found = PublicText(t5, tmp_path).encode(TEXTS, lambda *news: told.append(news))
    assert told == [(1, 2), (2, 2)]
    whole = PublicText(t5).encode(TEXTS)
    assert all(np.array_equal(found[text].tokens, whole[text].tokens) for text in TEXTS)


def test_the_shape_is_known_from_the_settings_alone(t5: Path, clap: Path, tmp_path: Path) -> None:
    model = preset("edge-tiny")
    for folder, width in (("", WIDTH), (str(clap), 12)):
        settings = PublicTextConfig(str(t5), folder, max_tokens=20)
        found = with_public_text(model, settings)
        assert found.generator.text_width == found.text_encoder.width == width
        assert (found.text_encoder.max_tokens, found.text_encoder.depth, found.text_encoder.vocab_size) == (
            20,
            2,
            320,
        )
        assert found.name == "edge-tiny-t5" and found.codec == model.codec
        assert PublicText(t5, clap=Path(folder) if folder else None).width == width
    for text, message in (
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        ('{"d_model": "wide"}', "not that of a T5"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(DataError, match=message):
            with_public_text(model, PublicTextConfig(str(tmp_path)))
    (tmp_path / "config.json").write_text((t5 / "config.json").read_text())
    with pytest.raises(DataError, match="projection_dim is None"):
        with_public_text(model, PublicTextConfig(str(t5), str(tmp_path)))
    with pytest.raises(ConfigError, match=r"give generator\.public_text\.t5"):
        with_public_text(model, PublicTextConfig())


def test_a_folder_without_t5_is_one_line(t5: Path, clap: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        load_t5(tmp_path)
    (tmp_path / "config.json").write_bytes((t5 / "config.json").read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(DataError, match="cannot be loaded as T5") as caught:
        load_t5(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "model.safetensors").write_bytes((clap / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match="lack"):
        load_t5(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((t5 / "model.safetensors").read_bytes())
    with pytest.raises(DataError, match=r"spiece\.model: cannot be read"):
        PublicText(tmp_path)
    (tmp_path / "spiece.model").write_bytes(b"damaged")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        PublicText(tmp_path)


@pytest.fixture(scope="module")
def graphs(t5: Path) -> dict[str, bytes]:
    pytest.importorskip("optimum.exporters.onnx", reason="needs the public extra")
    from export.t5_encoder import t5_encoder_graphs

    return t5_encoder_graphs(T5TextEncoder(load_t5(t5)))


def signal_to_noise(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-30)))


def run_graph(graph: bytes, ids: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [port.name for port in session.get_inputs()] == ["ids"]
    assert [port.name for port in session.get_outputs()] == ["tokens", "pooled"]
    return session.run(None, {"ids": ids})


def test_the_exported_encoder_is_torch_s(t5: Path, graphs: dict[str, bytes]) -> None:
    encoder, text = T5TextEncoder(load_t5(t5)), PublicText(t5)
    random = np.random.default_rng(0)
    for length in (1, 2, 16, 77):
        ids = np.append(random.integers(3, 300, length - 1), 1)[None].astype(np.int64)
        with torch.inference_mode():
            expected = [part.numpy() for part in encoder(torch.from_numpy(ids))]
        for precision, least in (("fp32", 90.0), ("int8", 20.0)):
            for want, got in zip(expected, run_graph(graphs[precision], ids), strict=True):
                assert want.shape == got.shape
                assert signal_to_noise(want, got) > least, (precision, length)
    # What training stores is what the device computes.
    features = text.encode(TEXTS[:1])[TEXTS[0]]
    tokens, pooled = run_graph(graphs["fp32"], text.tokenizer.encode(TEXTS[0]).ids[None])
    assert np.allclose(tokens[0], features.tokens, atol=5e-3)
    assert np.allclose(pooled[0], features.pooled, atol=1e-4)


def test_the_exported_files_are_acceptable_and_the_same_every_time(
    t5: Path, graphs: dict[str, bytes]
) -> None:
    import onnx

    from export.t5_encoder import t5_encoder_graphs

    for precision, graph in graphs.items():
        inspect_onnx(precision, graph)
    quantized = onnx.load_from_string(graphs["int8"]).graph
    kinds = [node.op_type for node in quantized.node]
    # Four products of attention and two of the gate in each of two blocks; the last of each block stays float.
    assert kinds.count("MatMulInteger") == 12
    large = [tensor.data_type for tensor in quantized.initializer if np.prod(tensor.dims) >= 1024]
    assert large.count(onnx.TensorProto.FLOAT) == 2
    assert large.count(onnx.TensorProto.INT8) == 12
    assert large.count(onnx.TensorProto.UINT8) == 1  # the token table
    encoder = T5TextEncoder(load_t5(t5))
    assert t5_encoder_graphs(encoder) == graphs
    with pytest.raises(ConfigError, match=r"\*/nothing/\*"):
        t5_encoder_graphs(encoder, keep_float=["*/nothing/*"])
