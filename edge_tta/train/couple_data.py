"""Stored couples as training data: batches with their own captions, of this codec and text encoder or of none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_tta.config import dict_digest
from edge_tta.errors import DataError
from edge_tta.flow.couple_store import CoupleSet, digest_of
from edge_tta.flow.couples import Couples
from edge_tta.flow.path import Condition
from edge_tta.model.codec import Codec
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.text_conditioner import TextConditioner

SHARD_PATTERN = "couples-*.safetensors"
"""File names of the shards in a folder of couples."""

CODEC, TEXT_ENCODER = "codec_sha256", "text_encoder_sha256"
"""Keys of a shard's origin."""


def latent_digest(codec: Codec) -> str:
    """SHA-256 of what decides what a latent means: the encoder and the statistics; a new decoder leaves it as it is."""
    own = ("decoder.latent_mean", "decoder.latent_std")
    return digest_of(
        {
            name: value.detach().cpu()
            for name, value in codec.state_dict().items()
            if name.startswith("encoder.") or name in own
        }
    )


def latents_of(codec: Codec) -> str:
    """Which latents a generator makes for a codec: ``latent_digest``, with the number of frames that are stacked."""
    stack, digest = codec.decoder.config.stack, latent_digest(codec)
    return digest if stack == 1 else f"{stack}x{digest}"


def origin_of(codec: Codec, text: TextConditioner) -> dict[str, str]:
    """What a shard says about the codec and the text features that its couples belong to."""
    return {CODEC: latents_of(codec), TEXT_ENCODER: text.digest}


def couple_shards(folder: Path) -> list[Path]:
    """Shards that ``edge-tta couples`` left in a folder.

    Raises:
        DataError: none.
    """
    shards = sorted(folder.glob(SHARD_PATTERN))
    if not shards:
        raise DataError(f"{folder}: holds no couples; make them with edge-tta couples")
    return shards


@dataclass(frozen=True)
class CoupleBatch:
    """Couples of equal length with the condition they were made for."""

    couples: Couples
    condition: Condition
    captions: tuple[str, ...]
    step: int
    """Step the batch was drawn for."""


class CoupleData(CaptionFeatures):
    """Couples of a folder in memory; ``encode`` has to be given ``captions`` before a batch is drawn.

    Args:
        folder: where ``edge-tta couples`` left its shards.
        origin: digests of the codec and text encoder that are trained with.

    Raises:
        DataError: no shards, a damaged one, or one made with another codec or text encoder.
    """

    def __init__(self, folder: Path, origin: Mapping[str, str]) -> None:
        super().__init__()
        shards = couple_shards(folder)
        self.stored = CoupleSet(shards)
        self.digest = dict_digest({"documents": self.stored.documents})
        """SHA-256 of what the couples are and were made with."""
        for path, document in zip(shards, self.stored.documents, strict=True):
            for key, what in ((CODEC, "codec"), (TEXT_ENCODER, "text encoder")):
                found = document.get("origin", {}).get(key, "")
                if found != origin[key]:
                    raise DataError(
                        f"{path}: made with another {what} ({found[:12] or 'unknown'}, not {origin[key][:12]}); "
                        f"make the couples again"
                    )

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def captions(self) -> set[str]:
        """Every caption, once."""
        return {record["caption"] for record in self.stored.records}

    def batch(self, seed: int, step: int, frames: int) -> CoupleBatch:
        """Whole couples of one length, about ``frames`` latent frames together, as a function of (seed, step)."""
        drawn = self.stored.batch(seed, step, frames)
        return CoupleBatch(drawn.couples, self.condition(drawn.captions, drawn.seconds), drawn.captions, step)
