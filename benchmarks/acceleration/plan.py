"""The plan of the study: which entries are trained, how they are sampled, and what the papers found of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edge_tta.config import from_dict, to_dict
from edge_tta.errors import ConfigError

PACKAGED = Path(__file__).with_name("study.toml")
START = "start"
"""In place of an entry's name: the common flow-matching start."""
NONE = "none"
"""In place of an entry's name: fresh weights, or no teacher."""
STEPS_HERE = "{steps}"
"""In an override: the number of steps the entry trains."""

SamplerKind = Literal["euler", "classifier-free", "ping-pong"]
FigureName = Literal[
    "frechet", "frechet_limit", "kl", "top1", "top5", "text_score", "ccds", "straightness", "seconds_per_clip"
]
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Budget:
    """Training beyond an entry's start: in steps, in seconds, or in steps of the baseline; one of them is given."""

    steps: int | None = None
    """Optimiser steps; 0 takes the start's weights as they are, to sample them in another way."""
    seconds: float | None = None
    """Wall clock; a short trial turns it into steps, the same number for all seeds."""
    baseline_steps: int | None = None
    """As many steps as cost what these do of the baseline; a short trial of both finds what a step costs."""

    def __post_init__(self) -> None:
        if [self.steps, self.seconds, self.baseline_steps].count(None) != 2:
            raise ConfigError("give steps, seconds or baseline_steps, one of the three")
        if self.steps is not None and self.steps < 0:
            raise ConfigError("a budget cannot be negative")
        for name in ("seconds", "baseline_steps"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ConfigError(f"a budget of {name} must be above 0")

    def scaled(self, factor: float) -> Budget:
        """The budget times ``factor``; steps are rounded, but some training never becomes none."""
        if self.seconds is not None:
            return Budget(seconds=self.seconds * factor)
        if self.baseline_steps is not None:
            return Budget(baseline_steps=max(1, round(self.baseline_steps * factor)))
        assert self.steps is not None
        return Budget(steps=max(1, round(self.steps * factor)) if self.steps else 0)


@dataclass(frozen=True)
class Entry:
    """One generator: how it is trained and how it is sampled."""

    name: str
    recipe: str
    """Packaged recipe, or a TOML file."""
    guidance: float
    """Scale at sampling."""
    sampler: SamplerKind
    """euler: guidance is an input of the network; classifier-free: Euler with two passes; ping-pong: of ARC."""
    group: Literal["methods", "ablations", "stages"] = "methods"
    """"stages" are trained as the start of others and not judged."""
    label: str = ""
    """What tables call it; its name if empty."""
    overrides: tuple[str, ...] = ()
    """Of the recipe, "key=value"; "{steps}" becomes the number of steps."""
    share: float = 1.0
    """Share of the study's budget; the shares of a chain add up to what the chain costs."""
    budget: Budget | None = None
    """In place of the study's."""
    start: str = START
    """Whose weights it starts from: "start", "none", or an entry above."""
    teacher: str = NONE
    """Whose frozen weights teach: "start", "none", or an entry above."""
    checkpoint: str = ""
    """Folder with weights that are trained already, from where the command runs: they are judged as they are."""
    straightness: bool = True
    """False for a network that was never asked for an instantaneous velocity."""

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (START, NONE):
            raise ConfigError(f"'{self.name}' is no entry name: use lower case letters, digits and hyphens")
        if not self.share > 0:
            raise ConfigError(f"{self.name}: share {self.share:g} must be above 0")
        if self.checkpoint and (self.budget is not None or self.start != START or self.teacher != NONE):
            raise ConfigError(
                f"{self.name}: a checkpoint is judged as it is, without budget, start or teacher"
            )

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.name

    def parents(self) -> tuple[str, ...]:
        """Entries whose weights it needs."""
        return tuple(name for name in (self.start, self.teacher) if name not in (START, NONE))


@dataclass(frozen=True)
class Ablation:
    """Entries that differ in one thing."""

    title: str
    entries: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """What a paper saw, as a comparison that our figures can repeat."""

    source: str
    claim: str
    figure: FigureName
    first: str
    """"entry@steps"."""
    relation: Literal["below", "above"]
    """Where the paper saw the first, seen from the second."""
    second: str
    """"entry@steps"."""
    paper: str = ""
    """The paper's own figures, on its data and with its embedder."""


@dataclass(frozen=True)
class Study:
    """Everything that is compared."""

    title: str
    steps: tuple[int, ...]
    """Step counts every entry is judged at."""
    budget: Budget
    """Training of every entry beyond the common start."""
    entries: tuple[Entry, ...]
    overrides: tuple[str, ...] = ()
    """Of every recipe."""
    baseline: str = "flow"
    """The entry that goes on with flow matching, which the others are held against."""
    ablations: tuple[Ablation, ...] = ()
    findings: tuple[Finding, ...] = ()
    findings_note: str = ""
    """What a reader of the papers' figures has to know."""

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        if not names or len(set(names)) < len(names):
            raise ConfigError("entries need distinct names, at least one")
        if not self.steps or min(self.steps) < 1 or list(self.steps) != sorted(set(self.steps)):
            raise ConfigError(f"steps {list(self.steps)} must rise, from 1 or more")
        for place, entry in enumerate(self.entries):
            for parent in entry.parents():
                if parent not in names[:place]:
                    raise ConfigError(f"{entry.name}: '{parent}' is no entry above it")
        given = [self.budget, *(entry.budget for entry in self.entries if entry.budget is not None)]
        if any(budget.baseline_steps is not None for budget in given) and self.baseline not in names:
            raise ConfigError(f"a budget is in steps of the baseline '{self.baseline}', which is no entry")
        named = {name for ablation in self.ablations for name in ablation.entries}
        for finding in self.findings:
            for side in (finding.first, finding.second):
                name, steps = parse_side(side)
                named.add(name)
                if steps not in self.steps:
                    raise ConfigError(f"{side}: nothing is judged at {steps} steps")
        if missing := sorted(named - set(names)):
            raise ConfigError(f"'{missing[0]}' is compared, but it is no entry")

    def entry(self, name: str) -> Entry:
        """An entry by name.

        Raises:
            ConfigError: there is none.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise ConfigError(f"the study has no entry '{name}'; it has {known}")

    def methods(self) -> tuple[Entry, ...]:
        """What the tables of methods compare."""
        return tuple(entry for entry in self.entries if entry.group == "methods")

    def select(self, only: Iterable[str] = (), with_parents: bool = True) -> tuple[Entry, ...]:
        """Entries by name, or all, in the study's order; with those they start from or learn from."""
        wanted = {self.entry(name).name for name in only} or {entry.name for entry in self.entries}
        for entry in reversed(self.entries):
            if with_parents and entry.name in wanted:
                wanted.update(entry.parents())
        return tuple(entry for entry in self.entries if entry.name in wanted)

    def part(self, only: Iterable[str]) -> Study:
        """The same with fewer entries, and the comparisons that are left."""
        entries = self.select(only)
        names = {entry.name for entry in entries}
        return replace(
            self,
            entries=entries,
            ablations=tuple(group for group in self.ablations if names.issuperset(group.entries)),
            findings=tuple(
                finding
                for finding in self.findings
                if names.issuperset(parse_side(side)[0] for side in (finding.first, finding.second))
            ),
        )

    def ancestors(self, name: str) -> tuple[str, ...]:
        """Entries whose training an entry's weights went through, the oldest first, itself last."""
        start = self.entry(name).start
        return (*(() if start in (START, NONE) else self.ancestors(start)), name)

    def budget_of(self, entry: Entry, scale: float = 1.0) -> Budget:
        """Training of an entry beyond its start."""
        if entry.checkpoint:
            return Budget(steps=0)
        return (entry.budget or self.budget).scaled(entry.share * scale)


def parse_side(text: str) -> tuple[str, int]:
    """Entry and steps of "entry@steps".

    Raises:
        ConfigError: another form.
    """
    name, _, steps = text.partition("@")
    if not name or not steps.isdigit():
        raise ConfigError(f"'{text}' is not of the form entry@steps")
    return name, int(steps)


def load_study(path: Path = PACKAGED) -> Study:
    """Read a study strictly.

    With ``like``, a file beside it, it is that study changed: ``only`` keeps some entries, those they start or learn
    from, and the comparisons that are left; ``overrides`` come after the other's; other keys take the place of its own.

    Raises:
        ConfigError: unreadable file, unknown key, wrong type, or entries that do not fit together.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if "like" not in document:
        return from_dict(Study, document)
    given = {name: document.pop(name) for name in ("like", "only") if name in document}
    changes = from_dict(_Changes, given, path.name)
    base = load_study(path.parent / changes.like).part(changes.only)
    overrides = [*base.overrides, *document.pop("overrides", ())]
    return from_dict(Study, {**to_dict(base), "overrides": overrides, **document})


@dataclass(frozen=True)
class _Changes:
    """Of a file that changes another study."""

    like: str
    only: tuple[str, ...] = ()
