"""Training of the SentencePiece tokenizer: unigram, byte fallback, lower-cased text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import repeat

from edge_tta.errors import ConfigError, MissingExtraError
from edge_tta.text import normalise


def weighted_words(words: Iterable[str]) -> Iterator[str]:
    """Repeat words as often as their rank calls for, after Zipf's law; the commonest come first.

    Counted once each, tens of thousands of words would drown the few thousand that prompts are made of.
    """
    for rank, word in enumerate(words):
        yield from repeat(word, max(1, round(2000 / (rank + 10))))


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, words: Iterable[str] = (), required_characters: str = ""
) -> bytes:
    """Train a tokenizer deterministically.

    Args:
        texts: captions; normalised here as the runtime normalises prompts, so the model needs no rules of its own.
        vocab_size: upper bound of pieces; a small corpus may give fewer.
        words: words that captions need not hold; the more often one is given, the likelier it is one piece.
        required_characters: get a piece even if they are too rare to earn one, instead of their bytes.

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
    # A word is a line and weighs as much as a caption: everyday words become pieces, captions keep theirs.
    given = [normalise(word) for word in words]
    # Equal words are merged before pieces are looked for, and only what two different words share is found: without
    # a second form no count, however large, makes a word one piece.
    lines += given + [f"{word}," for word in dict.fromkeys(given)]
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
            required_chars=required_characters,
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
