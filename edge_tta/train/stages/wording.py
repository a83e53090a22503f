"""Teaching the text encoder that wordings of one label mean one sound: their features become those of its plain words.

A generator learns its labels from a few captions each and is at home in their features; other words for the same thing
land beside them, and training the generator on such words helps little (docs/concepts/text-encoder.md has the
figures). Here the encoder moves instead: told any wording, it has to give the features that it gave for the plain
words at the start, while captions of the grammar keep theirs. Neither recordings nor a generator are needed.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from numpy.random import Generator, default_rng
from torch import Tensor, nn

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError
from edge_tta.flow.couple_store import weights_digest
from edge_tta.model.checkpoint import load_model_checkpoint, save_part
from edge_tta.model.text_encoder import TextEncoder
from edge_tta.ranges import COUNT, SEED, SHARE, require_ranges
from edge_tta.text import Tokenizer
from edge_tta.train.data.captions import Captioner
from edge_tta.train.text_conditioner import pad_ids

Kind = Literal["wording", "stored", "joined", "plain"]


@dataclass(frozen=True)
class WordingStageConfig:
    """What the encoder is told."""

    captions: str = "captions"
    """Grammar the wordings come from, a packaged name or a TOML file."""
    layers: int = 4
    """Last layers of the encoder that learn; the others and the embeddings stay."""
    rows: int = 64
    """Prompts in a batch."""
    stored_share: float = 0.25
    """Share of rows told captions of the grammar, of one label or two, whose features stay what they were."""
    joined_share: float = 0.2
    """Share of rows told two labels, each as likely in a free wording as not, joined as the grammar joins captions."""
    context_share: float = 0.3
    """Share of the wordings of one label that a scene follows which says nothing about the sound."""
    plain_share: float = 0.0
    """Share of rows told the plain words themselves: generators are most sensitive to where those lie."""
    teacher: str = ""
    """Checkpoint whose text encoder says what plain words and captions mean; by default the one that is trained, as it
    is at the start. A run that goes on from an earlier one names what that began with."""
    held_out: float = 0.1
    """Share of the wordings that is kept for validation, by a digest of their text."""
    dropped_tokens: float = 0.05
    """Share of tokens that is lost on average, the end of sentence excepted."""
    seed: int = 0

    def __post_init__(self) -> None:
        kinds = ("stored_share", "joined_share", "plain_share")
        require_ranges(self, layers=COUNT, rows=COUNT, seed=SEED, **dict.fromkeys(kinds, SHARE))
        require_ranges(self, context_share=SHARE, held_out=SHARE, dropped_tokens=SHARE)
        if (total := sum(getattr(self, name) for name in kinds)) > 1:
            raise ConfigError(f"{', '.join(kinds)} add up to {total:g}, more than 1")


class WordingBatch(NamedTuple):
    """Prompts in free and in plain words; one row per prompt."""

    told: Tensor
    """int64 [B, T], ids of the free wording."""
    told_mask: Tensor
    """bool [B, T], True where a token is real and not lost."""
    plain: Tensor
    """int64 [B, U], ids of what the encoder at the start is told."""
    plain_mask: Tensor
    """bool [B, U]."""


def is_held_out(wording: str, share: float) -> bool:
    """Whether a wording is kept for validation: decided by its text, whatever else the grammar holds."""
    return int.from_bytes(hashlib.sha256(wording.encode()).digest()[:4], "big") < share * 2**32


def spread(features: Tensor, mask: Tensor, onto: Tensor) -> Tensor:
    """Features of a short text over the tokens of another, in order: the first on the first, the last on the last.

    Args:
        features: float [B, U, D].
        mask: bool [B, U], True on the first tokens of every row.
        onto: bool [B, T], tokens that get one; at least one a row.

    Returns:
        float [B, T, D]; what stands where ``onto`` is False has no meaning.
    """
    count, length = onto.sum(1, keepdim=True), mask.sum(1, keepdim=True)
    place = (torch.cumsum(onto, 1) - 1).clamp(min=0)
    steps = (count - 1).clamp(min=1)
    source = torch.where(count > 1, (place * (length - 1) + (count - 1) // 2) // steps, length - 1)
    index = source.clamp(max=features.shape[1] - 1)[..., None].expand(-1, -1, features.shape[2])
    return torch.gather(features, 1, index)


class WordingStage:
    """The text encoder, taught by itself as it was at the start, or by the one that an earlier run began with.

    Args:
        config: stage settings.
        model: model configuration.
        checkpoint: model checkpoint whose text encoder and tokenizer are the start.

    Raises:
        ConfigError: the checkpoint has no compact text encoder, or one of fewer layers; the teacher's is another; the
            grammar has no free wordings to learn from or to hold out.
    """

    def __init__(self, config: WordingStageConfig, model: ModelConfig, checkpoint: Path) -> None:
        self.config, self.model = config, model
        self.student, tokenizer = _text_encoder(checkpoint)
        if config.layers > len(self.student.layers):
            raise ConfigError(
                f"text_wordings.layers is {config.layers}, the encoder has {len(self.student.layers)}"
            )
        self.tokenizer = Tokenizer(tokenizer, model.text_encoder.max_tokens)
        # On a CPU the fused attention's backward pass takes half of a step of texts as short as these.
        self.student.explicit_attention = True
        self.start = copy.deepcopy(self.student).requires_grad_(False).eval()
        if config.teacher:
            teacher, its_tokenizer = _text_encoder(Path(config.teacher))
            if its_tokenizer != tokenizer or len(teacher.layers) != len(self.student.layers):
                raise ConfigError(f"{config.teacher} has another text encoder or tokenizer than {checkpoint}")
            self.start.load_state_dict(teacher.state_dict())
        self.student.requires_grad_(False)
        self.student.layers[-config.layers :].requires_grad_(True)
        grammar = Captioner.load(config.captions)
        self.grammar_digest = grammar.digest()
        self.captioner = _only(grammar, config.held_out, held=False)
        self.validation = _only(grammar, config.held_out, held=True)
        self.device = torch.device("cpu")

    def origin(self) -> dict[str, str]:
        """The encoder that says what words mean, and the grammar."""
        return {"teacher": weights_digest(self.start), "captions": self.grammar_digest}

    def modules(self) -> dict[str, nn.Module]:
        """The student."""
        return {"text_encoder": self.student}

    def averaged(self) -> Iterable[str]:
        """The student's average is what ships."""
        return ("text_encoder",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """One optimiser, for the layers that learn."""
        return {"text_encoder": [weight for weight in self.student.parameters() if weight.requires_grad]}

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def to(self, device: torch.device) -> None:
        """Move both encoders."""
        self.device = device
        self.student.to(device)
        self.start.to(device)

    def batch(self, step: int) -> WordingBatch:
        """Prompts of random labels."""
        rng = default_rng([self.config.seed, step])
        return self._drawn(self.captioner, rng, self.config.dropped_tokens)

    def _drawn(
        self, captioner: Captioner, rng: Generator, dropped: float, only: Kind | None = None
    ) -> WordingBatch:
        pairs = [self._pair(captioner, rng, only) for _ in range(self.config.rows)]
        told, told_mask = self._ids([text for text, _ in pairs])
        lost = torch.from_numpy(rng.random(told.shape) < rng.uniform(0, 2 * dropped, (len(told), 1)))
        ends = nn.functional.one_hot(told_mask.sum(1) - 1, told.shape[1]).bool()
        return WordingBatch(told, told_mask & (~lost | ends), *self._ids([text for _, text in pairs]))

    def _pair(self, captioner: Captioner, rng: Generator, only: Kind | None) -> tuple[str, str]:
        """What the student is told, and what the start is."""
        labels, draw = sorted(captioner.labels), float(rng.random())
        first, second = (labels[int(index)] for index in rng.integers(len(labels), size=2))
        kind = only or self._kind(draw)
        if kind == "stored":
            one = rng.random() < 0.6
            text = (
                captioner.caption(first, rng)
                if one
                else captioner.join(first, second, rng.random() < 0.3, rng)
            )
            return text, text
        if kind == "joined":
            return captioner.join_free(first, second, rng)
        if kind == "plain":
            return captioner.finish(captioner.plain(first), rng), captioner.plain(first)
        return captioner.wording(first, rng, self.config.context_share), captioner.plain(first)

    def _kind(self, draw: float) -> Kind:
        """What a row is told, by a number between 0 and 1."""
        shares: tuple[tuple[Kind, float], ...] = (
            ("stored", self.config.stored_share),
            ("joined", self.config.joined_share),
            ("plain", self.config.plain_share),
        )
        border = 0.0
        for kind, share in shares:
            border += share
            if draw < border:
                return kind
        return "wording"

    def _ids(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        return pad_ids([self.tokenizer.encode(text).ids.tolist() for text in texts])

    def losses(self, group: str, batch: WordingBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared distance to the plain words: of token features, spread in order, and of the sentence vector."""
        tokens, pooled = self.student(batch.told, batch.told_mask)
        with torch.no_grad():
            plain_tokens, plain_pooled = self.start(batch.plain, batch.plain_mask)
        target = spread(plain_tokens.float(), batch.plain_mask, batch.told_mask)
        errors = (tokens.float() - target).square().mean(2) * batch.told_mask
        token_error = (errors.sum(1) / batch.told_mask.sum(1)).mean()
        pooled_error = (pooled.float() - plain_pooled.float()).square().mean()
        loss = token_error + pooled_error
        return {"loss": loss, "token_error": token_error.detach(), "pooled_error": pooled_error.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The loss for each kind of text; ``wording`` and ``joined`` are on held-out wordings.

        ``trained`` are wordings that are learnt from; a gap between it and ``wording`` is learning by heart.
        """
        figures = {}
        cases: tuple[tuple[str, Captioner, Kind], ...] = (
            ("wording", self.validation, "wording"),
            ("trained", self.captioner, "wording"),
            ("joined", self.validation, "joined"),
            ("stored", self.captioner, "stored"),
        )
        for name, captioner, kind in cases:
            total = 0.0
            for number in range(8):
                drawn = self._drawn(captioner, default_rng([self.config.seed, 1, number]), 0.0, kind)
                moved = WordingBatch(*(part.to(self.device) for part in drawn))
                total += float(self.losses("text_encoder", moved, torch.Generator())["loss"])
            figures[f"distance_{name}"] = total / 8
        return figures

    def sample(self, directory: Path) -> None:
        """Nothing to hear or see without a generator."""

    def export(self, directory: Path) -> None:
        """Write ``text_encoder.safetensors``; the tokenizer stays."""
        save_part(directory, self.model, "text_encoder", self.student)


def _text_encoder(checkpoint: Path) -> tuple[TextEncoder, bytes]:
    """The compact text encoder of a checkpoint, and its tokenizer."""
    loaded = load_model_checkpoint(checkpoint, parts=("text_encoder",))
    if not isinstance(loaded.text_encoder, TextEncoder) or loaded.tokenizer is None:
        raise ConfigError(f"{checkpoint} has no compact text encoder")
    return loaded.text_encoder, loaded.tokenizer


def _only(grammar: Captioner, share: float, held: bool) -> Captioner:
    """The grammar with the free wordings of one side, and the labels that have any."""
    labels = {}
    for label, words in grammar.labels.items():
        kept = tuple(text for text in words.wordings if is_held_out(text, share) == held)
        if kept:
            labels[label] = replace(words, wordings=kept)
    if not labels:
        side = "are held out" if held else "are left to learn from"
        raise ConfigError(f"text_wordings: the grammar has no free wordings that {side}")
    settings = {name: places for name, places in grammar.settings.items() if name != "none"}
    return Captioner(labels, settings, grammar.event_forms, grammar.noun_forms, grammar.contexts)
