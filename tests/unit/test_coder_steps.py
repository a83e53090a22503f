"""A coder's steps go out of spectra and decoders, and nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_data import write_clips
from torch import Tensor

from edge_tta.config import AudioSpec, CodecConfig, dict_digest, to_dict
from edge_tta.errors import ConfigError
from edge_tta.model.checkpoint import load_part, save_part
from edge_tta.model.codec import Codec
from edge_tta.model.presets import PRESETS, preset
from edge_tta.train.coder_steps import REACH, main, remove_steps, without_steps
from edge_tta.train.recipes import load_recipe
from edge_tta.train.run import run_recipe

N_FFT, RATE, BINS, EDGES = 1024, 44100, 513, (8000.0, 15600.0)
HERTZ = torch.arange(BINS, dtype=torch.float64) * (RATE / N_FFT)
NARROW = replace(
    preset("edge-tiny"),
    name="edge-narrow",
    audio=AudioSpec(hop=2048, latent_channels=4, channels=2),
    codec=CodecConfig(
        latent_channels=4, n_fft=1024, stft_hop=512, frame_width=8, latent_width=12, encoder_frame_blocks=1,
        encoder_latent_blocks=1, decoder_latent_blocks=1, decoder_frame_blocks=1, expansion=2, kernel=3,
        tonal_bins=8, bands=4, noise_frames=16, envelope_steps=4,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def projection() -> Tensor:
    return without_steps(N_FFT, RATE, EDGES)


@pytest.fixture
def codec() -> Codec:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        made = Codec(NARROW.codec, NARROW.audio).eval()
        made.set_bin_statistics(-7 + torch.randn(BINS), 1 + torch.rand(BINS))
        made.decoder.shortcut.weight.data.normal_()
    return made


def height(magnitude: Tensor, edge: float) -> Tensor:
    """Mean of 300 Hz above an edge over that of 300 Hz below it, clear of the window's blur."""
    away = HERTZ - edge
    above, below = ((away * sign > 90) & (away * sign < 390) for sign in (1, -1))
    return magnitude[..., above].mean(-1) - magnitude[..., below].mean(-1)


def test_a_step_becomes_a_slope(projection: Tensor) -> None:
    for edge in EDGES:
        stepped = -3.0 - HERTZ / 5000 + 0.8 * (edge < HERTZ)
        cleaned = projection @ stepped
        natural = 480 * (-1 / 5000 + 0.8 / (2 * REACH * edge))
        assert height(stepped, edge) > 0.69
        assert height(cleaned, edge).item() == pytest.approx(natural, abs=0.1)
        away = (HERTZ - edge).abs() > REACH * edge
        torch.testing.assert_close(cleaned[away], stepped[away])


def test_slopes_stay_and_twice_is_once(projection: Tensor) -> None:
    bent = torch.where(HERTZ < 11000, -HERTZ / 4000, -HERTZ / 8000)
    torch.testing.assert_close(projection @ bent, bent)
    torch.testing.assert_close(projection @ projection, projection, atol=1e-9, rtol=0)
    assert torch.equal(without_steps(N_FFT, RATE, ()), torch.eye(BINS, dtype=torch.float64))
    # Noise has steps by chance; no more is taken than they are high.
    noise = torch.randn(500, BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert (noise @ projection.T).square().sum() < 1.01 * noise.square().sum()


@pytest.mark.parametrize(
    ("edges", "why"),
    [((1000.0,), "1000 Hz is too low"), ((21000.0,), "too high"), ((8000.0, 9000.0), "9000 Hz is too near")],
)
def test_edges_that_cannot_be_are_refused(edges: tuple[float, ...], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        without_steps(N_FFT, RATE, edges)


def test_a_decoder_predicts_projected_magnitudes_and_all_else_as_before(
    codec: Codec, projection: Tensor
) -> None:
    latent = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before = codec.decoder.spectrum(latent)
        remove_steps(codec.decoder, projection)
        after = codec.decoder.spectrum(latent)
        remove_steps(codec.decoder, projection)
        twice = codec.decoder.spectrum(latent)
    wanted = before.log_magnitude.double() @ projection.T
    assert (wanted - before.log_magnitude).abs().max() > 0.1
    torch.testing.assert_close(after.log_magnitude.double(), wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(twice.log_magnitude, after.log_magnitude, atol=1e-4, rtol=0)
    assert all(torch.equal(one, other) for one, other in zip(after[1:], before[1:], strict=True))


def test_a_checkpoint_is_cleaned_in_place(
    codec: Codec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_part(tmp_path, NARROW, "codec", codec)
    given = load_part(tmp_path, NARROW, "codec").state_dict()
    main([str(tmp_path), "8000", "15600"])
    made = load_part(tmp_path, NARROW, "codec").state_dict()
    changed = {name for name, weight in made.items() if not torch.equal(weight, given[name])}
    assert changed == {
        f"decoder.{name}" for name in ("magnitude.weight", "magnitude.bias", "shortcut.weight", "bin_mean")
    }
    for arguments, said in (
        ([str(tmp_path), "80"], "coder_steps: coder edge 80 Hz is too low"),
        ([str(tmp_path / "none"), "8000"], "is no checkpoint"),
        ([str(tmp_path)], "usage"),
        ([str(tmp_path), "high"], "usage"),
    ):
        with pytest.raises(SystemExit, match=said):
            main(arguments)


def test_training_exports_without_steps(
    codec: Codec, projection: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(tmp_path / "clips")
    save_part(tmp_path / "start", NARROW, "codec", codec)
    monkeypatch.setitem(PRESETS, "edge-narrow", NARROW)
    common = [
        "preset=edge-narrow", f"checkpoint={tmp_path / 'made'}", f"data.folder={tmp_path / 'clips'}",
        f"data.cache={tmp_path / 'cache'}", "loop.steps=1", "loop.learning_rate=1e-12",
    ]  # fmt: skip
    start = tmp_path / "start"
    for name, settings in (
        (
            "codec",
            [f"codec.start={start}", "codec.freeze_encoder=true", "codec.batch=2", "codec.wave_batch=1"],
        ),
        ("codec-envelope", [f"envelope.start={start}", "envelope.pool=2", "envelope.batch=2"]),
    ):
        run_recipe(name, [*common, *settings], output=tmp_path / name)
        made = load_part(tmp_path / "made", NARROW, "codec")
        assert isinstance(made, Codec)
        mean = made.decoder.bin_mean.double()
        torch.testing.assert_close(mean, projection @ codec.decoder.bin_mean.double(), atol=1e-4, rtol=0)
        assert torch.equal(made.encoder.bin_mean, codec.encoder.bin_mean)
    with pytest.raises(ConfigError, match="coder edge 100 Hz"):
        run_recipe("codec", [*common, "codec.coder_edges_hz=[100.0]"], output=tmp_path / "low")


def test_recipes_of_our_clips_name_the_edges_of_their_coder() -> None:
    for name in ("codec", "codec-adversarial"):
        recipe = load_recipe(name)
        assert recipe.codec is not None and recipe.codec.coder_edges_hz == EDGES
        bare = load_recipe(name, ["codec.coder_edges_hz=[]"])
        plain = to_dict(bare)
        del plain["codec"]["coder_edges_hz"]
        for younger in ("captions", "latents", "own_caption_share"):
            del plain["data"][younger]
        del plain["text_wordings"], plain["envelope"]
        # Runs begun before there were edges can be resumed.
        assert bare.digest() == dict_digest(plain) != recipe.digest()
    envelope = load_recipe("codec-envelope").envelope
    assert envelope is not None and envelope.coder_edges_hz == EDGES
