"""Export recipes that list durations, and what their variants are held against."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_tta.bundle import Bundle
from edge_tta.errors import ConfigError, EdgeTTAError
from export.golden import FRAMES, golden_frames
from export.mil_program import MilError
from export.recipe import ExportRecipe, VariantRecipe, load_export_recipe
from export.tiny import tiny_checkpoint, write_tiny_bundle

AUDIO = tiny_checkpoint().config.audio


def test_a_variant_for_single_durations_is_held_against_the_model_at_one_of_them(tmp_path: Path) -> None:
    pytest.importorskip("coremltools")
    recipe = ExportRecipe("test", (VariantRecipe("coreml", "fp16", label="durations", seconds=(0.5, 1.0)),))
    made = write_tiny_bundle(tmp_path / "bundle", recipe)
    (variant,) = Bundle.open(tmp_path / "bundle").variants.values()
    # Phases of the decoder are sums of halves.
    assert min(variant.parity_snr_db.values()) > 25
    golden = made.golden()
    assert golden["noise"].shape[1] == AUDIO.latent_frames(0.5)


def test_golden_inputs_have_a_length_that_every_variant_can_make() -> None:
    """Variants for the Neural Engine take listed lengths only; parity was asked at another one."""

    def recipe(*seconds: tuple[float, ...]) -> ExportRecipe:
        variants = tuple(
            VariantRecipe("coreml", "fp16", label=f"v{index}", seconds=listed)
            for index, listed in enumerate(seconds)
        )
        return ExportRecipe("test", variants)

    assert golden_frames(recipe((), ()), AUDIO) == FRAMES
    assert golden_frames(recipe((2.0, 5.0), ()), AUDIO) == AUDIO.latent_frames(2.0)
    assert golden_frames(recipe((2.0, 5.0), (10.0, 5.0)), AUDIO) == AUDIO.latent_frames(5.0)
    with pytest.raises(ConfigError, match="no duration in common"):
        golden_frames(recipe((2.0,), (5.0,)), AUDIO)
    neural = load_export_recipe("coreml-neural-engine")
    assert golden_frames(neural, AUDIO) == AUDIO.latent_frames(2.0)


def test_what_the_interpreter_refuses_is_one_of_our_errors() -> None:
    assert issubclass(MilError, EdgeTTAError)
