"""Training of the SentencePiece tokenizer: unigram, byte fallback, lower-cased text."""

from __future__ import annotations

import io
from collections.abc import Iterable

from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.text import normalise


def train_tokenizer(texts: Iterable[str], vocab_size: int, words: Iterable[str] = ()) -> bytes:
    """Train a tokenizer deterministically.

    Args:
        texts: captions; normalised here as the runtime normalises prompts, so the model needs no rules of its own.
        vocab_size: upper bound of pieces; a small corpus may give fewer.
        words: common words that should be single pieces even if captions never use them.

    Returns:
        Serialised SentencePiece model; ids 0 unknown, 1 end of sentence, then bytes and pieces.

    Raises:
        ConfigError: too little text for the vocabulary.
    """
    try:
        import sentencepiece
    except ImportError as error:
        raise MissingExtraError("train", "training a tokenizer") from error
    lines = [normalise(text) for text in texts]
    # A word list line weighs as much as a caption: everyday words become pieces, captions keep their own.
    lines += [normalise(word) for word in words]
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            byte_fallback=True,
            character_coverage=0.9995,
            normalization_rule_name="identity",
            unk_id=0,
            eos_id=1,
            bos_id=-1,
            pad_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ConfigError(
            f"tokenizer: {len(lines)} lines do not give {vocab_size} pieces ({error})"
        ) from error
    return model.getvalue()
