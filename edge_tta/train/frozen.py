"""What a generator is trained with and does not change: a codec, and what turns its captions into features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError
from edge_tta.files import write_file
from edge_tta.model.checkpoint import (
    TOKENIZER_FILE,
    load_model_checkpoint,
    load_part,
    part_files,
    read_config,
    read_note,
    save_config,
)
from edge_tta.model.codec import Codec
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.model.text_source import TextSource, read_text_source, save_text_source
from edge_tta.train.couple_data import CODEC, latents_of
from edge_tta.train.public_text import PublicText, PublicTextConfig
from edge_tta.train.text_conditioner import CompactText, TextConditioner


@dataclass(frozen=True)
class FrozenParts:
    """Codec and text of a training run."""

    codec: Codec
    codec_directory: Path
    """Checkpoint that the codec comes from."""
    text: TextConditioner
    source: TextSource | None
    """Public networks behind ``text``; None for a compact text encoder."""
    text_directory: Path | None = None
    """Checkpoint that the compact text encoder comes from."""

    def require_text_of(self, directory: Path) -> None:
        """Check that a generator was trained on the features of the same text networks.

        Raises:
            ConfigError: it was trained on others; of compact encoders nothing is recorded.
        """
        found = read_text_source(directory)
        if found != self.source:
            theirs, ours = (
                "a compact text encoder" if source is None else _named(source)
                for source in (found, self.source)
            )
            raise ConfigError(f"{directory} was trained on the features of {theirs}, this run has {ours}")

    def require_latents_of(self, directory: Path) -> None:
        """Check that a generator was trained on the latents of this codec.

        What its weights say counts, then the codec beside them; a folder with neither is not checked.

        Raises:
            ConfigError: it was trained on those of another codec.
        """
        found = read_note(directory, "generator", CODEC)
        if found is None and part_files(directory, "codec"):
            beside = load_part(directory, read_config(directory), "codec")
            assert isinstance(beside, Codec)
            found = latents_of(beside)
        ours = latents_of(self.codec)
        if found is not None and found != ours:
            raise ConfigError(
                f"{directory} has a generator for the latents of another codec ({found[:12]}, this run has "
                f"{ours[:12]} of {self.codec_directory}); give the codec it was trained with (generator.codec), or "
                "train it again"
            )

    def accompany(self, directory: Path, model: ModelConfig) -> None:
        """Put beside a trained generator what it needs and was read from elsewhere.

        Raises:
            ConfigError: the folder holds another model.
            OutputError: it cannot be written.
        """
        taken = _elsewhere(self.codec_directory, directory, "codec")
        if self.text_directory is not None:
            text = _elsewhere(self.text_directory, directory, "text_encoder")
            taken += [*text, self.text_directory / TOKENIZER_FILE] if text else []
        if taken:
            save_config(directory, model)
        for path in taken:
            write_file(directory / path.name, path.read_bytes())
        if self.source is not None:
            save_text_source(directory, self.source)


def _elsewhere(source: Path, directory: Path, part: str) -> list[Path]:
    """Files of a part that is not read from the folder itself."""
    return [] if source.resolve() == directory.resolve() else part_files(source, part)


def codec_digest(directory: Path) -> str:
    """SHA-256 over the codec's files: a copied checkpoint shares the latents of the one it was copied from."""
    digest = hashlib.sha256()
    for path in part_files(directory, "codec"):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def load_frozen(
    model: ModelConfig,
    checkpoint: Path,
    codec: Path | None,
    public: PublicTextConfig | None,
    text_cache: Path,
) -> FrozenParts:
    """Read what a generator is trained with.

    Args:
        model: what is trained; codec and text encoder have to be those it is made for, however the codec's frames are
            stacked in the checkpoint they come from.
        checkpoint: model checkpoint that is trained; its text encoder conditions unless ``public`` is given.
        codec: checkpoint of the codec, and of the text encoder where ``checkpoint`` has none; None for ``checkpoint``.
        public: public networks in place of the text encoder.
        text_cache: folder for text features.

    Raises:
        ConfigError: a part is missing or has another shape than ``model`` has, or ``checkpoint`` has a codec of its
            own, or is on public text itself.
        DataError: a folder of public weights is missing or damaged.
        MissingExtraError: public networks are asked for and transformers is not installed.
    """
    place = checkpoint if codec is None else codec
    if part_files(checkpoint, "codec") and codec_digest(place) != codec_digest(checkpoint):
        raise ConfigError(
            f"{checkpoint} has a codec of its own, other than that of {place}; choose another checkpoint"
        )
    found = _load_codec(place, model)
    if public is not None:
        t5, clap = public.folders()
        text = PublicText(t5, text_cache, clap, public.max_tokens)
        return _fitting(FrozenParts(found, place, text, text.source), model)
    if read_text_source(checkpoint) is not None:
        raise ConfigError(f"{checkpoint} is told its texts by a public T5; give generator.public_text.t5")
    told = checkpoint if part_files(checkpoint, "text_encoder") else place
    loaded = load_model_checkpoint(told, parts=("text_encoder",))
    assert isinstance(loaded.text_encoder, TextEncoder)
    if loaded.tokenizer is None:
        raise ConfigError(f"{told} has no tokenizer.model; train the text encoder first")
    compact = CompactText(loaded.text_encoder, loaded.tokenizer, text_cache)
    return _fitting(FrozenParts(found, place, compact, None, told), model)


def _load_codec(directory: Path, model: ModelConfig) -> Codec:
    """Codec of a checkpoint with its frames stacked as a model has them."""
    if read_config(directory).codec_alone() != model.codec_alone():
        raise ConfigError(f"{directory} holds a codec of another shape than {model.name} has")
    found = load_part(directory, model, "codec")
    assert isinstance(found, Codec)
    return found


def _fitting(frozen: FrozenParts, model: ModelConfig) -> FrozenParts:
    """The parts, once the text is what a model is made for."""
    if frozen.text_directory is not None:
        told = read_config(frozen.text_directory)
        if told.text_encoder != model.text_encoder:
            raise ConfigError(
                f"{frozen.text_directory} holds a text encoder of another shape than {model.name} has"
            )
    if frozen.text.width != model.generator.text_width:
        raise ConfigError(
            f"the text features are {frozen.text.width} wide, {model.name} takes {model.generator.text_width}"
        )
    return frozen


def _named(source: TextSource) -> str:
    clap = f" and the CLAP {source.clap_sha256[:12]}" if source.clap_sha256 else ""
    return f"the T5 {source.t5_sha256[:12]}{clap} with up to {source.max_tokens} tokens"
