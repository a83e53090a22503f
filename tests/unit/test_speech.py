"""Spoken digits: their data, captions, windows and recipes, and how many of them a classifier understands."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.random import default_rng
from typer.testing import CliRunner

from edge_tta.catalog import read_metadata_csv
from edge_tta.cli.main import app
from edge_tta.errors import ConfigError, DataError
from edge_tta.evaluate.clips import read_clips
from edge_tta.evaluate.generated import evaluate_generator
from edge_tta.evaluate.intelligibility import DIGITS, intelligibility
from edge_tta.evaluate.report import generator_markdown, report_json
from edge_tta.evaluate.results import Provenance, Settings
from edge_tta.evaluate.suite import Prompt, find_prompts, read_prompts
from edge_tta.evaluate.tagger import Tagger, TaggerConfig, Tags, build_network, load_tagger, save_tagger
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.clip_cache import load_or_build_clip_cache
from edge_tta.train.data.windows import WindowBuilder, WindowPolicy
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe

RATE = 44100
SMALL = TaggerConfig(widths=(8, 12, 16), embedding=8, dropout=0.0)


def spoken(digit: str, seconds: float = 0.4, rate: int = RATE) -> np.ndarray:
    """A tone that stands for a digit: 300 Hz for zero, 100 Hz more for every next one."""
    time = np.arange(round(seconds * rate)) / rate
    sound: np.ndarray = 0.5 * np.sin(2 * np.pi * (300 + 100 * DIGITS.index(digit)) * time)
    return sound.astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layout of the spoken digits: file, word, speaker, caption, duration, split, licence; 8 kHz."""
    root = tmp_path_factory.mktemp("speech")
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "word", "speaker", "caption", "duration", "split", "licence"])
        for digit in DIGITS:
            for take in range(4):
                name = f"{digit}-{take}.wav"
                soundfile.write(root / name, spoken(digit, 0.3 + 0.05 * take, 8000), 8000)
                split = "val" if take == 3 else "train"
                writer.writerow([name, digit, "nobody", f"A voice says {digit}.", 0.4, split, "CC-BY-SA-4.0"])
    return root


def test_words_are_labels_for_training_and_evaluation(folder: Path, tmp_path: Path) -> None:
    clips = read_metadata_csv(folder)
    assert len(clips) == 40 and {clip.label for clip in clips} == set(DIGITS)
    assert not any(clip.permissive for clip in clips)
    assert clips[0].captions == ("A voice says zero.",)
    held = read_clips(folder, ["val"])
    assert [clip.label for clip in held] == list(DIGITS)
    (tmp_path / "metadata.csv").write_text("file,split\na.wav,val\n")
    with pytest.raises(DataError, match="neither label, word nor caption"):
        read_metadata_csv(tmp_path)
    # A label wins over a word.
    (tmp_path / "metadata.csv").write_text("file,split,word,label\na.wav,val,three,rain\n")
    assert read_clips(tmp_path)[0].label == read_metadata_csv(tmp_path)[0].label == "rain"


def words_of(caption: str) -> list[str]:
    return caption.lower().strip(".").replace(",", " ").split()


def test_every_digit_has_many_wordings_and_no_other_digit_in_them() -> None:
    grammar = Captioner.from_package("digits")
    assert set(grammar.labels) == set(DIGITS)
    for digit in DIGITS:
        rng = default_rng(1)
        drawn = {grammar.caption(digit, rng) for _ in range(600)}
        assert len(drawn) >= 60, digit
        # "one" and the like must not slip in as ordinary words.
        assert all([word for word in words_of(text) if word in DIGITS] == [digit] for text in drawn)
        assert all(grammar.can_say(digit, text) for text in drawn)
    assert any(text.lower().startswith("a voice saying three") for text in
               {grammar.caption("three", rng) for rng in [default_rng(2)] for _ in range(100)})  # fmt: skip


def test_captions_of_sounds_are_drawn_as_before_there_were_digits() -> None:
    grammar = Captioner.from_package()
    expected = {
        "rain": ["rain audio on the window.", "a recording of steady rain"],
        "dog bark": ["dog bark audio in a field.", "a recording of a large dog barking"],
        "piano": ["Piano audio.", "a recording of a piano key being played"],
    }
    for label, captions in expected.items():
        assert [grammar.caption(label, default_rng(seed)) for seed in (5, 6)] == captions
    assert not set(grammar.labels) & set(DIGITS)


def test_grammars_by_name_or_file(tmp_path: Path) -> None:
    assert set(Captioner.load("digits").labels) == set(DIGITS)
    path = tmp_path / "own.toml"
    path.write_text(
        '[labels.bell]\nkind = "event"\nsettings = "none"\nevents = ["a bell"]\nnouns = ["bell"]\n'
    )
    assert "bell" in Captioner.load(str(path)).caption("bell", default_rng(0)).lower()
    with pytest.raises(ConfigError, match=r"captions, digits or a \.toml"):
        Captioner.load("songs")
    with pytest.raises(DataError, match=r"gone\.toml"):
        Captioner.load(str(tmp_path / "gone.toml"))
    for text in (
        "labels = 3",
        "[labels.bell]\nkind = 'shout'\nsettings = 'none'\nevents = ['a']\nnouns = ['b']",
        "[labels.bell]\nkind = 'event'\nsettings = 'moon'\nevents = ['a']\nnouns = ['b']",
        "[labels]\n[forms]\nnouns = ['braces are missing']",
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=r"own\.toml") as caught:
            Captioner.load(str(path))
        assert "\n" not in str(caught.value)


def test_prompts_ask_for_every_digit_in_known_and_in_new_words() -> None:
    prompts = read_prompts(find_prompts("digits"))
    grammar = Captioner.from_package("digits")
    for suite, known in (("digits", True), ("reworded digits", False)):
        mine = [prompt for prompt in prompts if prompt.suite == suite]
        assert sorted(prompt.labels[0] for prompt in mine) == sorted(2 * DIGITS)
        for prompt in mine:
            assert grammar.can_say(prompt.labels[0], prompt.text) is known, prompt.text
            assert [word for word in words_of(prompt.text) if word in DIGITS] == [prompt.labels[0]]


def test_prompt_lists_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_prompts("digits").is_file() and find_prompts("labels").name == "labels.csv"
    assert find_prompts(tmp_path / "digits") == tmp_path / "digits"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").write_text("prompt,label\n")
    assert find_prompts("digits") == Path("digits")
    assert find_prompts("songs.csv") == Path("songs.csv")


def test_a_word_is_said_once_and_from_its_beginning(folder: Path, tmp_path: Path) -> None:
    clips = read_metadata_csv(folder)
    cache = load_or_build_clip_cache(clips, tmp_path, RATE)
    policy = WindowPolicy(start_at_once_share=1.0)
    builder = WindowBuilder(clips, cache, Captioner.from_package("digits"), policy)
    for index in range(12):
        window = builder.build(2.0, "seven", default_rng(index))
        assert len(window.clip_ids) == 1 and "seven" in words_of(window.captions[0])
        sounding = np.flatnonzero(np.abs(window.samples) > 0.05)
        assert sounding[0] < 0.06 * RATE and sounding[-1] < 0.6 * RATE
        short = builder.build(0.2, "seven", default_rng(index))
        clip = next(number for number, clip in enumerate(clips) if clip.id == short.clip_ids[0])
        expected = cache.read(clip, 0, len(short.samples))[400:-400]
        scale = float(np.abs(short.samples).max() / np.abs(expected).max())
        np.testing.assert_allclose(short.samples[400:-400], expected * scale, atol=0.02)


def test_windows_of_no_length_are_refused() -> None:
    for settings in ({"min_seconds": 5.0}, {"min_seconds": 0.0}, {"short_seconds": 13.0}):
        with pytest.raises(ConfigError, match="rising order"):
            WindowPolicy(**settings)  # type: ignore[arg-type]


class ToneJudge(Tagger):
    """Hears digits in the pitch of a sound; what it hears is a matter of the spectrum and not of training."""

    def __init__(self, labels: tuple[str, ...] = DIGITS) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__(build_network(len(labels), SMALL), labels, SMALL, "judge")

    def tag(self, clips: Any, sample_rate: int) -> Tags:
        logits = []
        for clip in clips:
            spectrum = np.abs(np.fft.rfft(clip, RATE * 2))
            hertz = float(np.argmax(spectrum)) / 2
            logits.append([-abs(hertz - 300 - 100 * DIGITS.index(label)) / 50 for label in self.labels])
        table = np.array(logits, dtype=np.float32)
        return Tags(np.hstack([table, 0.1 * table**2])[:, : SMALL.embedding], table)


PROMPTS = [Prompt(f"a voice saying {digit}", (digit,), "digits") for digit in DIGITS]


def evaluated(generate: Any, folder: Path, judge: Tagger) -> Any:
    settings, provenance = Settings(3, 0.5, 1, None, "fp32", 0), Provenance("e", "r", "p", "made up", None)
    return evaluate_generator(generate, PROMPTS, folder, judge, settings, provenance)[0]


def test_clear_speech_is_understood_and_mumbling_is_not(folder: Path) -> None:
    judge = ToneJudge()
    clear = evaluated(lambda prompt, _: spoken(prompt.labels[0]), folder, judge)
    found = clear.intelligibility
    assert found.generated.value == found.real.value == found.relative == 1.0
    assert found.generated.n == 30 and found.real.n == 10 and found.chance == 0.1
    assert [row.digit for row in found.digits] == list(DIGITS)
    assert all((row.n, row.recognised, row.mistaken_for) == (3, 3, "") for row in found.digits)

    mumbled = evaluated(lambda *_: spoken("four"), folder, judge)
    found = mumbled.intelligibility
    assert found.generated.value == pytest.approx(0.1) and found.relative == pytest.approx(0.1)
    assert found.generated.low < 0.1 < found.generated.high
    assert (found.digits[0].mistaken_for, found.digits[0].mistakes) == ("four", 3)
    text = generator_markdown(mumbled)
    assert "## Intelligibility" in text and "| zero | 3 | 0 | four (3) |" in text
    assert "real validation recordings recognised | 100.0 %" in text
    assert json.loads(report_json(mumbled))["intelligibility"]["generated"]["n"] == 30


def test_seeds_of_one_prompt_are_resampled_together() -> None:
    """Half of the prompts understood in all of their seeds: as many observations as prompts, not as clips."""
    judge = ToneJudge()
    prompts = [prompt for prompt in PROMPTS for _ in range(50)]
    sounds = [
        spoken(prompt.labels[0] if DIGITS.index(prompt.labels[0]) < 5 else "zero") for prompt in prompts
    ]
    tags = judge.tag(sounds[::50], RATE)
    tags = Tags(np.repeat(tags.embeddings, 50, axis=0), np.repeat(tags.logits, 50, axis=0))
    real = judge.tag([spoken(digit) for digit in DIGITS], RATE)
    found = intelligibility(tags, prompts, real, DIGITS, judge)
    assert found is not None and found.generated.value == 0.5 and found.generated.n == 500
    assert found.generated.high - found.generated.low > 0.4


def test_a_tagger_of_sounds_finds_no_intelligibility() -> None:
    labels = (*DIGITS[:9], "rain")
    judge = Tagger(build_network(10, SMALL), labels, SMALL, "judge")
    tags = Tags(np.zeros((1, 2), dtype=np.float32), np.zeros((1, 10), dtype=np.float32))
    assert intelligibility(tags, PROMPTS[:1], tags, ["zero"], judge) is None


def test_recipes_of_speech_keep_to_themselves() -> None:
    tagger, flow = load_recipe("speech-tagger"), load_recipe("speech-flow")
    sounds = {load_recipe(name).checkpoint for name in ("tagger", "flow", "codec")}
    assert not {tagger.checkpoint, flow.checkpoint} & sounds
    assert flow.data.cache != load_recipe("flow").data.cache
    for recipe in (tagger, flow):
        assert recipe.data.captions == "digits" and not recipe.data.permissive_only
    assert flow.data.windows.mixture_share == 0
    grammar = Captioner.from_package("digits")
    assert flow.generator is not None and tagger.tagger is not None
    said = [next(word for word in words_of(text) if word in DIGITS) for text in flow.generator.sample_prompts]
    assert said == list(DIGITS)
    assert all(grammar.can_say(digit, f"a voice saying {digit}") for digit in DIGITS)
    assert tagger.tagger.augment.mix_probability == 0


def test_the_speech_tagger_trains_on_recordings_and_judges_digits(folder: Path, tmp_path: Path) -> None:
    overrides = [
        f"data.folder={folder}", f"data.cache={tmp_path / 'cache'}", f"checkpoint={tmp_path / 'judge'}",
        "loop.steps=2", "loop.warmup_steps=1", "loop.log_every=1", "tagger.batch=4", "tagger.minimum_clips=2",
        "tagger.network.widths=[4, 6, 8]", "tagger.network.embedding=8", "tagger.development_share=0.0",
    ]  # fmt: skip
    assert run_recipe("speech-tagger", overrides, output=tmp_path / "run")["finished"]
    judge = load_tagger(tmp_path / "judge")
    assert judge.labels == tuple(sorted(DIGITS))
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert "validation_top1" in log[-1]["validation"]


def test_the_command_line_evaluates_digits(folder: Path, toy_bundle: Path, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_tagger(build_network(10, SMALL), sorted(DIGITS), SMALL, tmp_path / "judge")
    arguments = ["evaluate", str(toy_bundle), "--prompts", "digits", "--reference", str(folder)]
    arguments += ["--tagger", str(tmp_path / "judge"), "-o", str(tmp_path / "out"), "--seeds", "1"]
    arguments += ["--seconds", "0.5", "--precision", "fp32", "--json"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [suite["suite"] for suite in report["suites"]] == ["digits", "reworded digits"]
    assert report["intelligibility"]["generated"]["n"] == 40 and report["intelligibility"]["real"]["n"] == 10
    assert report["skipped_prompts"] == []
    assert "Intelligibility" in (tmp_path / "out" / "evaluation.md").read_text()
