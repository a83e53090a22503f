"""edge-tta validate: known differences are found where they are, in their exact size, and nowhere else."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import math
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from altered_bundles import alter_bundle
from threadpoolctl import threadpool_info
from typer.testing import CliRunner

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import write_bundle
from edge_tta.bundle.manifest import Calibration
from edge_tta.cli.main import app
from edge_tta.errors import BackendError, ConfigError, DataError, RequestError
from edge_tta.evaluate.parity import choose_prompts, make_items
from edge_tta.evaluate.parity_results import ParityReport, VariantParity
from edge_tta.evaluate.parity_session import Loader
from edge_tta.evaluate.parity_sources import ValidationOptions
from edge_tta.evaluate.suite import Prompt, find_prompts, read_prompts
from edge_tta.evaluate.tagger import TaggerConfig, build_network, save_tagger
from edge_tta.evaluate.validate import validate_bundle
from edge_tta.runtime.backend import LoadedModel, load_variant

LABELS = ("rain", "dog bark", "thunder", "engine", "wind", "bell", "clock", "door")
QUICK = {"seconds": 1.0, "count": 3, "threads": 1}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the repository's own tagger, which is found by default."""
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompts") / "mine.csv"
    with open(path, "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerows(
            [
                ["prompt", "label"],
                ["rain on a tin roof", "rain"],
                ["a dog barks twice", "dog bark"],
                ["wind and distant thunder", "thunder"],
            ]
        )
    return str(path)


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagger")
    config = TaggerConfig(widths=(4, 6, 8), embedding=12)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_tagger(build_network(len(LABELS), config), LABELS, config, folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(5)
    with open(folder / "metadata.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "label", "split"])
        for number in range(24):
            soundfile.write(folder / f"{number}.wav", 0.1 * generator.standard_normal(22050), 44100)
            writer.writerow([f"{number}.wav", LABELS[number % 3], "train"])
    return folder


def only_variant(report: ParityReport) -> VariantParity:
    (variant,) = report.variants
    return variant


def validated(
    bundle: Path, output: Path, prompts: str, load: Loader = load_variant, **options: object
) -> ParityReport:
    settings = ValidationOptions(prompts=(prompts,), **{**QUICK, **options})  # type: ignore[arg-type]
    return validate_bundle(bundle, output, settings, load=load)


def test_equal_graphs_are_identical_in_every_figure(
    toy_bundle: Path, prompts: str, tagger: Path, clips: Path, tmp_path: Path
) -> None:
    report = validated(toy_bundle, tmp_path, prompts, tagger=tagger, reference_clips=clips)
    variant = only_variant(report)
    assert (report.reference.name, variant.name, variant.status) == ("ort-fp32", "ort-int8", "ran")
    for key, figure in variant.figures.items():
        expected = 200.0 if key.endswith("snr_db") else 0.0
        assert (figure.value, figure.low, figure.high) == (expected, expected, expected), key
    assert set(variant.figures) >= {"end_to_end.frechet_change_percent", "end_to_end.top5_change_points"}
    assert variant.levels == report.reference.levels
    assert report.real_clips == 24 and report.not_measured == {}
    assert variant.passed and [gate.passed for gate in variant.gates] == [True] * 8
    assert variant.worst == ()
    assert "there is nothing to hear" in (tmp_path / "validate.html").read_text("utf-8")
    assert {path.name for path in tmp_path.iterdir()} == {"validate.html", "validate.json", "validate.md"}


def test_half_as_loud_a_decoder_is_that_and_nothing_else(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"decoder": ("frame_weight", lambda w: w / 2)})
    found = only_variant(validated(bundle, tmp_path / "out", prompts)).figures
    for key in ("text_encoder.tokens_snr_db", "generator.latent_snr_db", "end_to_end.latent_snr_db"):
        assert found[key].lowest == 200.0
    # |x|^2 over |x - x/2|^2 is 4, a factor of 2 is log10(2) in magnitude and 6.02 LU.
    assert found["decoder.waveform_snr_db"].value == pytest.approx(10 * math.log10(4), abs=1e-4)
    assert found["decoder.log_mel_distance"].value == pytest.approx(math.log10(2), abs=2e-3)
    assert found["end_to_end.loudness_change_lu"].value == pytest.approx(-20 * math.log10(2), abs=1e-3)
    assert found["end_to_end.loudness_change_lu"].lowest == pytest.approx(-20 * math.log10(2), abs=1e-3)


def test_a_worse_text_encoder_is_not_blamed_on_the_stages_after_it(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"text_encoder": ("table", lambda w: w * 1.1)})
    found = only_variant(validated(bundle, tmp_path / "out", prompts, steps=2)).figures
    assert found["text_encoder.tokens_snr_db"].value == pytest.approx(20.0, abs=1e-3)
    assert found["generator.latent_snr_db"].lowest == found["decoder.waveform_snr_db"].lowest == 200.0
    assert 5.0 < found["end_to_end.latent_snr_db"].value < 60.0
    assert found["end_to_end.log_mel_distance"].value > 0.0


def test_the_worst_come_first_and_two_seeds_are_the_yardstick(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"text_encoder": ("table", lambda w: w * 1.1)})
    report = validated(bundle, tmp_path / "out", prompts, worst=4)
    variant = only_variant(report)
    distances = [clip.log_mel for clip in variant.clips]
    assert len(distances) == 6 and len(set(distances)) == 6
    assert [distances[place] for place in variant.worst] == sorted(distances, reverse=True)[:4]
    assert report.reference.seed_log_mel is not None and report.reference.seed_log_mel.n == 3
    # Other noise makes another sound, rounding does not.
    assert report.reference.seed_log_mel.value > variant.figures["end_to_end.log_mel_distance"].value
    alone = validated(bundle, tmp_path / "alone", prompts, seeds=1)
    assert alone.reference.seed_log_mel is None


def test_the_same_validation_gives_the_same_bytes(
    toy_bundle: Path, prompts: str, tagger: Path, clips: Path, tmp_path: Path
) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"generator": ("latent_weight", lambda w: w * 1.05)})
    for name in ("one", "two"):
        validated(bundle, tmp_path / name, prompts, tagger=tagger, reference_clips=clips)
    for name in ("validate.html", "validate.json", "validate.md"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_every_pool_keeps_to_the_threads_that_are_asked_for(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    pools: set[int] = set()

    def counting(bundle: Bundle, name: str, threads: int) -> LoadedModel:
        pools.update(pool["num_threads"] for pool in threadpool_info())
        return load_variant(bundle, name, threads)

    before = torch.get_num_threads()
    validated(toy_bundle, tmp_path, prompts, load=counting, threads=1)
    assert pools == {1} and torch.get_num_threads() == before


def test_a_variant_that_cannot_run_here_says_why(toy_bundle: Path, prompts: str, tmp_path: Path) -> None:
    def refusing(bundle: Bundle, name: str, threads: int) -> LoadedModel:
        if name == "ort-int8":
            raise BackendError("ort-int8: needs a Mac")
        return load_variant(bundle, name, threads)

    report = validated(toy_bundle, tmp_path, prompts, load=refusing)
    variant = only_variant(report)
    assert (variant.status, variant.reason, variant.gates) == ("not run", "ort-int8: needs a Mac", ())
    assert variant.passed is None and report.passed is None
    assert "ort-int8 was not run: ort-int8: needs a Mac." in (tmp_path / "validate.md").read_text("utf-8")
    assert "needs a Mac" in (tmp_path / "validate.html").read_text("utf-8")


def test_a_variant_that_breaks_fails_and_the_others_are_still_judged(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"decoder": ("frame_weight", lambda w: w * np.inf)})
    report = validated(bundle, tmp_path / "out", prompts)
    variant = only_variant(report)
    assert variant.status == "failed" and not variant.passed
    assert variant.reason == "ort: decoder made values that are not finite"
    # The other way round there is nothing to compare with.
    with pytest.raises(BackendError, match="not finite"):
        validated(bundle, tmp_path / "none", prompts, reference="ort-int8")
    assert not (tmp_path / "none").exists()


def test_figures_do_not_depend_on_the_other_variants(toy_bundle: Path, prompts: str, tmp_path: Path) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"generator": ("latent_weight", lambda w: w * 1.05)})
    against_int8 = only_variant(validated(bundle, tmp_path / "1", prompts, reference="ort-int8"))
    assert against_int8.name == "ort-fp32"
    assert {gate.statistic for gate in against_int8.gates} == {"lowest", "highest", "value"}
    both = only_variant(validated(bundle, tmp_path / "2", prompts, variants=("ort-int8",)))
    assert both.figures == only_variant(validated(bundle, tmp_path / "3", prompts)).figures


def test_what_cannot_be_measured_is_named(
    toy_bundle: Path, prompts: str, tagger: Path, tmp_path: Path
) -> None:
    report = validated(toy_bundle, tmp_path / "1", prompts)
    assert set(report.not_measured) == {"adherence", "Fréchet distance"}
    assert [gate.passed for gate in only_variant(report).gates] == [True] * 5 + [None] * 3
    report = validated(toy_bundle, tmp_path / "2", prompts, tagger=tagger)
    assert report.not_measured == {"Fréchet distance": "no folder of real clips was given"}
    (tmp_path / "other.csv").write_text("prompt,label\nwaves on a shore,waves\n")
    report = validated(toy_bundle, tmp_path / "3", str(tmp_path / "other.csv"), tagger=tagger)
    assert report.not_measured["adherence"] == "no prompt has a label that the tagger knows"


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"reference": "ort-fp64"}, ConfigError, "neither a folder nor one of"),
        ({"variants": ("ort-fp64",)}, ConfigError, "it has ort-fp32, ort-int8"),
        ({"variants": ("ort-fp32",)}, ConfigError, "no variant beside its own ort-fp32"),
        ({"reference_clips": Path("nowhere")}, DataError, "nowhere"),
        ({"tagger": Path("nowhere")}, DataError, "nowhere"),
        ({"gates": Path("nowhere.toml")}, ConfigError, "nowhere.toml"),
        ({"seconds": 99.0}, RequestError, "99"),
        ({"seeds": 0}, ConfigError, "seeds 0"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_leaves_nothing(
    options: dict[str, object],
    kind: type[Exception],
    words: str,
    toy_bundle: Path,
    prompts: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(kind, match=words) as caught:
        validated(toy_bundle, tmp_path / "out", prompts, **options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_stays(toy_bundle: Path, prompts: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(RequestError):
        validated(toy_bundle, tmp_path / "out", prompts, seconds=99.0)
    assert (tmp_path / "out").is_dir()


def test_prompts_are_spread_evenly_over_the_lists() -> None:
    own = [p for name in ("labels", "paraphrases") for p in read_prompts(find_prompts(name))]
    chosen = choose_prompts(own, 64)
    assert len(chosen) == len(set(chosen)) == 64
    assert chosen == [p for p in own if p in chosen]
    assert {suite: sum(p.suite == suite for p in chosen) for suite in ("labels", "paraphrases")} == {
        "labels": 16,
        "paraphrases": 48,
    }
    assert len({p.labels[0] for p in chosen}) >= 45
    assert choose_prompts(own, 10**6) == own


def test_every_sound_has_a_seed_of_its_own() -> None:
    prompts = [Prompt(text, ("rain",), "s") for text in ("one", "two")]
    items = make_items(prompts, 3, 10, seconds=1.0, steps=1, guidance=None)
    assert [(item.prompt.text, item.request.seed) for item in items] == [
        ("one", 10), ("one", 11), ("one", 12), ("two", 13), ("two", 14), ("two", 15),
    ]  # fmt: skip


def test_prompts_of_several_sounds_are_refused_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("prompt,labels\nrain,rain\nrain + wind,rain;wind\n")
    with pytest.raises(RequestError, match="'rain \\+ wind' names several sounds"):
        validate_bundle("nowhere", tmp_path / "out", ValidationOptions(prompts=(str(tmp_path / "two.csv"),)))
    assert not (tmp_path / "out").exists()


def test_the_command_line_judges_and_strict_fails(toy_bundle: Path, prompts: str, tmp_path: Path) -> None:
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"generator": ("latent_weight", lambda w: w * 2)})
    arguments = [
        "validate",
        str(bundle),
        "--prompts",
        prompts,
        "--count",
        "2",
        "--seeds",
        "1",
        "--seconds",
        "0.5",
    ]
    arguments += ["--threads", "1", "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "fail         Latent of the generator" in result.stdout
    assert "not measured: Fréchet distance" in result.stderr
    strict = CliRunner().invoke(app, [*arguments, "--strict", "--quiet", "--json"])
    assert strict.exit_code == 5
    assert strict.stderr.splitlines()[-1].startswith("edge-tta: ort-int8: a gate failed")
    verdicts = json.loads(strict.stdout)
    assert verdicts["schema"] == "validate-verdicts/1" and not verdicts["passed"]
    document = json.loads((tmp_path / "out" / "validate.json").read_text("utf-8"))
    assert document["schema"] == "validate/1"
    assert len(document["variants"][0]["clips"]) == 2
    assert document["settings"]["threads"] == 1


def test_a_variant_judged_by_what_it_was_calibrated_on_is_told(
    toy_bundle: Path, prompts: str, tmp_path: Path
) -> None:
    """By the digest that the manifest has of the list: other lists are not known to have the same prompts."""
    opened = Bundle.open(toy_bundle)
    record = Calibration(sha256=hashlib.sha256(Path(prompts).read_bytes()).hexdigest(), requests=3)
    variants = {
        **opened.variants,
        "ort-int8": opened.variants["ort-int8"].model_copy(update={"calibration": record}),
    }
    files = {entry.file: opened.read(entry) for entry in opened.manifest.files()}
    write_bundle(tmp_path / "b", opened.manifest.model_copy(update={"variants": variants}), files)
    arguments = ["validate", str(tmp_path / "b"), "--count", "2", "--seeds", "1", "--seconds", "1", "--quiet"]
    arguments += ["--threads", "1", "-o", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [*arguments, "--prompts", prompts])
    assert told.exit_code == 0, told.output
    warnings = [line for line in told.stderr.splitlines() if "warning" in line]
    assert len(warnings) == 1 and f"ort-int8 was calibrated on {prompts}" in warnings[0]
    assert f"Its ranges were found on prompts that it is judged by ({prompts})" in told.stdout
    for name in ("validate.md", "validate.html"):
        assert "which flatters it" in (tmp_path / "out" / name).read_text("utf-8")
    other = tmp_path / "other.csv"
    other.write_text("prompt,label\na door slams,door\na bell,bell\n", encoding="utf-8")
    apart = CliRunner().invoke(app, [*arguments, "--prompts", str(other), "--json"])
    assert "calibrated on" not in apart.stderr
    assert json.loads(apart.stdout)["variants"][0]["calibrated_on"] == ""
    # A list counts where one of its prompts is among those that are used.
    few = ["--count", "1", "--prompts", str(other), "--prompts", str(other), "--prompts", prompts]
    assert "calibrated on" not in CliRunner().invoke(app, [*arguments, *few]).stderr


def test_own_gates(toy_bundle: Path, prompts: str, tmp_path: Path) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text(
        'name = "mine"\n[[gates]]\ntitle = "Loudness"\nfigure = "end_to_end.loudness_change_lu"\n'
        'statistic = "lowest"\nat_least = -6.0\n'
    )
    bundle = alter_bundle(toy_bundle, tmp_path / "b", {"decoder": ("frame_weight", lambda w: w / 2)})
    report = validated(bundle, tmp_path / "out", prompts, gates=gates)
    (gate,) = only_variant(report).gates
    assert report.gates_name == "mine" and gate.passed is False
    assert gate.measured == pytest.approx(-6.0206, abs=1e-3)


def test_a_checkpoint_in_torch_is_the_reference(
    prompts: str, toy_tokenizer_model: bytes, tmp_path: Path
) -> None:
    """The committed tiny bundle was exported from this checkpoint: float rounding is all that lies between."""
    from edge_tta.model.checkpoint import save_part
    from export.tiny import tiny_checkpoint

    checkpoint = tiny_checkpoint()
    folder = tmp_path / "tiny"
    for part in ("text_encoder", "generator", "codec"):
        save_part(folder, checkpoint.config, part, getattr(checkpoint, part))
    assert checkpoint.tokenizer is not None
    (folder / "tokenizer.model").write_bytes(checkpoint.tokenizer)
    golden = Path(__file__).resolve().parents[1] / "golden" / "edge-tiny"
    report = validated(golden, tmp_path / "out", prompts, reference=str(folder), count=1)
    variant = only_variant(report)
    assert (report.reference.name, report.reference.backend, variant.name) == ("tiny", "eager", "ort-fp32")
    # Weights of a checkpoint are stored in bf16, those of the bundle were exported before that.
    assert variant.figures["generator.latent_snr_db"].lowest > 20.0
    (folder / "tokenizer.model").write_bytes(toy_tokenizer_model)
    with pytest.raises(ConfigError, match="another model"):
        validated(golden, tmp_path / "other", prompts, reference=str(folder), count=1)


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "pyloudnorm" else really(name, package)

    monkeypatch.setattr("edge_tta.cli.extras.find_spec", without)
    for arguments in (["validate"], ["listen", "make"]):
        result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert "needs the 'eval' extra: pip install 'edge-tta[eval]'" in result.stderr
    assert list(tmp_path.iterdir()) == []
