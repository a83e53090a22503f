"""Caption grammar: many natural wordings of every label, so that a prompt's wording does not matter."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources

from numpy.random import Generator

from edge_tta.config import from_dict
from edge_tta.errors import DataError


@dataclass(frozen=True)
class LabelWords:
    """Words for one label; ``captions.toml`` explains the fields."""

    kind: str
    settings: str
    events: tuple[str, ...]
    nouns: tuple[str, ...]
    adjectives: tuple[str, ...] = ()


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


def _pick(rng: Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


class Captioner:
    """Draws captions for labels; the same generator state gives the same caption.

    Args:
        labels: words of every label.
        settings: places by name, as in ``captions.toml``.
    """

    def __init__(self, labels: dict[str, LabelWords], settings: dict[str, tuple[str, ...]]) -> None:
        self.labels, self.settings = labels, settings

    @classmethod
    def from_package(cls) -> Captioner:
        """The grammar that ships with the package."""
        text = resources.files("edge_tta.train.data").joinpath("captions.toml").read_text(encoding="utf-8")
        document = tomllib.loads(text)
        labels = {
            name: from_dict(LabelWords, words, f"labels.{name}") for name, words in document["labels"].items()
        }
        settings = {name: tuple(places) for name, places in document["settings"].items()}
        for name, words in labels.items():
            if words.settings not in settings:
                raise DataError(f"captions.toml: label '{name}' uses unknown settings '{words.settings}'")
        return cls(labels, settings)

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
            text = _pick(rng, _SOUND_OF).format(_pick(rng, words.events))
        else:
            noun = _pick(rng, words.nouns)
            if words.adjectives and rng.random() < 0.3:
                noun = f"{_pick(rng, words.adjectives)} {noun}"
            text = _pick(rng, _NOUN_FORMS).format(noun)
        if places and rng.random() < 0.3:
            joint = " " if rng.random() < 0.7 else ", "
            text = f"{text}{joint}{_pick(rng, places)}"
        return text

    def caption(self, label: str, rng: Generator) -> str:
        """One wording with natural variation of case and punctuation."""
        return self.finish(self.phrase(label, rng), rng)

    def describe_clip(self, label: str, own: tuple[str, ...], rng: Generator) -> str:
        """A wording of the label, or with probability 1/5 one of the clip's own captions."""
        usable = tuple(text for text in own if text)
        if usable and rng.random() < 0.2:
            return _pick(rng, usable)
        return self.caption(label, rng)

    def join(self, first: str, second: str, sequential: bool, rng: Generator) -> str:
        """Wording of two labels that sound together, or one after the other."""
        a, b = self.phrase(first, rng), self.phrase(second, rng)
        return self.finish(_pick(rng, _THEN if sequential else _WHILE).format(a=a, b=b), rng)

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
        for place in self.settings[words.settings]:
            for joint in (" ", ", "):
                if text.endswith(joint + place):
                    stems.add(text.removesuffix(joint + place))
        nouns = {
            *words.nouns,
            *(f"{adjective} {noun}" for adjective in words.adjectives for noun in words.nouns),
        }
        said = {form.format(noun) for form in _NOUN_FORMS for noun in nouns}
        said |= {*words.events, *(form.format(event) for form in _SOUND_OF for event in words.events)}
        return not stems.isdisjoint(said)
