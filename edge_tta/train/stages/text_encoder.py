"""Distilling a compact text encoder from a public sentence encoder, with a SentencePiece tokenizer of its own."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.random import default_rng
from torch import Tensor, nn
from torch.nn import functional as F

from edge_tta.config import ModelConfig
from edge_tta.errors import ConfigError, DataError
from edge_tta.model.checkpoint import save_part, write_atomically
from edge_tta.ranges import COUNT, NOT_NEGATIVE, SEED, SHARE, require_ranges
from edge_tta.text import Tokenizer
from edge_tta.train.data.captions import Captioner
from edge_tta.train.teacher import Teacher, start_student
from edge_tta.train.text_conditioner import pad_ids
from edge_tta.train.text_retrieval import (
    misspell,
    paraphrase_prompts,
    retrieve,
    student_encode,
    teacher_encode,
)
from edge_tta.train.tokenizer import train_tokenizer, weighted_words

_PLACES = (
    "in the yard", "in the distance", "on the street", "at night", "in a cave", "in the kitchen", "behind a wall",
    "on the roof", "in the park", "at the station", "on a wooden floor", "by the river",
    "under a bridge", "in the garden",
)  # fmt: skip
_DETERMINERS = ("a", "the", "some", "two", "an old", "a small", "a big", "many")


@dataclass(frozen=True)
class TextEncoderStageConfig:
    """What the student reads and how it starts."""

    teacher: str = ""
    """Directory with the teacher's model.safetensors, tokenizer.json and vocab.txt."""
    layers: tuple[int, ...] = (0, 1, 3, 5)
    """Teacher layers copied into the student."""
    extra_texts: tuple[str, ...] = ()
    """Text files (a line a text) or CSV files (first text column named caption, title or template)."""
    captions_per_label: int = 170
    joined_captions: int = 9000
    """Captions of two labels."""
    phrases: int = 9000
    """Random phrases from the teacher's vocabulary, so that words outside the captions keep their meaning."""
    batch: int = 64
    misspelt_share: float = 0.1
    """Texts read with a slip of the fingers; their target stays the teacher's vector of the clean text."""
    similarity_weight: float = 2.0
    """Weight of matching the similarities inside the batch."""
    seed: int = 0

    def __post_init__(self) -> None:
        require_ranges(self, layers=NOT_NEGATIVE, batch=COUNT, misspelt_share=SHARE, seed=SEED)
        require_ranges(self, captions_per_label=NOT_NEGATIVE, joined_captions=NOT_NEGATIVE)
        require_ranges(self, phrases=NOT_NEGATIVE, similarity_weight=NOT_NEGATIVE)


def read_texts(path: Path) -> list[str]:
    """Texts of a .txt (one a line) or .csv file.

    Raises:
        DataError: unreadable, or a CSV without a text column.
    """
    try:
        if path.suffix != ".csv":
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            column = next(
                (c for c in ("caption", "title", "template") if c in (reader.fieldnames or ())), None
            )
            if column is None:
                raise DataError(f"{path}: has no column caption, title or template")
            return [row[column] for row in reader if row[column]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: {error}") from error


def vocabulary_words(teacher: Path) -> list[str]:
    """Whole ASCII words of more than two letters from the teacher's vocabulary, most frequent first."""
    lines = read_texts(teacher / "vocab.txt")
    return [word for word in lines if word.isalpha() and word.isascii() and len(word) > 2]


def random_phrases(words: list[str], count: int, seed: int) -> list[str]:
    """Short phrases of random words, some of the shape of a prompt."""
    rng = default_rng(seed)
    common = words[:9000]
    verbs = [word for word in words[:12000] if word.endswith("ing") and len(word) > 5] or common

    def pick(options: list[str] | tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    phrases = []
    for _ in range(count):
        draw = rng.random()
        if draw < 0.3:
            phrases.append(f"{pick(_DETERMINERS)} {pick(common)} {pick(verbs)}")
        elif draw < 0.5:
            phrases.append(f"{pick(_DETERMINERS)} {pick(common)} {pick(verbs)} {pick(_PLACES)}")
        elif draw < 0.7:
            phrases.append(f"{pick(common)} {pick(common)}")
        elif draw < 0.85:
            phrases.append(f"{pick(common)} {pick(verbs)} the {pick(common)}")
        else:
            phrases.append(pick(common))
    return phrases


def training_texts(config: TextEncoderStageConfig, captioner: Captioner, words: list[str]) -> list[str]:
    """Every text the student sees, without repetition, in an order that depends on the seed alone."""
    rng = default_rng(config.seed)
    labels = sorted(captioner.labels)
    texts = {captioner.caption(label, rng) for label in labels for _ in range(config.captions_per_label)}
    for _ in range(config.joined_captions if len(labels) > 1 else 0):
        first, second = rng.choice(len(labels), 2, replace=False)
        texts.add(captioner.join(labels[first], labels[second], rng.random() < 0.3, rng))
    for name in config.extra_texts:
        texts |= set(read_texts(Path(name)))
    texts |= set(random_phrases(words, config.phrases, config.seed)) if words else set()
    usable = sorted(text for text in texts if len(text) < 160 and any(c.isalnum() for c in text))
    return [usable[index] for index in default_rng(config.seed).permutation(len(usable))]


class TextEncoderStage:
    """Student under its teacher.

    Args:
        config: stage settings.
        model: model configuration.
        captioner: grammar of the captions.
        cache: directory for the teacher's embeddings.

    Raises:
        ConfigError: no teacher, a grammar without labels, or too little text for the vocabulary.
        DataError: the teacher or an extra text cannot be read.
    """

    def __init__(
        self, config: TextEncoderStageConfig, model: ModelConfig, captioner: Captioner, cache: Path
    ) -> None:
        if not config.teacher:
            raise ConfigError("text encoder stage: give text_encoder.teacher, the directory of the teacher")
        if not captioner.labels:
            raise ConfigError("text encoder stage: the grammar of data.captions has no labels")
        directory = Path(config.teacher)
        self.config, self.model, self.captioner = config, model, captioner
        self.teacher = Teacher(directory, model.text_encoder.heads)
        words = vocabulary_words(directory)
        self.texts = training_texts(config, self.captioner, words)
        self.tokenizer_model = train_tokenizer(
            self.texts, model.text_encoder.vocab_size, weighted_words(words[:20000]), required_characters="'"
        )
        self.tokenizer = Tokenizer(self.tokenizer_model, model.text_encoder.max_tokens)
        self.ids = [self.tokenizer.encode(text).ids.tolist() for text in self.texts]
        self.by_length = np.argsort([len(ids) for ids in self.ids], kind="stable")
        self.targets = self._teacher_embeddings(cache)
        pieces = self.tokenizer.pieces()
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            self.student = start_student(model.text_encoder, self.teacher, pieces, config.layers)

    def _teacher_embeddings(self, cache: Path) -> Tensor:
        # The weights, not the path, say which teacher it was: another one in the same place must not be mistaken.
        digest = hashlib.sha256("\n".join([self.teacher.digest, *self.texts]).encode()).hexdigest()[:16]
        path = cache / f"teacher-{digest}.npy"
        if not path.is_file():
            order = sorted(range(len(self.texts)), key=lambda index: len(self.texts[index]))
            rows = np.zeros((len(self.texts), self.teacher.words.shape[1]), dtype=np.float32)
            for start in range(0, len(order), 64):
                group = order[start : start + 64]
                rows[group] = self.teacher([self.texts[index] for index in group]).numpy()
            cache.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            with part.open("wb") as stream:
                np.save(stream, rows)
            part.replace(path)
        return torch.from_numpy(np.load(path, allow_pickle=False))

    def origin(self) -> dict[str, str]:
        """The teacher, and the texts that it is asked for."""
        texts = hashlib.sha256("\n".join(self.texts).encode()).hexdigest()
        return {"teacher": self.teacher.digest, "texts": texts}

    def modules(self) -> dict[str, nn.Module]:
        """The student."""
        return {"text_encoder": self.student}

    def averaged(self) -> Iterable[str]:
        """The student's average is what ships."""
        return ("text_encoder",)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """One optimiser."""
        return {"text_encoder": list(self.student.parameters())}

    def due(self, group: str, step: int) -> bool:
        """At every step."""
        return True

    def to(self, device: torch.device) -> None:
        """Move the student; the teacher's vectors are made beforehand and travel with the batches."""
        self.student.to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, mask and teacher embeddings of texts of about equal length."""
        rng = default_rng([self.config.seed, step])
        count = min(self.config.batch, len(self.texts))
        start = int(rng.integers(0, len(self.texts) - count + 1))
        low, high = max(0, start - 600), min(len(self.texts), start + count + 600)
        chosen = rng.choice(self.by_length[low:high], count, replace=False)
        slips = rng.random(count) < self.config.misspelt_share
        ids, mask = pad_ids(
            [
                self.tokenizer.encode(misspell(self.texts[index], rng)).ids.tolist()
                if slip
                else self.ids[index]
                for index, slip in zip(chosen, slips, strict=True)
            ]
        )
        return ids, mask, self.targets[torch.from_numpy(chosen)]

    def losses(
        self, group: str, batch: tuple[Tensor, Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Cosine distance to the teacher, and squared difference of the similarities inside the batch."""
        ids, mask, target = batch
        pooled = F.normalize(self.student(ids, mask)[1], dim=-1)
        cosine = (1 - (pooled * target).sum(-1)).mean()
        similarity = (pooled @ pooled.T - target @ target.T).square().mean()
        loss = cosine + self.config.similarity_weight * similarity
        return {"loss": loss, "cosine_distance": cosine.detach(), "similarity_error": similarity.detach()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Cosine to the teacher and nearest-label accuracy on the paraphrase suite, student beside teacher.

        Of a grammar whose labels the suite does not ask for, the cosine on a caption of each alone.
        """
        suite = [(label, prompt) for label, prompt in paraphrase_prompts() if label in self.captioner.labels]
        rng = default_rng(0)
        misspelt = [(label, misspell(prompt, rng)) for label, prompt in suite]
        figures: dict[str, float] = {}
        student, teacher = student_encode(self.student, self.tokenizer), teacher_encode(self.teacher)
        if not suite:
            captions = [self.captioner.caption(label, rng) for label in sorted(self.captioner.labels)]
            return {"cosine": float((student(captions) * teacher(captions)).sum(-1).mean())}
        embedded = {}
        for name, encode in (("student", student), ("teacher", teacher)):
            found = retrieve(encode, self.captioner, suite)
            embedded[name] = found.embedded
            figures[f"{name}_top1"], figures[f"{name}_top5"] = found.share_within(1), found.share_within(5)
            figures[f"{name}_top1_misspelt"] = retrieve(encode, self.captioner, misspelt).share_within(1)
        figures["cosine"] = float((embedded["student"] * embedded["teacher"]).sum(-1).mean())
        return figures

    def sample(self, directory: Path) -> None:
        """Nothing to hear or see."""

    def export(self, directory: Path) -> None:
        """Write ``text_encoder.safetensors`` and ``tokenizer.model``."""
        save_part(directory, self.model, "text_encoder", self.student)
        write_atomically(directory / "tokenizer.model", self.tokenizer_model)
