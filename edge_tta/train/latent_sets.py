"""Training and validation windows of the generator: encoded from clips once and kept, or brought along without clips.

A folder of latents says in ``latents.json`` which codec made it, so it can be taken to another machine by itself:
82 MB for 5,160 windows of clips that are 1.3 GB decoded, and nothing has to be decoded there. It says what the windows
were drawn from as well: other clips, captions, lengths or seeds have a folder of their own.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge_tta.config import ModelConfig, dict_digest, to_dict
from edge_tta.errors import ConfigError, DataError
from edge_tta.files import make_folder, write_file
from edge_tta.model.codec import Codec
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.clips import Report, decoded_clips
from edge_tta.train.couple_data import latent_digest
from edge_tta.train.data.captions import OWN_CAPTION_SHARE, Captioner
from edge_tta.train.data.clip_cache import ClipCache
from edge_tta.train.data.windows import WindowBuilder
from edge_tta.train.frozen import FrozenParts, codec_digest
from edge_tta.train.latents import LatentSet, build_latent_shard, windows_in
from edge_tta.train.recipes import DataConfig, Recipe

logger = logging.getLogger(__name__)

SHARD_WINDOWS = 250
"""Windows encoded and stored at a time; an interrupted build goes on at the next shard."""
ORIGIN = "latents.json"
SPLITS = ("train", "val")
"""Places are part of the seeds of windows."""


def latent_sets(
    recipe: Recipe,
    model: ModelConfig,
    frozen: FrozenParts,
    report: Report,
    splits: tuple[str, ...] = SPLITS,
) -> list[LatentSet | None]:
    """Windows of each split, with the text features of their captions; None for a split that has none.

    Raises:
        ConfigError: neither clips nor latents are given.
        DataError: clips or latents cannot be read, or another codec made the latents.
    """
    data = recipe.data
    counts = {"train": data.num_windows, "val": data.num_validation_windows}
    totals = {split: counts[split] for split in splits}
    if data.latents:
        shards, totals = _brought(Path(data.latents), frozen.codec, splits), {}
    else:
        shards = _built(recipe, model, frozen, report, totals)
    decoder = frozen.codec.decoder
    extra = recipe.generator.sample_prompts if recipe.generator is not None else ()
    sets: list[LatentSet | None] = []
    for split, found in zip(splits, shards, strict=True):
        # A run that wanted more may have left them: a set follows from its settings alone.
        count = totals.get(split)
        latents = None
        if found:
            source = _source(found[0].parent)
            latents = LatentSet(found, decoder.latent_mean, decoder.latent_std, model, count, source)
            encode_captions(latents, {*latents.captions, *extra}, frozen, report)
        sets.append(latents)
    return sets


def encode_captions(
    features: CaptionFeatures, captions: Iterable[str], frozen: FrozenParts, report: Report
) -> None:
    """Give ``features`` the text features of captions."""
    features.encode(frozen.text, captions, lambda done, total: report("encoding captions", done, total))


def _built(
    recipe: Recipe, model: ModelConfig, frozen: FrozenParts, report: Report, totals: dict[str, int]
) -> list[list[Path]]:
    """Shards of each split in the cache; those that are missing or too short are made from the clips."""
    data = recipe.data
    clips, cache = decoded_clips(data, model.audio.sample_rate, report)
    captioner = Captioner.load(data.captions)
    digest = _data_digest(data, cache, captioner)
    codec = codec_digest(frozen.codec_directory)
    folder = Path(data.cache) / f"latents-{recipe.preset}-{codec[:16]}-{digest[:16]}"
    _sign(folder, frozen.codec, digest)
    found: list[list[Path]] = []
    for split, total in totals.items():
        shards: list[Path] = []
        found.append(shards)
        if not any(clip.split == split for clip in clips):
            continue
        builder = WindowBuilder(clips, cache, captioner, data.windows, split, data.own_caption_share)
        for start in range(0, total, SHARD_WINDOWS):
            path = folder / f"{split}-{start // SHARD_WINDOWS:04d}.npz"
            count = min(SHARD_WINDOWS, total - start)
            if not path.is_file() or windows_in(path) < count:

                def tell(
                    done: int, _: int, offset: int = start, split: str = split, total: int = total
                ) -> None:
                    report(f"encoding {split} windows", offset + done, total)

                seed = (data.seed, SPLITS.index(split), start // SHARD_WINDOWS)
                build_latent_shard(path, builder, frozen.codec, model.audio, count, seed, tell)
            shards.append(path)
    return found


def _data_digest(data: DataConfig, cache: ClipCache, captioner: Captioner) -> str:
    """SHA-256 of everything that windows are drawn from, however many there are."""
    drawn_from: dict[str, Any] = {
        "clips": cache.digest,
        "captions": captioner.digest(),
        "windows": to_dict(data.windows),
        "seed": data.seed,
    }
    # Windows of earlier releases, which had no other share, stay in use.
    if data.own_caption_share != OWN_CAPTION_SHARE:
        drawn_from["own_caption_share"] = data.own_caption_share
    return dict_digest(drawn_from)


def _sign(folder: Path, codec: Codec, digest: str) -> None:
    """Write down which codec a folder of latents belongs to, and what its windows were drawn from."""
    if not (folder / ORIGIN).is_file():
        make_folder(folder)
        origin = {"codec": latent_digest(codec), "data": digest}
        write_file(folder / ORIGIN, (json.dumps(origin) + "\n").encode())


def _source(folder: Path) -> str:
    """Digest of what a folder's windows were drawn from; empty where an earlier release made it."""
    source: str = json.loads((folder / ORIGIN).read_text(encoding="utf-8")).get("data", "")
    return source


def brought_latents(folder: Path, splits: tuple[str, ...]) -> tuple[dict[str, str], list[list[Path]]]:
    """What a folder of latents that was made elsewhere says of its origin, and all its shards of each split.

    Raises:
        ConfigError: it does not say.
        DataError: what it says is damaged, or the first split has no shards.
    """
    try:
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
        told = {"codec": str(origin["codec"]), **({"data": str(origin["data"])} if "data" in origin else {})}
    except OSError as error:
        raise ConfigError(f"data.latents: {folder} has no {ORIGIN} ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / ORIGIN}: damaged ({error})") from error
    found = [sorted(folder.glob(f"{split}-*.npz")) for split in splits]
    if not found[0]:
        raise DataError(f"{folder}: no shards of the {splits[0]} split")
    return told, found


def _brought(folder: Path, codec: Codec, splits: tuple[str, ...]) -> list[list[Path]]:
    """All shards of each split in a folder that was made elsewhere, by this codec."""
    origin, found = brought_latents(folder, splits)
    if origin["codec"] != latent_digest(codec):
        raise DataError(f"{folder}: these latents were made by another codec")
    if "data" not in origin:
        logger.warning(
            "%s: made by an earlier release, which did not note when the sounds of a mixture begin; "
            "windows that are cut keep the whole caption",
            folder,
        )
    return found
