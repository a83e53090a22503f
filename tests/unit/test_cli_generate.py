"""``edge-tta generate``: where sounds go, what is printed, and one clear line for every kind of bad input."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner, Result

from edge_tta.audio import read_comment
from edge_tta.cli.main import app
from edge_tta.runtime import GenerationRequest, TextToAudio
from edge_tta.text import MAX_PROMPT_BYTES


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)


def generate(bundle: Path | str | None, *arguments: str, stdin: bytes | None = None) -> Result:
    chosen = [] if bundle is None else ["--bundle", str(bundle)]
    return CliRunner().invoke(app, ["generate", *chosen, "--threads", "1", *arguments], input=stdin)


def refused(result: Result, code: int, *words: str) -> None:
    """Exit code, one line on standard error, and nothing written."""
    assert result.exit_code == code, result.stderr
    assert result.stderr.startswith("edge-tta: ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not isinstance(result.exception, Exception)
    for word in words:
        assert word in result.stderr
    assert list(Path.cwd().iterdir()) == []


def test_without_arguments_it_makes_a_sound(toy_bundle: Path) -> None:
    result = generate(toy_bundle)
    assert result.exit_code == 0, result.stderr
    assert [path.name for path in Path.cwd().iterdir()] == ["edge-tta.wav"]
    info = soundfile.info("edge-tta.wav")
    assert (info.samplerate, info.frames, info.channels, info.subtype) == (44100, 220500, 1, "PCM_16")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("edge-tta.wav: 5.00 s of “rain on a tin roof, distant thunder”")
    stages = [line.split("  ")[2].strip() for line in lines if line.startswith("    ")]
    assert stages == ["load", "tokenizer", "text encoder", "generator", "decoder"]
    assert "seed 0, 1 step, guidance 3, toy@" in lines[1] and "in int8 on ort, 1 threads" in lines[1]


def test_same_command_same_bytes_and_the_library_makes_the_same_samples(toy_bundle: Path) -> None:
    arguments = ("a dog barks", "--seconds", "1.25", "--seed", "7", "--steps", "2", "--guidance", "4")
    for name in ("one.wav", "two.wav"):
        assert generate(toy_bundle, *arguments, "-o", name).exit_code == 0
    assert Path("one.wav").read_bytes() == Path("two.wav").read_bytes()
    with TextToAudio.open(toy_bundle, threads=1) as model:
        audio = model.generate(GenerationRequest("a dog barks", 1.25, 7, 2, 4.0)).audio
    stored, _ = soundfile.read("one.wav", dtype="int16")
    np.testing.assert_array_equal(stored, np.round(audio.samples[0] * 32767).astype(np.int16))


def test_a_sound_can_be_made_again_from_its_own_comment(toy_bundle: Path) -> None:
    assert (
        generate(toy_bundle, "wind", "--seed", "random", "--seconds", "0.5", "-o", "first.wav").exit_code == 0
    )
    with soundfile.SoundFile("first.wav") as stream:
        recipe = json.loads(stream.comment)["edge_tta"]
    again = [
        "--seconds",
        str(recipe["seconds"]),
        "--seed",
        str(recipe["seed"]),
        "--steps",
        str(recipe["steps"]),
    ]
    again += ["--guidance", str(recipe["guidance"]), "--precision", recipe["precision"]]
    assert generate(toy_bundle, recipe["prompt"], *again, "-o", "again.wav").exit_code == 0
    assert Path("again.wav").read_bytes() == Path("first.wav").read_bytes()


@pytest.mark.parametrize("prompt", ["雨の音" * 300, "rain on a tin roof " * 200, '"quoted"\n' * 400])
@pytest.mark.parametrize("name", ["long.wav", "long.flac"])
def test_long_prompts_are_in_the_comment_too(toy_bundle: Path, prompt: str, name: str) -> None:
    assert generate(toy_bundle, prompt, "--seconds", "0.5", "-q", "-o", name).exit_code == 0
    assert json.loads(read_comment(name))["edge_tta"]["prompt"] == prompt


def test_the_longest_comment_has_room(toy_bundle: Path) -> None:
    prompt = "r" + "\x01" * (MAX_PROMPT_BYTES - 1)  # six letters each in JSON
    assert generate(toy_bundle, prompt, "--seconds", "0.5", "-o", "long.wav").exit_code == 0
    assert json.loads(read_comment("long.wav"))["edge_tta"]["prompt"] == prompt


def test_no_comment(toy_bundle: Path) -> None:
    for arguments in (("-o", "rain.wav"), ("-o", "out/")):
        assert generate(toy_bundle, "wind", "--seconds", "0.5", "--no-comment", *arguments).exit_code == 0
    (inside,) = Path("out").iterdir()
    assert read_comment("rain.wav") == read_comment(inside) == ""
    assert b"wind" not in Path("rain.wav").read_bytes() + inside.read_bytes()
    done = generate(toy_bundle, "wind", "--seconds", "0.5", "--no-comment", "-o", "-")
    assert done.stdout_bytes == Path("rain.wav").read_bytes()


def test_the_bundle_of_a_recipe_opens(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_tta.bundle.shipped.ASSETS", toy_bundle.parent)
    assert generate("toy", "wind", "--seconds", "0.5", "-o", "first.wav").exit_code == 0
    recipe = json.loads(read_comment("first.wav"))["edge_tta"]
    assert recipe["bundle"].startswith("toy@") and set(recipe["versions"]) == {"edge_tta", "onnxruntime"}
    assert generate(recipe["bundle"], "wind", "--seconds", "0.5", "-o", "again.wav").exit_code == 0
    assert Path("again.wav").read_bytes() == Path("first.wav").read_bytes()


def test_help_says_that_more_steps_do_not_help() -> None:
    page = " ".join(CliRunner().invoke(app, ["generate", "--help"], env={"COLUMNS": "300"}).stdout.split())
    assert "The shipped model is made for 1; more take longer and sound no better." in page


def test_random_seeds_differ(toy_bundle: Path) -> None:
    seeds = set()
    for _ in range(3):
        result = generate(toy_bundle, "wind", "--seed", "random", "--seconds", "0.5", "--json")
        seeds.add(json.loads(result.stdout)["sounds"][0]["seed"])
    assert len(seeds) == 3


def test_standard_output_gets_a_whole_wav_and_nothing_else(toy_bundle: Path) -> None:
    result = generate(toy_bundle, "wind", "--seconds", "0.5", "-o", "-")
    assert result.exit_code == 0
    with wave.open(io.BytesIO(result.stdout_bytes)) as stream:
        assert (stream.getnframes(), stream.getframerate(), stream.getsampwidth()) == (22050, 44100, 2)
    assert result.stderr.startswith("standard output: 0.50 s of")
    assert generate(toy_bundle, "wind", "--seconds", "0.5", "-o", "file.wav").exit_code == 0
    assert result.stdout_bytes == Path("file.wav").read_bytes()


def test_flac(toy_bundle: Path) -> None:
    assert generate(toy_bundle, "wind", "--seconds", "0.5", "-o", "wind.flac").exit_code == 0
    assert soundfile.info("wind.flac").format == "FLAC"


def test_variations_go_to_a_directory_and_equal_single_sounds(toy_bundle: Path) -> None:
    result = generate(
        toy_bundle, "Wind & rain!", "--seconds", "0.5", "--seed", "5", "--count", "3", "-o", "out"
    )
    assert result.exit_code == 0
    names = sorted(path.name for path in Path("out").iterdir())
    assert names == [f"wind-rain-{seed}.wav" for seed in (5, 6, 7)]
    assert len(result.stdout.splitlines()) == 3
    assert (
        generate(toy_bundle, "Wind & rain!", "--seconds", "0.5", "--seed", "6", "-o", "six.wav").exit_code
        == 0
    )
    assert Path("six.wav").read_bytes() == Path("out/wind-rain-6.wav").read_bytes()


@pytest.mark.parametrize("source", ["prompts.txt", "-"])
def test_prompts_from_a_file_or_standard_input(toy_bundle: Path, tmp_path: Path, source: str) -> None:
    text = b"# sounds\n\nwind\n  a dog barks\nwind\n"
    (tmp_path / "prompts.txt").write_bytes(text)
    given = str(tmp_path / "prompts.txt") if source != "-" else "-"
    result = generate(toy_bundle, "--file", given, "--seconds", "0.5", "--json", "-o", "out/", stdin=text)
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["schema"] == "generate/1"
    assert [sound["prompt"] for sound in document["sounds"]] == ["wind", "  a dog barks", "wind"]
    names = [Path(sound["path"]).name for sound in document["sounds"]]
    assert names == ["001-wind-0.wav", "002-a-dog-barks-0.wav", "001-wind-0.wav"]
    assert sorted(path.name for path in Path("out").iterdir()) == sorted(set(names))


def made(bundle: Path, *arguments: str) -> str:
    """Name of the file that is made in a folder, as it is told."""
    result = generate(bundle, *arguments, "-o", "out/", "--json")
    assert result.exit_code == 0, result.stderr
    (sound,) = json.loads(result.stdout)["sounds"]
    assert json.loads(read_comment(sound["path"]))["edge_tta"]["prompt"] == sound["prompt"]
    return Path(sound["path"]).name


def test_another_request_never_takes_the_file_of_one(toy_bundle: Path) -> None:
    requests = [
        ("wind", "--seconds", "0.5"),
        ("wind", "--seconds", "0.6"),
        ("wind", "--seconds", "0.5", "--steps", "2"),
        ("wind", "--seconds", "0.5", "--guidance", "5"),
        ("wind", "--seconds", "0.5", "--precision", "fp32"),
        ("wind!", "--seconds", "0.5"),
        ("雨の音", "--seconds", "0.5"),
        ("風の音", "--seconds", "0.5"),
    ]
    names = [made(toy_bundle, *request) for request in requests]
    assert names[0] == "wind-0.wav", "names are what they were"
    assert all(name.startswith("wind-0-") for name in names[1:6])
    assert all(name.startswith("sound-") and name.endswith("-0.wav") for name in names[6:])
    assert len(set(names)) == len(names) == len(list(Path("out").iterdir()))
    # The same requests again replace their own files.
    assert [made(toy_bundle, *request) for request in reversed(requests)] == names[::-1]
    assert len(list(Path("out").iterdir())) == len(names)


def test_a_file_that_tells_nothing_is_kept(toy_bundle: Path) -> None:
    for content in (b"not a sound", b""):
        Path("out").mkdir(exist_ok=True)
        (Path("out") / "wind-0.wav").write_bytes(content)
        assert made(toy_bundle, "wind", "--seconds", "0.5").startswith("wind-0-")
        assert (Path("out") / "wind-0.wav").read_bytes() == content


def test_a_prompt_in_other_letters_is_told_to_be_so(toy_bundle: Path) -> None:
    result = generate(toy_bundle, "風", "--seconds", "0.5", "-q")
    assert result.exit_code == 0
    assert result.stderr == (
        "edge-tta: warning: most of the prompt is in characters that the model does not know: "
        "describe the sound in English\n"
    )


def test_json_holds_all_that_is_needed(toy_bundle: Path) -> None:
    result = generate(toy_bundle, "wind", "--seconds", "0.5", "--json")
    (sound,) = json.loads(result.stdout)["sounds"]
    assert sound["path"] == "edge-tta.wav" and sound["backend"] == "ort" and sound["threads"] == 1
    assert sound["frames"] == 22050 and sound["bundle"].startswith("toy@")
    assert {"load", "tokenizer", "text_encoder", "generator", "decoder", "total"} < set(sound["timings"])


def test_quiet(toy_bundle: Path) -> None:
    result = generate(toy_bundle, "wind", "--seconds", "0.5", "-q")
    assert (result.exit_code, result.output) == (0, "")


def test_a_cut_prompt_is_told_on_standard_error(toy_bundle: Path) -> None:
    result = generate(toy_bundle, "rain on a tin roof " * 20, "--seconds", "0.5", "-q")
    assert result.exit_code == 0
    assert result.stderr.startswith("edge-tta: warning: the prompt is too long: its last ")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "prompt is empty"),
        ("   ", "prompt is empty"),
        ("🎵🎶", "prompt holds no letter or digit"),
        ("rain \udcff", "prompt is not valid Unicode"),
        ("r" * 2**20, "prompt has 1048576 bytes; at most 4096 are allowed"),
    ],
)
def test_bad_prompts(toy_bundle: Path, prompt: str, words: str) -> None:
    refused(generate(toy_bundle, prompt), 2, words)


def test_bad_prompts_in_a_file_name_the_line(toy_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("wind\n" + "r" * 2**20 + "\n")
    refused(generate(toy_bundle, "--file", str(file)), 2, f"{file} line 2: prompt has 1048576 bytes")
    file.write_bytes(b"wind\n\xff\xfe\n")
    refused(generate(toy_bundle, "--file", str(file)), 2, "not UTF-8 (byte 5)")
    file.write_bytes(b"\n# nothing\n")
    refused(generate(toy_bundle, "--file", str(file)), 2, "holds no prompt")
    refused(generate(toy_bundle, "--file", str(tmp_path / "none.txt")), 2, "cannot be read")
    refused(generate(toy_bundle, "wind", "--file", str(file)), 2, "give a prompt or --file, not both")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--seconds", "0"), "seconds 0 is out of range"),
        (("--seconds", "-1"), "seconds -1 is out of range"),
        (("--seconds", "nan"), "seconds must be a finite number"),
        (("--seconds", "inf"), "seconds must be a finite number"),
        (("--seconds", "13"), "seconds 13 is out of range: this bundle makes 0.5 to 12 s"),
        (("--seconds", "long"), "Invalid value for '--seconds'"),
        (("--seed", "-1"), "seed -1 is out of range"),
        (("--seed", str(2**63)), "is out of range"),
        (("--seed", "dice"), "seed must be a whole number or 'random', got 'dice'"),
        (("--steps", "9"), "steps 9 is out of range: allowed are 1 to 8"),
        (("--count", "0"), "count 0 is out of range"),
        (("--count", "65"), "count 65 is out of range"),
        (("--guidance", "nan"), "guidance must be a finite number"),
        (("--guidance", "9"), "guidance 9 is out of range: this bundle takes 1 to 8"),
        (("--threads", "0"), "threads 0 is out of range: allowed are 1 to 64"),
        (("--nonsense",), "No such option"),
        (("-o", "sound.mp3"), "the name must end in .wav or .flac"),
        (("-o", "sound"), "the name must end in .wav or .flac"),
        (("-o", "nowhere/sound.wav"), "the directory nowhere does not exist"),
        (("-o", "nowhere/deep/"), "nowhere is not a directory"),
        (("--count", "2", "-o", "sound.wav"), "takes one sound, 2 were asked for; use -o DIRECTORY"),
        (("--count", "2", "-o", "-"), "standard output takes one sound"),
    ],
)
def test_bad_options(toy_bundle: Path, arguments: tuple[str, ...], words: str) -> None:
    refused(generate(toy_bundle, "wind", *arguments), 2, words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--backend", "tflite"),
            "unknown backend 'tflite'; this version has auto, ort, executorch, coreml, eager",
        ),
        (("--backend", "coreml"), "has no coreml-int8 variant; it has ort-fp32, ort-int8"),
        (("--precision", "int3"), "has no int3 variant; it has ort-fp32, ort-int8"),
        (("--backend", "ort", "--precision", "int3"), "has no ort-int3 variant"),
    ],
)
def test_what_no_backend_can_do(toy_bundle: Path, arguments: tuple[str, ...], words: str) -> None:
    refused(generate(toy_bundle, "wind", *arguments), 4, words)


def test_unknown_bundle(tmp_path: Path) -> None:
    refused(generate("nonexistent", "wind"), 3, "no bundle 'nonexistent'")
    refused(generate(tmp_path / "missing", "wind"), 3, "no bundle")


@pytest.mark.parametrize(
    "name", ["onnx/generator.onnx", "onnx/decoder.onnx", "tokenizer.model", "manifest.json"]
)
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "empty"])
def test_damaged_bundle(toy_bundle: Path, tmp_path: Path, name: str, damage: str) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(toy_bundle, copy)
    path = copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x04
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(
            {"truncate": bytes(data[: len(data) // 2]), "flip": bytes(data), "empty": b""}[damage]
        )
    refused(generate(copy, "wind"), 3, name)


def test_unwritable_output(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The superuser may write anywhere, so the answer of the system is what is replaced.
    monkeypatch.setattr(os, "access", lambda *arguments: False)
    refused(generate(toy_bundle, "wind", "-o", "sound.wav"), 2, "no permission to write in .")


def test_output_that_becomes_unwritable(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    refused(generate(toy_bundle, "wind", "-o", "sound.wav"), 2, "cannot write sound.wav: permission denied")


def test_output_that_is_a_directory_by_name(toy_bundle: Path) -> None:
    Path("sound.wav").mkdir()
    result = generate(toy_bundle, "wind", "--seconds", "0.5", "-o", "sound.wav")
    assert result.exit_code == 0
    assert [path.name for path in Path("sound.wav").iterdir()] == ["wind-0.wav"]


@pytest.mark.parametrize("existing", [False, True])
def test_full_disk(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch, existing: bool) -> None:
    if existing:
        Path("sound.wav").write_bytes(b"the old sound")

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = generate(toy_bundle, "wind", "-o", "sound.wav")
    assert result.exit_code == 2
    assert result.stderr == "edge-tta: cannot write sound.wav: the disk is full\n"
    assert {path.name: path.read_bytes() for path in Path.cwd().iterdir()} == (
        {"sound.wav": b"the old sound"} if existing else {}
    )


def test_failed_generation_leaves_an_existing_file(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sound.wav").write_bytes(b"the old sound")
    monkeypatch.setattr(
        "edge_tta.runtime.ort_backend.OrtBackend.decoder", lambda self, latent: latent * np.nan
    )
    result = generate(toy_bundle, "wind", "-o", "sound.wav")
    assert result.exit_code == 4 and "decoder made" in result.stderr
    assert Path("sound.wav").read_bytes() == b"the old sound"


def test_out_of_memory_is_one_line(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*arguments: Any, **options: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("edge_tta.runtime.pipeline.gaussian_noise", exhausted)
    refused(generate(toy_bundle, "wind"), 4, "not enough memory")


def test_interrupt_in_the_middle(toy_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_tta.runtime.ort_backend.OrtBackend.decoder", interrupt)
    refused(generate(toy_bundle, "wind"), 130, "cancelled")
