"""A blind listening test: pairs of reference and variant in random order, hidden identical pairs, and the score."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_tta.bundle.canonical import one_line
from edge_tta.errors import DataError
from edge_tta.evaluate.statistics import Estimate, binomial_interval, sign_test

MAX_FILE_BYTES = 2**20

Side = Literal["reference", "variant"]
Choice = Literal["a", "b", "same"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Trial(_Strict):
    """One pair as it is played."""

    prompt: str
    seed: int
    a: Side
    b: Side

    @property
    def control(self) -> bool:
        """Whether both sides are the same sound."""
        return self.a == self.b


class ListeningKey(_Strict):
    """What is behind the sides of every pair; kept from listeners."""

    schema_name: Literal["listening-key/1"] = Field("listening-key/1", alias="schema")
    bundle: str
    bundle_digest: str
    reference: str
    variant: str
    order_seed: int
    trials: list[Trial] = Field(min_length=1, max_length=500)

    @property
    def test(self) -> str:
        """Names the test: answers to another one do not fit."""
        return hashlib.sha256(self.model_dump_json(by_alias=True).encode()).hexdigest()[:16]


class Answer(_Strict):
    """One listener's answer to one pair."""

    trial: int = Field(ge=1)
    """Number of the pair, from 1."""
    answer: Choice


class ListeningAnswers(_Strict):
    """What the page of a test saves."""

    schema_name: Literal["listening-answers/1"] = Field(alias="schema")
    test: str
    listener: str = Field(max_length=200)
    answers: list[Answer] = Field(max_length=500)


@dataclass(frozen=True)
class ListeningScore:
    """What one listener, or several together, heard."""

    listener: str
    noticed: Estimate | None
    """Share of the real pairs in which a side was preferred; None if none was answered."""
    imagined: Estimate | None
    """The same share of the identical pairs: what "noticed" is worth."""
    variant_preferred: Estimate | None
    """Share of the real pairs with a preference in which it went to the variant; None without a preference."""
    sign_test: float | None
    """Two-sided probability of preferences at least as uneven by chance (sign test)."""


Document = TypeVar("Document", bound=BaseModel)


def read_document(kind: type[Document], path: Path) -> Document:
    """A key or answers from a file that may come from anyone.

    Raises:
        DataError: it cannot be read, or is something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > MAX_FILE_BYTES:
        raise DataError(f"{path}: {len(data)} bytes, at most {MAX_FILE_BYTES} are read")
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise DataError(f"{path}: {one_line(place + ': ' + first['msg'])}") from error


def score(key: ListeningKey, answered: Sequence[ListeningAnswers]) -> tuple[ListeningScore, ...]:
    """Score every listener, and all together where there are several.

    Intervals are exact binomial ones. Those of all together take the answers of several listeners to one pair for
    independent, so they are a little too narrow.

    Raises:
        DataError: answers to another test, to a pair that does not exist, or two to one pair.
    """
    if not answered:
        raise DataError("there are no answers to score")
    for sheet in answered:
        _check(key, sheet)
    scores = [_score(key, sheet.listener or f"listener {n}", [sheet]) for n, sheet in enumerate(answered, 1)]
    if len(answered) > 1:
        scores.append(_score(key, "all together", answered))
    return tuple(scores)


def _check(key: ListeningKey, sheet: ListeningAnswers) -> None:
    who = f"answers of {sheet.listener or 'a listener'}"
    if sheet.test != key.test:
        raise DataError(f"{who}: they belong to test {sheet.test[:40]}, the key to {key.test}")
    numbers = [answer.trial for answer in sheet.answers]
    if len(set(numbers)) != len(numbers):
        raise DataError(f"{who}: a pair is answered twice")
    if any(number > len(key.trials) for number in numbers):
        raise DataError(f"{who}: pair {max(numbers)} does not exist, there are {len(key.trials)}")


def _score(key: ListeningKey, listener: str, sheets: Sequence[ListeningAnswers]) -> ListeningScore:
    answers = [(key.trials[answer.trial - 1], answer.answer) for sheet in sheets for answer in sheet.answers]
    real = [(trial, choice) for trial, choice in answers if not trial.control]
    identical = [choice for trial, choice in answers if trial.control]
    preferred = [trial.a if choice == "a" else trial.b for trial, choice in real if choice != "same"]
    variant = preferred.count("variant")
    return ListeningScore(
        listener,
        _share(len(preferred), len(real)),
        _share(sum(choice != "same" for choice in identical), len(identical)),
        _share(variant, len(preferred)),
        sign_test(variant, len(preferred)) if preferred else None,
    )


def _share(count: int, of: int) -> Estimate | None:
    return binomial_interval(count, of) if of else None
