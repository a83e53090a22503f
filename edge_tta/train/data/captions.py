"""Caption grammar: many natural wordings of every label, so that a prompt's wording does not matter."""

from __future__ import annotations

import csv
import io
import tomllib
from dataclasses import asdict, dataclass, replace
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

from numpy.random import Generator

from edge_tta.config import dict_digest, from_dict
from edge_tta.errors import ConfigError, DataError

PACKAGED = ("captions", "digits")
"""Grammars that ship with the package: sounds, and spoken digits."""
OWN_CAPTION_SHARE = 0.2
"""How often a clip is told by a caption of its own, unless a recipe says otherwise."""


@dataclass(frozen=True)
class LabelWords:
    """Words for one label; ``captions.toml`` explains the fields."""

    kind: Literal["texture", "event", "oneshot", "music", "word"]
    settings: str
    events: tuple[str, ...]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...] = ()
    wordings: tuple[str, ...] = ()


_SOUND_OF = (
    "the sound of {}",
    "sound of {}",
    "sounds of {}",
    "a recording of {}",
    "the noise of {}",
    "audio of {}",
)
_NOUN_FORMS = (
    "{}", "{}", "{}", "{} sound", "{} sounds", "{} sound effect", "{} noise", "sound of {}", "recording of {}",
    "{} audio", "some {}", "a {} sound",
)  # fmt: skip
_WHILE = ("{a} while {b}", "{a} and {b}", "{a} with {b} in the background", "{a}, {b}", "{b} with {a}", "{a} as {b}",
          "{a} together with {b}", "{a} plus {b}")  # fmt: skip
_THEN = ("{a} followed by {b}", "{a}, then {b}", "{a} and then {b}", "first {a}, then {b}")


def _add_wordings(labels: dict[str, LabelWords], table: str) -> None:
    """Give labels the free wordings of a CSV file with the columns label and wording."""
    found: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(table)):
        found.setdefault(row["label"], []).append(row["wording"])
    for label, wordings in found.items():
        labels[label] = replace(labels[label], wordings=(*labels[label].wordings, *wordings))


def _pick(rng: Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


class Captioner:
    """Draws captions for labels; the same generator state gives the same caption.

    Args:
        labels: words of every label.
        settings: places by name, as in ``captions.toml``.
        event_forms: what may be made of an event, each with one pair of braces.
        noun_forms: what may be made of a noun.
        contexts: scenes that may follow any free wording and say nothing about the sound.
    """

    def __init__(
        self,
        labels: dict[str, LabelWords],
        settings: dict[str, tuple[str, ...]],
        event_forms: tuple[str, ...] = _SOUND_OF,
        noun_forms: tuple[str, ...] = _NOUN_FORMS,
        contexts: tuple[str, ...] = (),
    ) -> None:
        self.labels, self.settings, self.contexts = labels, {"none": (), **settings}, contexts
        self.event_forms, self.noun_forms = event_forms, noun_forms

    @classmethod
    def from_package(cls, name: str = "captions") -> Captioner:
        """A grammar that ships with the package, one of ``PACKAGED``."""
        folder = resources.files("edge_tta.train.data")
        return cls._read(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml", folder)

    @classmethod
    def load(cls, source: str) -> Captioner:
        """A grammar by packaged name, or from a TOML file.

        Raises:
            ConfigError: neither.
            DataError: the file cannot be read or is no grammar.
        """
        if source in PACKAGED:
            return cls.from_package(source)
        path = Path(source)
        if path.suffix != ".toml":
            raise ConfigError(f"captions '{source}' are unknown; use {', '.join(PACKAGED)} or a .toml file")
        try:
            return cls._read(path.read_text(encoding="utf-8"), source, path.parent)
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{source}: cannot be read ({error})") from error

    @classmethod
    def _read(cls, text: str, name: str, folder: Traversable) -> Captioner:
        try:
            document: dict[str, Any] = tomllib.loads(text)
            labels = {
                label: from_dict(LabelWords, words, f"labels.{label}")
                for label, words in document["labels"].items()
            }
            if "wordings" in document:
                _add_wordings(labels, folder.joinpath(document["wordings"]).read_text(encoding="utf-8"))
            settings = {key: tuple(places) for key, places in document.get("settings", {}).items()}
            forms = {key: tuple(lines) for key, lines in document.get("forms", {}).items()}
            contexts = tuple(document.get("contexts", {}).get("any", ()))
            nouns, events = forms.get("nouns", _NOUN_FORMS), forms.get("events", _SOUND_OF)
            grammar = cls(labels, settings, events, nouns, contexts)
        except (tomllib.TOMLDecodeError, ConfigError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{name}: no caption grammar ({error})") from error
        for form in (*grammar.event_forms, *grammar.noun_forms):
            if form.count("{}") != 1:
                raise DataError(f"{name}: form '{form}' needs one pair of braces")
        for label, words in labels.items():
            if words.settings not in grammar.settings:
                raise DataError(f"{name}: label '{label}' uses unknown settings '{words.settings}'")
        return grammar

    def digest(self) -> str:
        """SHA-256 of everything that can be said, hexadecimal."""
        words = {label: asdict(found) for label, found in self.labels.items()}
        forms = (self.event_forms, self.noun_forms, self.contexts, _WHILE, _THEN)
        return dict_digest({"labels": words, "settings": self.settings, "forms": forms})

    def words(self, label: str) -> LabelWords:
        """Words of a label; an unknown label is its own only name."""
        return self.labels.get(label) or LabelWords("event", "none", (label,), (label,))

    def phrase(self, label: str, rng: Generator) -> str:
        """One lower-case wording without final punctuation."""
        words = self.words(label)
        places = self.settings[words.settings]
        draw = rng.random()
        if draw < 0.45:
            text = _pick(rng, words.events)
        elif draw < 0.58:
            text = _pick(rng, self.event_forms).format(_pick(rng, words.events))
        else:
            noun = _pick(rng, words.nouns)
            if words.adjectives and rng.random() < 0.3:
                noun = f"{_pick(rng, words.adjectives)} {noun}"
            text = _pick(rng, self.noun_forms).format(noun)
        if places and rng.random() < 0.3:
            joint = " " if rng.random() < 0.7 else ", "
            text = f"{text}{joint}{_pick(rng, places)}"
        return text

    def plain(self, label: str) -> str:
        """The first and plainest wording of a label."""
        return self.words(label).events[0]

    def free(self, label: str, rng: Generator) -> str:
        """A wording in any words, often in a scene that says nothing about the sound."""
        words = self.words(label)
        text = (
            _pick(rng, words.wordings) if words.wordings and rng.random() < 0.7 else self.phrase(label, rng)
        )
        return self._in_context(text, rng, 0.35)

    def wording(self, label: str, rng: Generator, context_share: float) -> str:
        """One of the free wordings of a label that has any, followed by a scene with this probability."""
        return self._in_context(_pick(rng, self.words(label).wordings), rng, context_share)

    def _in_context(self, text: str, rng: Generator, share: float) -> str:
        """The text as it may be typed, followed by a scene with this probability."""
        if self.contexts and rng.random() < share:
            text = f"{text} {_pick(rng, self.contexts)}"
        return self.finish(text, rng)

    def caption(self, label: str, rng: Generator) -> str:
        """One wording with natural variation of case and punctuation."""
        return self.finish(self.phrase(label, rng), rng)

    def describe_clip(self, label: str, own: tuple[str, ...], own_share: float, rng: Generator) -> str:
        """A wording of the label, or with probability ``own_share`` one of the clip's own captions, if it has any."""
        usable = tuple(text for text in own if text)
        if usable and rng.random() < own_share:
            return _pick(rng, usable)
        return self.caption(label, rng)

    def join(self, first: str, second: str, sequential: bool, rng: Generator) -> str:
        """Wording of two labels that sound together, or one after the other."""
        a, b = self.phrase(first, rng), self.phrase(second, rng)
        return self.finish(_pick(rng, _THEN if sequential else _WHILE).format(a=a, b=b), rng)

    def join_free(self, first: str, second: str, rng: Generator) -> tuple[str, str]:
        """Two labels that have free wordings, each in one of them or in plain words; and both in plain words, joined in
        the same way."""
        form = _pick(rng, (*_WHILE, *_THEN))
        a, b = (
            _pick(rng, self.words(label).wordings) if rng.random() < 0.6 else self.plain(label)
            for label in (first, second)
        )
        return self.finish(form.format(a=a, b=b), rng), form.format(a=self.plain(first), b=self.plain(second))

    @staticmethod
    def finish(text: str, rng: Generator) -> str:
        """Vary case and final full stop."""
        if rng.random() < 0.35:
            text = text[0].upper() + text[1:]
        if rng.random() < 0.25:
            text += "."
        return text

    def can_say(self, label: str, text: str) -> bool:
        """Whether the grammar has this wording for the label (case and final full stop aside)."""
        words = self.words(label)
        text = text.lower().strip().rstrip(".")
        stems = {text}
        for context in self.contexts:
            stems.add(text.removesuffix(f" {context}"))
        for place in self.settings[words.settings]:
            for joint in (" ", ", "):
                stems |= {stem.removesuffix(joint + place) for stem in stems}
        nouns = {
            *words.nouns,
            *(f"{adjective} {noun}" for adjective in words.adjectives for noun in words.nouns),
        }
        said = {form.format(noun) for form in self.noun_forms for noun in nouns} | {
            *words.events,
            *words.wordings,
        }
        said |= {form.format(event) for form in self.event_forms for event in words.events}
        return not {stem.rstrip(".") for stem in stems}.isdisjoint(text.lower().rstrip(".") for text in said)
