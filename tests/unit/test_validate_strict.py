"""validate --strict: what was asked for and not measured is a failure, and nothing succeeds for want of a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from altered_bundles import alter_bundle
from typer.testing import CliRunner

from edge_tta.bundle import Bundle
from edge_tta.bundle.assemble import write_bundle
from edge_tta.cli.main import app
from edge_tta.errors import BackendError
from edge_tta.runtime.backend import LoadedModel, load_variant

LATENT = 'title = "Latent"\nfigure = "generator.latent_snr_db"\nat_least = 20.0\n'
ADHERENCE = 'title = "Adherence"\nfigure = "end_to_end.top5_change_points"\nat_least = -1.0\n'
FP16 = 'precisions = ["fp16"]\n'


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the repository's own tagger, which is found by default."""
    monkeypatch.chdir(tmp_path)


def strict(bundle: Path, gates: list[str] | None, *options: str) -> tuple[int, dict[str, object], str]:
    """Exit code, verdicts and last line of a strict validation of two short sounds; None for the packaged gates."""
    Path("prompts.csv").write_text("prompt,label\nrain on a tin roof,rain\na dog barks twice,dog bark\n")
    if gates is not None:
        Path("gates.toml").write_text('name = "mine"\n' + "".join(f"[[gates]]\n{gate}" for gate in gates))
        options = ("--gates", "gates.toml", *options)
    arguments = [
        "validate", str(bundle), "--prompts", "prompts.csv", "--count", "2", "--seeds", "1", "--seconds", "0.5",
        "--threads", "1", "--quiet", "--json", "--strict", *options,
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    lines = result.stderr.splitlines()
    return result.exit_code, json.loads(result.stdout), lines[-1] if lines else ""


def test_all_measured_and_kept_is_a_success(toy_bundle: Path) -> None:
    code, verdicts, _ = strict(toy_bundle, [LATENT], "--variant", "ort-int8")
    assert (code, verdicts["passed"]) == (0, True)


def test_a_gate_that_was_not_measured_is_a_failure_unless_it_is_allowed(toy_bundle: Path) -> None:
    code, verdicts, line = strict(toy_bundle, [LATENT, ADHERENCE])
    assert (code, verdicts["passed"]) == (5, True)
    assert line.startswith("edge-tta: ort-int8: not measured: Adherence (")
    assert strict(toy_bundle, [LATENT, ADHERENCE], "--allow-unmeasured")[0] == 0


@pytest.mark.parametrize(
    ("gates", "words"),
    [
        ([], "ort-int8: no gates to keep"),
        ([LATENT + FP16], "ort-int8: no gates to keep"),
        ([ADHERENCE], "ort-int8: not measured: Adherence"),
    ],
)
def test_no_verdict_at_all_is_a_failure_even_where_gaps_are_allowed(
    gates: list[str], words: str, toy_bundle: Path
) -> None:
    code, verdicts, line = strict(toy_bundle, gates)
    assert (code, verdicts["passed"]) == (5, None)
    assert line.startswith(f"edge-tta: {words} (")
    code, verdicts, line = strict(toy_bundle, gates, "--allow-unmeasured")
    assert (code, verdicts["passed"]) == (5, None)
    assert line.startswith("edge-tta: no gate was judged (")


def refuse(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    def refusing(bundle: Bundle, name: str, threads: int) -> LoadedModel:
        if name == refused:
            raise BackendError(f"{name} needs a Mac")
        return load_variant(bundle, name, threads)

    monkeypatch.setattr("edge_tta.runtime.backend.load_variant", refusing)


def with_precision(source: Path, precision: str, name: str, target: Path) -> Path:
    """The bundle with its int8 variant once more, or again, under a name and a precision."""
    opened = Bundle.open(source)
    files = {entry.file: opened.read(entry) for entry in opened.manifest.files()}
    variant = opened.variants["ort-int8"].model_copy(update={"precision": precision})
    manifest = opened.manifest.model_copy(update={"variants": {**opened.variants, name: variant}})
    write_bundle(target, manifest, files)
    return target


def test_of_all_variants_those_count_that_run_but_a_named_one_must(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_precision(toy_bundle, "fp16", "ort-fp16", Path("three"))
    refuse(monkeypatch, "ort-fp16")
    code, verdicts, _ = strict(bundle, [LATENT])
    assert (code, verdicts["passed"]) == (0, True)
    assert [found["passed"] for found in verdicts["variants"]] == [None, True]  # type: ignore[index, attr-defined]
    both = ("--variant", "ort-int8", "--variant", "ort-fp16")
    code, _, line = strict(bundle, [LATENT], *both)
    assert code == 5 and line.startswith("edge-tta: ort-fp16: not run (ort-fp16 needs a Mac)")
    assert strict(bundle, [LATENT], *both, "--allow-unmeasured")[0] == 0


def test_a_validation_in_which_no_variant_ran_is_a_failure(
    toy_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, "ort-int8")
    code, verdicts, line = strict(toy_bundle, [LATENT])
    assert (code, verdicts["passed"]) == (5, None) and line.startswith("edge-tta: no gate was judged")


def test_every_reason_is_in_the_one_line(toy_bundle: Path) -> None:
    bundle = alter_bundle(toy_bundle, Path("b"), {"generator": ("latent_weight", lambda w: w * 2)})
    code, verdicts, line = strict(bundle, [LATENT, ADHERENCE])
    assert (code, verdicts["passed"]) == (5, False)
    assert "ort-int8: a gate failed; ort-int8: not measured: Adherence" in line


def test_the_first_seed_is_chosen(toy_bundle: Path) -> None:
    code, _, _ = strict(toy_bundle, [LATENT], "--first-seed", "40", "-o", "out")
    document = json.loads(Path("out/validate.json").read_text("utf-8"))
    assert code == 0 and document["settings"]["first_seed"] == 40
    assert [clip["seed"] for clip in document["variants"][0]["clips"]] == [40, 41]
    version = Bundle.open(toy_bundle).manifest.version
    assert document["bundle_version"] == version
    assert f"bundle {version} `{document['bundle_digest'][:12]}`" in Path("out/validate.md").read_text(
        "utf-8"
    )


def test_allowing_gaps_without_strict_is_refused(toy_bundle: Path) -> None:
    result = CliRunner().invoke(app, ["validate", str(toy_bundle), "--allow-unmeasured"])
    assert result.exit_code == 2 and "--allow-unmeasured is for --strict" in result.stderr


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "int4"])
@pytest.mark.parametrize(
    ("stage", "weight", "missed"),
    [
        ("text_encoder", "table", {"Text encoder, tokens", "Text encoder, sentence vector"}),
        ("generator", "latent_weight", {"Latent of the generator"}),
        ("decoder", "frame_weight", {"Decoder, log-mel distance", "End to end, log-mel distance"}),
    ],
)
def test_a_destroyed_stage_fails_in_every_precision(
    precision: str, stage: str, weight: str, missed: set[str], toy_bundle: Path
) -> None:
    nothing: Callable[[np.ndarray], np.ndarray] = np.zeros_like
    broken = alter_bundle(toy_bundle, Path("b"), {stage: (weight, nothing)})
    bundle = with_precision(broken, precision, "ort-int8", Path("broken"))
    code, verdicts, _ = strict(
        bundle, None, "--reference", "ort-fp32", "--variant", "ort-int8", "--allow-unmeasured"
    )
    (found,) = verdicts["variants"]  # type: ignore[misc]
    assert code == 5
    assert {gate["title"] for gate in found["gates"] if gate["passed"] is False} >= missed  # type: ignore[index]
