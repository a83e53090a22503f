"""Embedders from local state dicts: the published shapes, and one clear line for whatever is not there."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file

from edge_tta.errors import ConfigError, DataError, MissingExtraError
from edge_tta.evaluate import run
from edge_tta.evaluate.embedders import (
    Labeller,
    TaggerEmbedder,
    TextEmbedder,
    listen,
    open_embedder,
    open_embedders,
    softmax,
)
from edge_tta.evaluate.local_weights import read_state
from edge_tta.evaluate.panns import CHANNELS, Cnn14, Cnn14Embedder
from edge_tta.evaluate.report import generator_markdown, report_json
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import Tagger, TaggerConfig, build_network
from edge_tta.evaluate.vggish import VGGish, VGGishEmbedder, examples, mel_filters
from edge_tta.model.public_t5 import load_t5

SMALL = (2, 3, 4, 5, 6, 7)
LABELS = ("hiss", "low hum", "high hum")
RATE = 44100


def noise(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small random networks in the form of the published files."""
    root = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        panns = Cnn14(64, 11, SMALL).eval().state_dict()
        vggish = VGGish(SMALL, 16, 8).state_dict()
        panns["logmel_extractor.melW"] = torch.rand(513, 64)
        panns["spectrogram_extractor.stft.conv_real.weight"] = torch.rand(4, 1, 4)
    # The published checkpoint also carries its sampler: arrays, a counter, and what training left.
    torch.save(
        {"iteration": 3, "model": panns, "sampler": {"indexes": np.arange(5), "pointer": 2}},
        root / "panns.pth",
    )
    torch.save(vggish, root / "vggish.pth")
    save_file(vggish, root / "vggish.safetensors")
    return root


def test_the_networks_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        panns, vggish = Cnn14(), VGGish()
    assert sum(p.numel() for p in panns.parameters()) == 80_753_615
    assert sum(p.numel() for p in vggish.parameters()) == 72_141_184
    assert CHANNELS[-1] == panns.fc1.in_features == 2048


def test_cnn14_reads_its_window_and_filters_from_the_file(folder: Path) -> None:
    embedder = Cnn14Embedder(folder / "panns.pth")
    assert (embedder.sample_rate, embedder.window, embedder.hop) == (32000, 1024, 320)
    clip = noise(1.5, 32000)
    padded = np.pad(clip.astype(np.float64), 512, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::320]
    hann = np.sin(np.pi * np.arange(1024) / 1024) ** 2
    power = np.abs(np.fft.rfft(frames * hann)) ** 2 @ embedder.filters.numpy()
    assert np.allclose(embedder.log_mel(clip).numpy(), 10 * np.log10(np.maximum(power, 1e-10)), atol=1e-3)


def test_cnn14_pools_as_published(folder: Path) -> None:
    """Mean over frequency, then maximum plus mean over time, in front of the hidden layer."""
    network = Cnn14Embedder(folder / "panns.pth").network
    seen = {}
    network.get_submodule("conv_block6").register_forward_hook(lambda *hook: seen.update(image=hook[-1]))
    decibels = torch.from_numpy(noise(1.0, 70 * 64).reshape(1, 70, 64))
    with torch.inference_mode():
        embedding, logits = network(decibels)
        rows = seen["image"].mean(3)
        assert seen["image"].shape == (1, 7, 70 // 32, 2)
        expected = torch.relu(network.fc1(rows.max(2).values + rows.mean(2)))
        assert torch.allclose(embedding, expected)
        assert torch.allclose(logits, network.fc_audioset(expected))


def test_cnn14_labels_are_distributions_and_need_no_neighbours(folder: Path) -> None:
    embedder = open_embedder("panns", folder / "panns.pth")
    assert isinstance(embedder, Labeller) and not isinstance(embedder, TextEmbedder)
    clips = [noise(0.2, 32000, 1), noise(1.7, 32000, 2)]
    vectors, distributions = embedder.both(clips)
    assert vectors.shape == (2, 7) and distributions.shape == (2, 11)
    assert np.allclose(distributions.sum(axis=1), 1)
    assert np.array_equal(embedder.embed(clips[1:])[0], vectors[1])
    assert np.array_equal(embedder.probabilities(clips[:1])[0], distributions[0])


def test_vggish_examples_are_log_mel_of_0_96_seconds() -> None:
    for samples, count in ((100, 1), (15600, 1), (16000, 1), (31000, 2)):
        assert examples(np.zeros(samples, dtype=np.float32)).shape == (count, 96, 64)
    assert np.allclose(examples(np.zeros(16000)), np.log(0.01))
    filters = mel_filters()
    assert filters.shape == (257, 64) and filters[0].max() == 0 and filters.max() <= 1
    time = np.arange(16000) / 16000
    for hertz in (300.0, 1000.0, 5000.0):
        band = int(examples(np.sin(2 * np.pi * hertz * time))[0].mean(axis=0).argmax())
        edges = 700 * (np.exp(np.linspace(np.log1p(125 / 700), np.log1p(7500 / 700), 66)) - 1)
        assert edges[band] < hertz < edges[band + 2]


def test_vggish_is_the_mean_over_examples_before_the_last_rectifier(folder: Path) -> None:
    embedder = VGGishEmbedder(folder / "vggish.pth")
    clip = noise(2.2, 16000)
    one = [embedder.embed([clip[k : k + 15600]])[0] for k in (0, 96 * 160)]
    assert np.allclose(embedder.embed([clip])[0], np.mean(one, axis=0), atol=1e-6)
    assert embedder.embed([clip]).min() < 0
    same = VGGishEmbedder(folder / "vggish.safetensors")
    assert np.array_equal(same.embed([clip]), embedder.embed([clip]))
    assert same.digest != embedder.digest


def test_weights_that_are_not_there_or_not_theirs_are_one_line(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"fc1.weight": torch.zeros(2)}}, tmp_path / "other.pth")
    broken = torch.load(folder / "vggish.pth", weights_only=True)
    broken["embeddings.0.bias"][0] = float("nan")
    torch.save(broken, tmp_path / "nan.pth")
    short = read_state(folder / "panns.pth")[0]
    short.pop("fc1.bias")
    torch.save(short, tmp_path / "short.pth")
    cases: list[tuple[str, Path, str]] = [
        ("panns", tmp_path / "absent.pth", "cannot be read"),
        ("vggish", tmp_path / "text.pth", "not a PyTorch weights file"),
        ("vggish", tmp_path / "list.pth", "no state dict"),
        ("panns", tmp_path / "other.pth", "not weights of CNN14"),
        ("panns", tmp_path / "short.pth", "fc1.bias"),
        ("panns", folder / "vggish.pth", "not weights of CNN14"),
        ("vggish", folder / "panns.pth", "not weights of VGGish"),
        ("vggish", tmp_path / "nan.pth", "non-finite"),
        ("clap", tmp_path / "absent", "not a CLAP folder"),
    ]
    for kind, path, words in cases:
        with pytest.raises(DataError, match=words) as caught:
            open_embedder(kind, path)
        assert "\n" not in str(caught.value) and path.name in str(caught.value)


def test_a_weights_file_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="not a PyTorch weights file"):
        open_embedder("panns", tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_clap_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"edge-tta\[public\]"):
        open_embedder("clap", tmp_path)
    with pytest.raises(MissingExtraError, match=r"edge-tta\[public\]"):
        load_t5(tmp_path)


def test_descriptions_of_embedders_are_checked(folder: Path) -> None:
    with pytest.raises(ConfigError, match="KIND=PATH"):
        open_embedders(["panns"])
    with pytest.raises(ConfigError, match="known are clap, panns, vggish"):
        open_embedders(["openl3=x"])
    with pytest.raises(ConfigError, match="twice"):
        open_embedders([f"panns={folder / 'panns.pth'}"] * 2)
    found = open_embedders([f"panns={folder / 'panns.pth'}", f"vggish={folder / 'vggish.pth'}"])
    assert [embedder.name for embedder in found] == ["panns-cnn14", "vggish"]


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    config = TaggerConfig(widths=(4, 6), embedding=8, dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tagger(build_network(len(LABELS), config), LABELS, config, "d" * 64)


def test_the_tagger_is_an_embedder(tagger: Tagger) -> None:
    embedder = TaggerEmbedder(tagger)
    assert isinstance(embedder, Labeller) and not isinstance(embedder, TextEmbedder)
    clips = [noise(1.0, RATE, seed) for seed in (0, 1)]
    tags = tagger.tag(clips, RATE)
    heard = embedder.heard(tags)
    assert np.array_equal(heard.embeddings, embedder.embed(clips))
    assert np.array_equal(heard.probabilities, embedder.probabilities(clips))
    assert np.allclose(softmax(tags.logits), torch.from_numpy(tags.logits).softmax(1).numpy(), atol=1e-6)
    assert set(embedder.label_vectors()) == set(LABELS)
    vector = embedder.label_vectors()["low hum"]
    bias = tagger.network.get_parameter("classifier.bias").detach().numpy()[1]
    assert tags.embeddings[0] @ vector + bias == pytest.approx(tags.logits[0, 1], abs=1e-4)


class PitchEmbedder:
    """An embedder with a text side that hears only how much is high: what a plug-in has to be, and no more."""

    name, sample_rate, digest = "pitch", 8000, "e" * 64

    def embed(self, clips: Sequence[np.ndarray]) -> np.ndarray:
        spectra = [np.abs(np.fft.rfft(clip)) ** 2 for clip in clips]
        return np.array([[s[: len(s) // 4].sum(), s[len(s) // 4 :].sum()] for s in spectra], dtype=np.float32)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[1, 0] if "low" in text else [0.2, 1] for text in texts], dtype=np.float32)


def sound(label: str, seed: int) -> np.ndarray:
    if label == "hiss":
        return noise(0.6, RATE, seed)
    random = np.random.default_rng(seed)
    hertz = random.uniform(100, 300) if label == "low hum" else random.uniform(2000, 3000)
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(0.6 * RATE)) / RATE)).astype(np.float32)


def test_every_embedder_has_its_figures_in_the_report(folder: Path, tagger: Tagger, tmp_path: Path) -> None:
    with open(tmp_path / "metadata.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "split"])
        for number in range(18):
            label = LABELS[number % 3]
            soundfile.write(tmp_path / f"{number}.wav", sound(label, number), RATE)
            writer.writerow([f"{number}.wav", label, "train" if number < 12 else "val"])
    prompts = [Prompt(f"some {label}", (label,), "plain") for label in LABELS]
    settings = run.Settings(2, 0.6, 1, None, "fp32", 100)
    provenance = run.Provenance(tagger.digest, "r", "p", "made up", None)
    judges = [PitchEmbedder(), open_embedder("panns", folder / "panns.pth")]

    def evaluate(generate: run.Generate) -> run.GeneratorReport:
        return run.evaluate_generator(
            generate, prompts, tmp_path, tagger, settings, provenance, embedders=judges
        )[0]

    report = evaluate(lambda prompt, seed: sound(prompt.labels[0], seed))
    own, pitch, panns = report.embedders
    assert [figures.text_side for figures in report.embedders] == ["label vectors", "prompts", "none"]
    assert own.get("Fréchet distance").generated.value == report.frechet_generated.value
    names = [item.name for item in own.comparisons]
    assert names == [
        "Fréchet distance",
        "KL of labels, reference to clip",
        "KL of labels, clip to reference",
        "KL of mean label distributions",
        "inception-type score",
        "text score",
        "conditional diversity (CCDS)",
    ]
    assert [item.name for item in panns.comparisons] == [name for name in names if name != "text score"]
    assert [item.name for item in pitch.comparisons] == [names[0], *names[-2:]]
    for figures in report.embedders:
        for item in figures.comparisons:
            for figure in (item.generated, item.real):
                assert figure.embedder_digest == figures.digest and figure.n > 0
                assert figure.low <= figure.value <= figure.high
    assert pitch.get("text score").generated.value > 0.8
    assert pitch.get("text score").real.n == 6

    low = evaluate(lambda prompt, seed: sound("low hum", 7))
    assert low.embedders[1].get("text score").generated.value < pitch.get("text score").generated.value
    assert low.embedders[1].get("conditional diversity (CCDS)").generated.value == pytest.approx(0, abs=1e-6)
    assert low.embedders[0].get("KL of mean label distributions").generated.value >= 0
    alone = run.evaluate_generator(
        lambda prompt, seed: sound(prompt.labels[0], seed), prompts, tmp_path, tagger, settings, provenance
    )[0]
    assert alone.frechet_generated == report.frechet_generated
    assert alone.timbre_diversity == report.timbre_diversity

    text = generator_markdown(report)
    assert (
        "## Judged by pitch" in text
        and "## Judged by panns-cnn14" in text
        and f"`{panns.digest[:12]}`" in text
    )
    assert '"embedder_digest"' in report_json(report)


def test_sounds_are_resampled_for_the_embedder() -> None:
    heard = listen(PitchEmbedder(), sound("high hum", 3), RATE)
    assert heard.probabilities is None
    assert heard.embeddings[0, 1] > 10 * heard.embeddings[0, 0]
