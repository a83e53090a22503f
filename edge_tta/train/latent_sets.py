"""Training and validation windows of the generator: encoded from clips once and kept, or brought along without clips.

A folder of latents says in ``latents.json`` which codec made it, so it can be taken to another machine by itself:
82 MB for 5,160 windows of clips that are 1.3 GB decoded, and nothing has to be decoded there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError, DataError
from edge_tta.files import make_folder, write_file
from edge_tta.model.codec import Codec
from edge_tta.train.caption_features import CaptionFeatures
from edge_tta.train.clips import Report, decoded_clips
from edge_tta.train.couple_data import latent_digest
from edge_tta.train.data.captions import Captioner
from edge_tta.train.data.windows import WindowBuilder
from edge_tta.train.frozen import FrozenParts, codec_digest
from edge_tta.train.latents import LatentSet, build_latent_shard
from edge_tta.train.recipes import DataConfig, Recipe

SHARD_WINDOWS = 250
"""Windows encoded and stored at a time; an interrupted build goes on at the next shard."""
ORIGIN = "latents.json"


def latent_sets(
    recipe: Recipe,
    model: ModelConfig,
    frozen: FrozenParts,
    report: Report,
    splits: tuple[str, ...] = ("train", "val"),
) -> list[LatentSet | None]:
    """Windows of each split, with the text features of their captions; None for a split that has none.

    Raises:
        ConfigError: neither clips nor latents are given.
        DataError: clips or latents cannot be read, or another codec made the latents.
    """
    if recipe.data.latents:
        shards = _brought(Path(recipe.data.latents), frozen.codec, splits)
    else:
        shards = _built(recipe, model, frozen, report, splits)
    decoder = frozen.codec.decoder
    extra = recipe.generator.sample_prompts if recipe.generator is not None else ()
    sets: list[LatentSet | None] = []
    for found in shards:
        latents = LatentSet(found, decoder.latent_mean, decoder.latent_std, model) if found else None
        if latents is not None:
            encode_captions(latents, {*latents.captions, *extra}, frozen, report)
        sets.append(latents)
    return sets


def encode_captions(
    features: CaptionFeatures, captions: Iterable[str], frozen: FrozenParts, report: Report
) -> None:
    """Give ``features`` the text features of captions."""
    features.encode(frozen.text, captions, lambda done, total: report("encoding captions", done, total))


def _built(
    recipe: Recipe, model: ModelConfig, frozen: FrozenParts, report: Report, splits: tuple[str, ...]
) -> list[list[Path]]:
    """Shards of each split in the cache; those that are missing are made from the clips."""
    data = recipe.data
    clips, cache = decoded_clips(data, model.audio.sample_rate, report)
    captioner = Captioner.load(data.captions)
    folder = _folder(recipe, frozen)
    _sign(folder, frozen.codec)
    totals = {"train": data.num_windows, "val": data.num_validation_windows}
    found: list[list[Path]] = []
    for split in splits:
        shards: list[Path] = []
        found.append(shards)
        if not any(clip.split == split for clip in clips):
            continue
        builder, total = WindowBuilder(clips, cache, captioner, data.windows, split), totals[split]
        for start in range(0, total, SHARD_WINDOWS):
            path = folder / f"{split}-{start // SHARD_WINDOWS:04d}.npz"
            if not path.is_file():

                def tell(
                    done: int, _: int, offset: int = start, split: str = split, total: int = total
                ) -> None:
                    report(f"encoding {split} windows", offset + done, total)

                count, seed = min(SHARD_WINDOWS, total - start), data.seed + start // SHARD_WINDOWS
                build_latent_shard(path, builder, frozen.codec, model.audio, count, seed, tell)
            shards.append(path)
    return found


def _folder(recipe: Recipe, frozen: FrozenParts) -> Path:
    """Where the cache keeps the latents of a recipe."""
    key = f"{codec_digest(frozen.codec_directory)[:16]}-{recipe.data.seed}"
    if recipe.data.captions != DataConfig.captions:
        key += f"-{Path(recipe.data.captions).stem}"
    return Path(recipe.data.cache) / f"latents-{recipe.preset}-{key}"


def _sign(folder: Path, codec: Codec) -> None:
    """Write down which codec a folder of latents belongs to."""
    if not (folder / ORIGIN).is_file():
        make_folder(folder)
        write_file(folder / ORIGIN, (json.dumps({"codec": latent_digest(codec)}) + "\n").encode())


def _brought(folder: Path, codec: Codec, splits: tuple[str, ...]) -> list[list[Path]]:
    """All shards of each split in a folder that was made elsewhere."""
    try:
        origin = json.loads((folder / ORIGIN).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"data.latents: {folder} has no {ORIGIN} ({error.strerror or error})") from error
    except ValueError as error:
        raise DataError(f"{folder / ORIGIN}: damaged ({error})") from error
    if origin != {"codec": latent_digest(codec)}:
        raise DataError(f"{folder}: these latents were made by another codec")
    found = [sorted(folder.glob(f"{split}-*.npz")) for split in splits]
    if not found[0]:
        raise DataError(f"{folder}: no shards of the {splits[0]} split")
    return found
