"""Paper configurations on public weights: tiny random T5 and CLAP checkpoints in the public file layout."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("transformers", reason="needs the public extra")

from transformers import (
    ClapAudioConfig,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
    RobertaTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import describe, write_bundle
from edge_tta.bundle.manifest import StageFile, TokenizerFile
from edge_tta.bundle.onnx_inspect import inspect_onnx
from edge_tta.errors import ConfigError, DataError, RequestError
from edge_tta.evaluate.embedders import TextEmbedder, open_embedder
from edge_tta.model.public_t5 import load_t5, sentence_vector
from edge_tta.runtime.pipeline import TextToAudio
from edge_tta.runtime.request import GenerationRequest
from edge_tta.train.latents import LatentSet
from edge_tta.train.public_text import PublicText, read_shard

TEXTS = ("rain on a tin roof", "a dog barks twice in the yard", "wind and distant thunder", "an engine idles")
WIDTH = 8
"""Width of the toy bundle's text features, so that the exported encoder fits into it."""


def write_t5(folder: Path, **changes: int) -> Path:
    """A tiny FLAN-T5: gated feed-forward, untied tables, ``spiece.model`` with pad 0, end 1, unknown 2."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=model,
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    settings = {"d_model": WIDTH, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_heads": 4} | changes
    config = T5Config(
        vocab_size=320,
        num_decoder_layers=1,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        **settings,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = T5ForConditionalGeneration(config)
        with torch.no_grad():
            network.shared.weight.normal_()
    network.save_pretrained(folder)
    (folder / "spiece.model").write_bytes(model.getvalue())
    return folder


def write_clap(folder: Path) -> Path:
    """A tiny CLAP with its feature extractor and a byte-level tokenizer."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    words.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    )
    words.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    RobertaTokenizerFast(tokenizer_object=words).save_pretrained(folder)
    text = ClapTextConfig(
        vocab_size=320,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        projection_dim=12,
    )
    audio = ClapAudioConfig(
        patch_embeds_hidden_size=4,
        hidden_size=32,
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 1, 1],
        projection_dim=12,
        num_classes=5,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict(), projection_dim=12)
        ClapModel(config).save_pretrained(folder)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder


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
    assert other.digest != first.digest and not other._known


def test_a_set_of_windows_takes_the_features(t5: Path, clap: Path) -> None:
    encoder = PublicText(t5, clap=clap)
    records = [{"captions": list(TEXTS[:2])}, {"captions": [TEXTS[1], TEXTS[2]]}]
    windows = SimpleNamespace(records=records, features={}, pooled={})
    encoder.encode_captions(windows, extra=[TEXTS[3]])  # type: ignore[arg-type]
    assert set(windows.features) == set(windows.pooled) == set(TEXTS)
    seconds = torch.ones(2)
    condition = LatentSet.condition(windows, (TEXTS[0], TEXTS[1]), seconds)  # type: ignore[arg-type]
    tokens, mask, pooled = encoder.batch(TEXTS[:2])
    # Windows pad their texts to few lengths; beyond the longest text there is nothing.
    longest = tokens.shape[1]
    assert torch.equal(condition.tokens[:, :longest], tokens)
    assert torch.equal(condition.text_mask[:, :longest], mask)
    assert not condition.text_mask[:, longest:].any() and not condition.tokens[:, longest:].any()
    assert torch.equal(condition.pooled, pooled)
    assert mask.sum(1).tolist() == [len(windows.features[text]) for text in TEXTS[:2]]


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

    return t5_encoder_graphs(t5)


def signal_to_noise(expected: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.square(expected).sum() / max(np.square(expected - found).sum(), 1e-30)))


def run_graph(graph: bytes, ids: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert [port.name for port in session.get_inputs()] == ["ids"]
    assert [port.name for port in session.get_outputs()] == ["tokens", "pooled"]
    return session.run(None, {"ids": ids})


def test_the_exported_encoder_is_torch_s(t5: Path, graphs: dict[str, bytes]) -> None:
    encoder, text = load_t5(t5), PublicText(t5)
    random = np.random.default_rng(0)
    for length in (1, 2, 16, 77):
        ids = np.append(random.integers(3, 300, length - 1), 1)[None].astype(np.int64)
        with torch.inference_mode():
            tokens = encoder(input_ids=torch.from_numpy(ids)).last_hidden_state
            expected = tokens.numpy(), sentence_vector(tokens).numpy()
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
    assert t5_encoder_graphs(t5) == graphs
    with pytest.raises(ConfigError, match=r"\*/nothing/\*"):
        t5_encoder_graphs(t5, keep_float=["*/nothing/*"])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_runtime_uses_it_as_text_encoder(
    precision: str, t5: Path, graphs: dict[str, bytes], toy_bundle: Path, tmp_path: Path
) -> None:
    from export.t5_encoder import t5_encoder_ports

    opened = Bundle.open(toy_bundle)
    files = {entry.file: opened.read(entry) for entry in opened.manifest.files()}
    files["tokenizer.model"] = (t5 / "spiece.model").read_bytes()
    files["t5/text_encoder.onnx"] = graphs[precision]
    del files["onnx/text_encoder.onnx"]
    inputs, outputs = t5_encoder_ports(WIDTH)
    stage = StageFile(
        **describe("t5/text_encoder.onnx", graphs[precision]).model_dump(), inputs=inputs, outputs=outputs
    )
    variant = opened.manifest.variants[f"ort-{precision}"]
    variant = variant.model_copy(update={"stages": {**variant.stages, "text_encoder": stage}})
    tokenizer = TokenizerFile(
        **describe("tokenizer.model", files["tokenizer.model"]).model_dump(),
        max_tokens=opened.manifest.tokenizer.max_tokens,
    )
    manifest = opened.manifest.model_copy(
        update={"variants": {f"ort-{precision}": variant}, "tokenizer": tokenizer}
    )
    write_bundle(tmp_path / "bundle", manifest, files)
    with TextToAudio.open(tmp_path / "bundle", backend="ort", precision=precision) as model:
        sounds = [
            model.generate(GenerationRequest(text, seconds=0.5, seed=1)).audio.samples for text in TEXTS[:2]
        ]
    assert np.isfinite(sounds[0]).all() and np.abs(sounds[0]).max() > 0
    assert not np.array_equal(sounds[0], sounds[1])
