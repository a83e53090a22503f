"""Prompt to token ids: normalisation, length policy and a SentencePiece model."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_tta.errors import BundleError, RequestError

MAX_PROMPT_BYTES = 4096
"""Longest prompt in UTF-8 bytes; anything longer is refused before any work."""

_INVISIBLE = frozenset({"Cc", "Cf"})
"""Unicode categories that are dropped: control and format characters (zero width, text direction, soft hyphen)."""


@dataclass(frozen=True)
class TokenizedPrompt:
    """Token ids of one prompt."""

    ids: NDArray[np.int64]
    """int64 [T], the last one being end of sentence."""
    dropped: int
    """Tokens cut off because the prompt was too long for the model."""
    text: str
    """The prompt after normalisation."""
    in_bytes: int
    """Tokens, also among those cut off, that are single bytes of characters without a token of their own."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a caller should know of the prompt, each a line."""
        found = []
        if self.dropped:
            found.append(
                f"the prompt is too long: its last {self.dropped} tokens were left out (limit {len(self.ids)})"
            )
        if 2 * self.in_bytes > len(self.ids) - 1 + self.dropped:
            found.append(
                "most of the prompt is in characters that the model does not know: describe the sound in English"
            )
        return tuple(found)


def normalise(prompt: str) -> str:
    """Prompt as the model reads it: NFKC, no control or format characters, lower case, single spaces.

    The tokenizer and the text encoder are trained on text of this form. Applying it twice changes nothing more.

    Raises:
        RequestError: empty, too long, invalid Unicode, or without any letter or digit.
    """
    if not isinstance(prompt, str):
        raise RequestError(f"prompt must be text, got {type(prompt).__name__}")
    try:
        size = len(prompt.encode("utf-8"))
    except UnicodeEncodeError:
        raise RequestError("prompt is not valid Unicode: it holds a lone surrogate") from None
    if size > MAX_PROMPT_BYTES:
        raise RequestError(f"prompt has {size} bytes; at most {MAX_PROMPT_BYTES} are allowed")
    if "\x00" in prompt:
        raise RequestError("prompt holds a NUL character")
    text = "".join(
        character
        for character in unicodedata.normalize("NFKC", prompt)
        if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    # Lower case can decompose letters, and a dropped character may have kept two from composing.
    text = " ".join(unicodedata.normalize("NFKC", text.lower()).split())
    if not text:
        raise RequestError("prompt is empty; describe a sound, as in 'rain on a tin roof'")
    if not any(character.isalnum() for character in text):
        raise RequestError("prompt holds no letter or digit; describe a sound in words")
    return text


def prompt_lines(text: str) -> list[tuple[int, str]]:
    """Line numbers and prompts of a text with a prompt a line; empty lines and those that start with # are left out."""
    return [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]


class Tokenizer:
    """SentencePiece model with the length policy of one bundle.

    Args:
        model: serialised SentencePiece model.
        max_tokens: longest sequence including end of sentence.

    Raises:
        BundleError: the model cannot be read.
    """

    def __init__(self, model: bytes, max_tokens: int) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            self._processor.LoadFromSerializedProto(model)
        except (RuntimeError, TypeError, ValueError) as error:
            raise BundleError(f"tokenizer.model: not a SentencePiece model ({error})") from error
        self.max_tokens = max_tokens
        self.eos_id = int(self._processor.eos_id())
        if self.eos_id < 0:
            raise BundleError("tokenizer.model: has no end-of-sentence piece")

    @classmethod
    def from_bytes(cls, model: bytes, max_tokens: int) -> Tokenizer:
        """Tokenizer of a serialised SentencePiece model."""
        return cls(model, max_tokens)

    @property
    def vocab_size(self) -> int:
        """Number of pieces."""
        return int(self._processor.get_piece_size())

    def pieces(self) -> list[str]:
        """All pieces in the order of their ids; U+2581 marks the beginning of a word."""
        return [str(self._processor.id_to_piece(index)) for index in range(self.vocab_size)]

    def encode(self, prompt: str) -> TokenizedPrompt:
        """Tokenize a prompt; what does not fit is cut at the end and counted.

        Raises:
            RequestError: see ``normalise``.
            BundleError: the model is damaged in a way that shows only now.
        """
        text = normalise(prompt)
        try:
            pieces = list(self._processor.encode(text))
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"tokenizer.model: cannot encode {text[:40]!r} ({error})") from error
        kept = pieces[: self.max_tokens - 1]
        ids = np.array([*kept, self.eos_id], dtype=np.int64)
        in_bytes = sum(map(self._processor.is_byte, pieces))
        return TokenizedPrompt(ids, len(pieces) - len(kept), text, in_bytes)
