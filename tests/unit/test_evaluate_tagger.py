import csv
import dataclasses
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from threadpoolctl import threadpool_info
from typer.testing import CliRunner

from edge_tta.audio import Audio
from edge_tta.bundle import Bundle
from edge_tta.catalog import read_metadata_csv
from edge_tta.cli.main import app
from edge_tta.errors import DataError, OutputError
from edge_tta.evaluate import run
from edge_tta.evaluate.adherence import mix, ranks
from edge_tta.evaluate.clips import load_clip, read_clips
from edge_tta.evaluate.codec import codec_figures
from edge_tta.evaluate.spectral import level
from edge_tta.evaluate.statistics import share_estimate
from edge_tta.evaluate.suite import Prompt
from edge_tta.evaluate.tagger import (
    Tagger,
    TaggerConfig,
    build_network,
    load_tagger,
    save_tagger,
)
from edge_tta.model.checkpoint import save_part
from edge_tta.runtime.pipeline import TextToAudio
from edge_tta.train.data.clip_cache import load_or_build_clip_cache
from edge_tta.train.loop import Trainer
from edge_tta.train.loop_config import LoopConfig
from edge_tta.train.spectrogram_augment import AugmentConfig, augment_batch, crop, label_weights
from edge_tta.train.stages.tagger import TaggerStage, TaggerStageConfig, is_development
from export.tiny import tiny_checkpoint

RATE = 44100
SMALL = TaggerConfig(widths=(8, 12, 16), embedding=24, dropout=0.0)
STAGE = TaggerStageConfig(
    network=SMALL,
    augment=AugmentConfig(
        longest_frames=90, mix_probability=0.2, low_pass_probability=0.0, transpose_probability=0.0
    ),
    batch=12,
    development_share=0.1,
)
LOOP = LoopConfig(steps=100, warmup_steps=5, learning_rate=1e-2, average_decay=0.8, log_every=50)
LABELS = ("clicks", "deep hum", "hiss")


def make_sound(label: str, generator: np.random.Generator, seconds: float = 1.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    if label == "hiss":
        return (0.2 * generator.standard_normal(len(time))).astype(np.float32)
    if label == "clicks":
        clicks = np.zeros(len(time), dtype=np.float32)
        clicks[int(generator.integers(0, 4000)) :: int(generator.integers(6000, 12000))] = 1.0
        return clicks
    hertz = generator.uniform(80, 160) if label == "deep hum" else generator.uniform(3000, 5000)
    tone = np.sin(2 * np.pi * hertz * time + generator.uniform(0, 6))
    return (0.5 * tone * np.exp(-time * generator.uniform(0, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    with open(root / "metadata.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "split", "source", "recording_key"])
        for number in range(60):
            label = LABELS[number % 3]
            split = "train" if number < 45 else "val"
            soundfile.write(root / f"{number}.wav", make_sound(label, generator), RATE)
            writer.writerow([f"{number}.wav", label, split, "made", f"recording {number}"])
        writer.writerow(["0.wav", "rare", "train", "made", "recording 0"])
    return root


def make_stage(folder, config: TaggerStageConfig) -> TaggerStage:
    clips = read_metadata_csv(folder)
    return TaggerStage(config, clips, load_or_build_clip_cache(clips, folder / "cache", RATE))


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("tagger")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    trainer = Trainer(make_stage(folder, STAGE), LOOP, output / "run")
    trainer.train()
    trainer.export(output)
    torch.set_num_threads(threads)
    log = [json.loads(line) for line in (output / "run" / "log.jsonl").read_text().splitlines()]
    return output, log[-1]["validation"]


@pytest.fixture(scope="module")
def tagger(trained) -> Tagger:
    return load_tagger(trained[0])


def test_training_learns_and_leaves_a_tagger(trained, tagger):
    output, figures = trained
    assert tagger.labels == LABELS
    assert figures["validation_top1"] >= 0.8
    assert 0 <= figures["development_top1"] <= figures["development_top5"] == 1.0
    assert not list(output.glob("*.partial"))


def test_saved_tagger_judges_as_before_and_its_digest_follows_the_bytes(trained, tagger, tmp_path):
    network = build_network(3, SMALL)
    network.load_state_dict(tagger.network.state_dict())
    save_tagger(network, tagger.labels, SMALL, tmp_path)
    again = load_tagger(tmp_path)
    clip = make_sound("hiss", np.random.default_rng(5))
    assert np.array_equal(again.tag([clip], RATE).logits, tagger.tag([clip], RATE).logits)
    assert again.digest == tagger.digest
    save_tagger(network, tagger.labels[::-1], SMALL, tmp_path)
    assert load_tagger(tmp_path).digest != tagger.digest


def test_verdict_does_not_depend_on_gain_or_neighbours(tagger):
    generator = np.random.default_rng(2)
    clips = [make_sound(label, generator) for label in LABELS]
    together = tagger.tag(clips, RATE)
    for index, clip in enumerate(clips):
        assert np.array_equal(tagger.tag([clip], RATE).logits[0], together.logits[index])
        assert np.array_equal(tagger.tag([clip * 0.25], RATE).logits[0], together.logits[index])


@pytest.mark.parametrize("seconds", [0.05, 0.5, 12.0])
def test_any_length_is_judged(tagger, seconds):
    tags = tagger.tag([make_sound("hiss", np.random.default_rng(1), seconds)], RATE)
    assert tags.embeddings.shape == (1, 24)
    assert np.isfinite(tags.logits).all()


def test_wrong_rate_empty_list_and_unknown_label_are_errors(tagger):
    with pytest.raises(DataError, match="16000 Hz"):
        tagger.tag([np.zeros(100)], 16000)
    with pytest.raises(DataError, match="no clips"):
        tagger.tag([], RATE)
    with pytest.raises(DataError, match="'yodel'"):
        ranks(tagger.tag([np.zeros(100)], RATE), ["yodel"], tagger)


def test_damaged_tagger_folders_are_refused(trained, tmp_path):
    with pytest.raises(DataError, match=r"labels\.json"):
        load_tagger(tmp_path)
    for name in ("labels.json", "tagger.safetensors"):
        (tmp_path / name).write_bytes((trained[0] / name).read_bytes())
    (tmp_path / "tagger.safetensors").write_bytes((trained[0] / "tagger.safetensors").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"tagger\.safetensors"):
        load_tagger(tmp_path)
    (tmp_path / "tagger.safetensors").write_bytes((trained[0] / "tagger.safetensors").read_bytes())
    description = json.loads((tmp_path / "labels.json").read_text())
    (tmp_path / "labels.json").write_text(json.dumps({**description, "labels": ["a", "b"]}))
    with pytest.raises(DataError, match=r"tagger\.safetensors"):
        load_tagger(tmp_path)
    (tmp_path / "labels.json").write_text(json.dumps({**description, "schema": 99}))
    with pytest.raises(DataError, match="schema 99"):
        load_tagger(tmp_path)


def test_resumed_training_is_bit_exact(folder, tmp_path):
    config = dataclasses.replace(STAGE, network=dataclasses.replace(SMALL, dropout=0.3), batch=4)
    loop = dataclasses.replace(LOOP, steps=6)
    whole, half, resumed = (Trainer(make_stage(folder, config), loop, tmp_path / "run") for _ in range(3))
    for _ in range(6):
        whole.train_step()
    for _ in range(3):
        half.train_step()
    half.save()
    assert resumed.resume()
    for _ in range(3):
        resumed.train_step()
    expected, actual = whole.state(), resumed.state()
    for part in ("weights", "average"):
        first, second = getattr(expected, part), getattr(actual, part)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_start_of_other_labels_is_refused(folder, tagger, tmp_path):
    save_tagger(tagger.network, ("a", "b", "c"), SMALL, tmp_path)
    with pytest.raises(DataError, match="knows 3 labels"):
        make_stage(folder, dataclasses.replace(STAGE, start=str(tmp_path)))
    save_tagger(tagger.network, tagger.labels, SMALL, tmp_path)
    stage = make_stage(folder, dataclasses.replace(STAGE, start=str(tmp_path)))
    assert stage.validate()["validation_top1"] >= 0.8


def test_augmentation_keeps_shapes_shares_and_input():
    generator = np.random.default_rng(0)
    windows = generator.uniform(-90, 0, (8, 85, 64)).astype(np.float32)
    targets = np.eye(4, dtype=np.float32)[generator.integers(0, 4, 8)]
    original = windows.copy()
    result, mixed = augment_batch(windows, targets, AugmentConfig(), generator)
    assert result.shape == windows.shape
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert np.allclose(mixed.sum(axis=1), 1.0)
    assert np.array_equal(windows, original)


def test_crop_always_fits_and_finds_the_sound():
    generator = np.random.default_rng(0)
    clip = np.full((400, 64), -100.0, dtype=np.float32)
    clip[395] = 0.0
    for frames in (80, 400, 600):
        for _ in range(30):
            window = crop(
                clip, frames, AugmentConfig(speed_probability=0.0, transpose_probability=0.0), generator
            )
            assert window.shape == (frames, 64)
            assert window.max() == 0.0


def test_label_weights_follow_the_square_root():
    weights = label_weights(np.array([0] * 16 + [1] * 4))
    assert weights[:16].sum() / weights[16:].sum() == pytest.approx(2.0)


def test_held_out_recordings_are_stable_and_about_the_share():
    held = [is_development(f"recording {i}", 0.08) for i in range(5000)]
    assert 0.06 < np.mean(held) < 0.10
    assert held[:5] == [is_development(f"recording {i}", 0.08) for i in range(5)]


def test_mixture_holds_both_at_equal_level():
    generator = np.random.default_rng(0)
    loud, quiet = make_sound("deep hum", generator, 2.0), 0.01 * make_sound("high whistle", generator, 2.0)
    mixture = mix(loud, quiet, generator)
    spectrum = np.abs(np.fft.rfft(mixture)) ** 2
    low, high = spectrum[:1000].sum(), spectrum[1000:].sum()
    assert low / high == pytest.approx(1.0, rel=0.02)
    assert np.abs(mixture).max() == pytest.approx(0.5)
    assert len(mix(loud, quiet[:100], generator)) == len(loud)
    assert level(mix(np.zeros(10), np.zeros(10), generator)) == 0.0


def test_clips_are_read_resampled_and_checked(folder, tmp_path):
    clips = read_clips(folder, ["val"])
    assert len(clips) == 15
    assert {clip.split for clip in clips} == {"val"}
    soundfile.write(tmp_path / "a.wav", np.zeros((48000, 2), dtype=np.float32), 48000)
    assert abs(len(load_clip(tmp_path / "a.wav", RATE)) - RATE) <= 1
    with pytest.raises(DataError, match=r"b\.wav"):
        load_clip(tmp_path / "b.wav", RATE)


def test_perfect_codec_costs_nothing_and_noise_costs_everything(folder, tagger):
    clips = read_clips(folder, ["val"])
    judged = codec_figures(lambda samples: samples, clips, tagger, np.random.default_rng(0))
    perfect, entries = judged.figures, judged.entries
    assert perfect.frechet.value < 1e-3
    assert (perfect.top1_change.value, perfect.log_mel.value, perfect.same_verdict.value) == (0.0, 0.0, 1.0)
    assert sorted(entry.label for entry in entries) == sorted(LABELS)
    noise = np.random.default_rng(0)
    ruined = codec_figures(
        lambda samples: (0.1 * noise.standard_normal(len(samples))).astype(np.float32), clips, tagger, noise
    ).figures
    assert ruined.top1_change.value < -0.3
    assert ruined.log_mel.value > 0.3
    with pytest.raises(DataError, match="44099 samples"):
        codec_figures(lambda samples: samples[:-1], clips, tagger, noise)


def test_a_codec_that_fails_on_one_label_is_judged_by_labels(folder, tagger):
    """A third of 15 clips fail, all of one label: clips of these would fail alike, other labels may not."""
    clips = read_clips(folder, ["val"])
    labels, noise = (clip.label for clip in clips), np.random.default_rng(0)

    def fails_on_hiss(samples):
        gain = 0.5 if next(labels) == "hiss" else 0.0
        return (samples + gain * noise.standard_normal(len(samples))).astype(np.float32)

    found = codec_figures(fails_on_hiss, clips, tagger, np.random.default_rng(0)).figures
    # None of three labels drawn is the one in 8 of 27 draws; of 15 clips drawn singly, hardly ever.
    assert found.log_mel.low == found.multi_resolution_stft.low == 0.0 < found.log_mel.value
    assert found.frechet.low == 0.0 < found.frechet.value
    names = [clip.label for clip in clips]
    hits = ranks(tagger.tag([load_clip(clip.path, RATE) for clip in clips], RATE), names, tagger) < 1
    assert found.original_top1 == share_estimate(hits, groups=names)


def test_evaluate_codec_writes_its_report(folder, trained, tmp_path):
    pools = set()

    def perfect(samples):
        pools.update(pool["num_threads"] for pool in threadpool_info())
        return samples[None]

    report = run.evaluate_codec(perfect, folder, trained[0], tmp_path / "out", threads=1)
    assert pools == {1}
    written = json.loads((tmp_path / "out" / "codec.json").read_text())
    assert written["figures"]["original_top1"]["n"] == report.figures.original_top1.n == 15
    assert written["provenance"]["embedder"] == load_tagger(trained[0]).digest
    assert "label ranked first" in (tmp_path / "out" / "codec.md").read_text()
    assert (tmp_path / "out" / "codec_sheet.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        run.evaluate_codec(lambda samples: samples, folder, trained[0], tmp_path / "file")


def test_the_command_line_judges_a_codec(folder, trained, tmp_path):
    tiny = tiny_checkpoint()
    save_part(tmp_path / "tiny", tiny.config, "codec", tiny.codec)
    arguments = ["evaluate-codec", str(tmp_path / "tiny"), "--reference", str(folder)]
    arguments += ["--tagger", str(trained[0]), "-o", str(tmp_path / "out")]
    refused = CliRunner().invoke(app, [*arguments, "--threads", "0"])
    assert refused.exit_code == 2 and "threads 0 is out of range" in refused.output
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "codec.json").read_text())
    assert json.loads(result.stdout)["figures"]["original_top1"]["n"] == 15
    table = CliRunner().invoke(app, arguments)
    assert table.exit_code == 0 and "log-mel" in table.stdout.lower()


def test_evaluate_generator_tells_a_good_one_from_a_collapsed_one(folder, tagger):
    prompts = [
        *(Prompt(f"the sound of {label}", (label,), "plain") for label in LABELS),
        *(Prompt(f"listen: {label}!", (label,), "reworded") for label in LABELS),
        Prompt("hum and hiss", ("deep hum", "hiss"), "two"),
        Prompt("hum + hiss", ("deep hum", "hiss"), "mixed"),
        Prompt("a yodel", ("yodel",), "plain"),
    ]
    settings = run.Settings(3, 1.0, 1, None, "fp32", 10)
    provenance = run.Provenance("e", "r", "p", "made up", None)
    seeds = []

    def good(prompt, seed):
        seeds.append(seed)
        generator = np.random.default_rng(seed)
        sounds = [make_sound(label, generator) for label in prompt.labels]
        # Of a description of two sounds the first wins.
        return mix(*sounds, generator) if "+" in prompt.text else sounds[0]

    def collapsed(prompt, seed):
        return make_sound("hiss", np.random.default_rng(0))

    report, entries = run.evaluate_generator(good, prompts, folder, tagger, settings, provenance)
    assert [suite.suite for suite in report.suites] == ["plain", "reworded"]
    assert len(seeds) == len(set(seeds)) == 24
    assert report.skipped_prompts == ("a yodel",)
    assert report.suites[0].adherence.top1.value >= 0.7
    assert report.suites[0].adherence.top1.n == 9
    one, mixed = report.two_sounds
    assert (one.suite, mixed.suite) == ("two", "mixed")
    assert one.both.n == mixed.both.n == 3 and one.both.value <= mixed.both.value
    # The same sounds are asked for: what mixtures of real clips reach is drawn once.
    assert one.real_mixtures is not None and one.real_mixtures is mixed.real_mixtures
    assert report.frechet_generated.n == report.frechet_real.n
    assert report.timbre_diversity.ratio.value > 0.5
    assert sorted(entry.label for entry in entries) == sorted(LABELS)

    worse, _ = run.evaluate_generator(collapsed, prompts, folder, tagger, settings, provenance)
    assert worse.suites[0].adherence.top1.value <= 0.4
    assert worse.timbre_diversity.ratio.value == 0.0
    assert worse.frechet_generated.value > 2 * report.frechet_generated.value

    again, _ = run.evaluate_generator(good, prompts, folder, tagger, settings, provenance)
    assert again == report
    text = run.generator_markdown(report)
    assert "plain: label among five" in text
    assert "a yodel" in text


def test_real_clips_count_by_label_however_many_there_are(tagger, tmp_path):
    """Six of hiss that are right and one of clicks that is not: two labels of three, not seven clips of eight."""
    generator = np.random.default_rng(3)
    clips = [("train", label, label) for label in (*LABELS, "drone") for _ in range(3)]
    clips += [("val", "hiss", "hiss")] * 6 + [("val", "deep hum", "deep hum"), ("val", "clicks", "hiss")]
    with open(tmp_path / "metadata.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "split"])
        for number, (split, label, sound) in enumerate(clips):
            soundfile.write(tmp_path / f"{number}.wav", make_sound(sound, generator), RATE)
            writer.writerow([f"{number}.wav", label, split])
    reals = [load_clip(clip.path, RATE) for clip in read_clips(tmp_path, ["val"])]
    names = [label for _, label, _ in clips[12:]]
    hits = ranks(tagger.tag(reals, RATE), names, tagger) < 1
    expected = np.mean([hits[:6].mean(), hits[6], hits[7]])
    assert abs(expected - hits.mean()) > 0.1

    def make(prompt, seed):
        return make_sound(prompt.labels[0], np.random.default_rng(seed))

    settings = run.Settings(4, 1.0, 1, None, "fp32", 0)
    provenance = run.Provenance("e", "r", "p", "made up", None)
    prompts = [Prompt(label, (label,), "plain") for label in LABELS]
    report, _ = run.evaluate_generator(make, prompts, tmp_path, tagger, settings, provenance)
    assert report.real.top1.value == pytest.approx(expected)
    # Of four and six, four and one, four and one: two, one and one.
    assert report.frechet_generated.n == report.frechet_real.n == 4
    assert report.labels_without_real == ()
    text = run.generator_markdown(report)
    assert "Labels count for as much" in text and "Without a real validation clip" not in text

    table = text[text.index("## Label by label") :].splitlines()[4:]
    cells = {row.split(" | ")[1]: row for row in table}
    assert list(cells) == [row.label for row in report.suites[0].adherence.worst_first()]
    beside = f"| 6 | {hits[:6].sum()} | "
    assert beside in cells["hiss"] and "| 1 | " in cells["clicks"]

    rows = [line for line in (tmp_path / "metadata.csv").read_text().splitlines() if "clicks,val" not in line]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    fewer, _ = run.evaluate_generator(make, prompts, tmp_path, tagger, settings, provenance)
    assert fewer.labels_without_real == ("clicks",)
    assert fewer.suites[0].adherence.top1.n == 12
    # What is beside real clips holds no clicks either.
    assert fewer.embedders[0].get("KL of labels, reference to clip").generated.n == 8
    text = run.generator_markdown(fewer)
    assert "not held against any: clicks." in text and "| plain | clicks | 4 |" in text
    assert "| 0 | – | – |" in text
    with pytest.raises(DataError, match="ask for more seeds"):
        run.evaluate_generator(
            make, prompts[2:], tmp_path, tagger, dataclasses.replace(settings, seeds_per_prompt=1), provenance
        )


def test_evaluate_bundle_asks_the_runtime_and_writes_its_report(folder, trained, tmp_path, monkeypatch):
    requests, pools = [], set()

    class Runtime:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def generate(self, request):
            requests.append(request)
            pools.update(pool["num_threads"] for pool in threadpool_info())
            label = next(label for label in LABELS if label in request.prompt)
            samples = make_sound(label, np.random.default_rng(request.seed), request.seconds)
            return SimpleNamespace(audio=Audio(samples[None], RATE))

    bundle = SimpleNamespace(manifest=SimpleNamespace(name="made-up"), digest="0" * 64)
    monkeypatch.setattr(Bundle, "open", lambda source: bundle)
    monkeypatch.setattr(
        TextToAudio, "open", lambda *_, **options: options["precision"] == "fp32" and Runtime()
    )
    prompts = tmp_path / "plain.csv"
    prompts.write_text("prompt,label\n" + "".join(f"some {label},{label}\n" for label in LABELS))
    report = run.evaluate_bundle(
        None,
        prompts,
        folder,
        trained[0],
        tmp_path / "out",
        seeds_per_prompt=2,
        seconds=0.5,
        precision="fp32",
        first_seed=100,
        threads=1,
        write_audio=True,
        write_page=True,
    )
    assert [request.seed for request in requests] == list(range(100, 106))
    assert pools == {1}, "torch and the matrix library keep to the threads that are asked for"
    assert {request.seconds for request in requests} == {0.5}
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert written["provenance"]["subject_digest"] == "0" * 64
    assert written["suites"][0]["adherence"]["top1"]["n"] == 6
    assert report.suites[0].suite == "plain"
    assert len(list((tmp_path / "out" / "audio").glob("*.wav"))) == 6
    assert (tmp_path / "out" / "contact_sheet.png").exists()
    page = (tmp_path / "out" / "sounds.html").read_text()
    assert page.count("<audio") == 3 and re.findall(r"Seed (\d+)", page) == ["100", "102", "104"]
    assert page.count("✓ ") == 3, "of three labels every one is among five"
    with pytest.raises(DataError, match="got 0"):
        run.evaluate_bundle(None, prompts, folder, trained[0], tmp_path / "out", seeds_per_prompt=0)


def test_accuracy_is_measured_on_the_device_of_the_network(folder):
    """The meta device has no values; a spectrogram left on the CPU would be another error."""
    stage = make_stage(folder, STAGE)
    stage.to(torch.device("meta"))
    with pytest.raises(RuntimeError, match="meta tensor"):
        stage.validate()
