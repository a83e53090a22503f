"""A checkpoint that is told its texts by a public T5, made whole for export with a local copy of that T5."""

from __future__ import annotations

from pathlib import Path

from edge_tta.errors import ConfigError
from edge_tta.evaluate.local_weights import folder_digest, read_file
from edge_tta.model.checkpoint import ModelCheckpoint, load_model_checkpoint
from edge_tta.model.public_t5 import FILES, TOKENIZER, T5TextEncoder, load_t5, load_t5_tokenizer
from edge_tta.model.text_source import read_text_source


def load_for_export(directory: Path, t5: Path | None = None) -> ModelCheckpoint:
    """A complete checkpoint.

    Args:
        directory: model checkpoint.
        t5: folder of the T5 it was trained with; None for a checkpoint with a text encoder of its own.

    Raises:
        ConfigError: a part is missing; a T5 is needed, not needed or another one; or the model was trained with CLAP.
        DataError: the T5 folder is damaged.
        MissingExtraError: transformers is not installed.
    """
    source = read_text_source(directory)
    if source is None:
        if t5 is not None:
            raise ConfigError(f"{directory} has a text encoder of its own; leave --text-encoder out")
        return load_model_checkpoint(directory)
    if source.clap_sha256:
        raise ConfigError(
            f"{directory} was trained with CLAP's sentence vector, which needs a second tokenizer that no bundle "
            "has; train without generator.public_text.clap"
        )
    if t5 is None:
        raise ConfigError(
            f"{directory} is told its texts by a public T5; give the folder of that T5 with --text-encoder"
        )
    encoder = T5TextEncoder(load_t5(t5))
    load_t5_tokenizer(t5, source.max_tokens)
    found = folder_digest(t5, FILES)
    if found != source.t5_sha256:
        raise ConfigError(
            f"{t5} is another T5 ({found[:12]}) than {directory} was trained with ({source.t5_sha256[:12]})"
        )
    checkpoint = load_model_checkpoint(directory, parts=("generator", "codec"))
    checkpoint.text_encoder, checkpoint.tokenizer = encoder.eval(), read_file(t5 / TOKENIZER)
    return checkpoint
