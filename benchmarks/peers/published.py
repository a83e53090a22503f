"""Parameter counts that were published, beside those of the parts as they are rebuilt here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A count and where it stands."""

    parameters: int
    tolerance: float
    """Share by which the rebuilt part may differ: the rounding of the published figure."""
    source: str


PUBLISHED: dict[tuple[str, str], Published] = {
    ("stable-audio-open-small", "text_encoder"): Published(
        109_600_000, 0.005, "encoder of T5-base (arXiv 1910.10683), 109.6 M of 220 M"
    ),
    ("stable-audio-open-small", "generator"): Published(
        340_879_488, 0.0, "0.34 B (arXiv 2505.08175): 341,126,912 less duration and zero shifts"
    ),
    ("stable-audio-open-small", "decoder"): Published(
        78_000_000, 0.005, "half of the autoencoder's 156 M (arXiv 2407.14358)"
    ),
    ("meanaudio-s", "text_encoder"): Published(
        341_000_000, 0.005, "encoder of FLAN-T5-large (arXiv 2210.11416), 341 M of 780 M"
    ),
    ("meanaudio-s", "clap_text"): Published(125_000_000, 0.005, "RoBERTa-base (arXiv 1907.11692) and two Linears"),
    ("meanaudio-s", "generator"): Published(120_000_000, 0.005, "120 M (arXiv 2508.06098)"),
    ("meanaudio-s", "mel_decoder"): Published(
        99_100_000, 0.001, "decoder of the VAE for 16 kHz, counted in the weights of MMAudio (arXiv 2412.15322)"
    ),
    ("meanaudio-s", "vocoder"): Published(
        112_000_000, 0.005, "112 M, the large one of BigVGAN (arXiv 2206.04658)"
    ),
}  # fmt: skip
"""By system and part."""
