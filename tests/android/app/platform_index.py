"""Android's public interface, read from type declarations made for another language: names, arities, levels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_OPEN = re.compile(
    r"^\s*(?:declare module|export module|export abstract class|export class|export interface) ([\w.$]+)"
)
_HEAD = re.compile(r"\s(?:extends|implements)\s(.*?)\s*\{$")
_SINCE = re.compile(r"@since (\d+)")
_MEMBER = re.compile(r"^\s*public (?:static )?(\w+)(\((.*)\))?:?")
_CONSTRUCTOR = re.compile(r"^\s*public constructor\((.*)\);")


@dataclass
class PlatformClass:
    """A class or interface."""

    since: int
    """API level it came with; 21 for all that are older."""
    parents: list[str]
    """Superclass and interfaces."""
    members: dict[tuple[str, int | None], int] = field(default_factory=dict)
    """Level by name and number of parameters; None for a field. Constructors are called <init>."""


class PlatformIndex:
    """All classes by their names, with dots between classes too."""

    def __init__(self, declarations: str) -> None:
        self.classes: dict[str, PlatformClass] = {}
        path: list[str] = []
        current: list[PlatformClass | None] = []
        since = 21
        depth_inside = 0
        for line in declarations.splitlines():
            if depth_inside:
                # The literal object type that an interface's constructor takes.
                depth_inside += line.count("{") - line.count("}")
                continue
            if found := _SINCE.search(line):
                since = int(found[1])
            opened = _OPEN.match(line)
            if opened and line.rstrip().endswith("{"):
                path.append(opened[1])
                current.append(self._open(path, line, since) if "module" not in line else None)
                since = 21
            elif line.strip() == "}":
                path.pop()
                current.pop()
            elif "public" in line and current and current[-1] is not None:
                depth_inside = max(0, line.count("{") - line.count("}"))
                self._add(current[-1], line, since)
                since = 21

    def level(self, name: str, member: str, parameters: int | None) -> int | None:
        """API level from which a class has a member of its own or of a parent; None if it never had.

        Args:
            name: class, with dots.
            member: method, field, or "<init>".
            parameters: number of the method's parameters; None for a field.
        """
        found = self.classes.get(name)
        if found is None:
            return None
        own = found.members.get((member, parameters))
        levels = [] if own is None else [own]
        if member != "<init>":
            inherited = (self.level(parent, member, parameters) for parent in found.parents)
            levels += [level for level in inherited if level is not None]
        return max(found.since, min(levels)) if levels else None

    def _open(self, path: list[str], line: str, since: int) -> PlatformClass:
        found = _HEAD.search(line)
        parents = [] if found is None else _names(found[1])
        # A class that is declared twice, as its statics sometimes are, has the members of both.
        return self.classes.setdefault(".".join(path), PlatformClass(since, parents))

    @staticmethod
    def _add(target: PlatformClass, line: str, since: int) -> None:
        constructor = _CONSTRUCTOR.match(line)
        member = _MEMBER.match(line)
        if "public constructor(" in line:
            parameters = _count(constructor[1]) if constructor else 0
            key: tuple[str, int | None] = ("<init>", parameters)
        elif member is not None and member[2] is not None:
            key = (member[1], _count(_balanced(line)))
        elif member is not None:
            key = (member[1], None)
        else:
            return
        target.members[key] = min(since, target.members.get(key, since))


def _names(text: str) -> list[str]:
    """Types of an extends and an implements clause, without their parameters."""
    plain = _without_parameters(text).replace(" implements ", ",").replace(" extends ", ",")
    return [name.strip() for name in plain.split(",") if name.strip()]


def _without_parameters(text: str) -> str:
    kept, depth = [], 0
    for character in text:
        depth += (character == "<") - (character == ">")
        if depth == 0 and character != ">":
            kept.append(character)
    return "".join(kept)


def _balanced(line: str) -> str:
    """What is between the first parenthesis and the one that closes it."""
    start = line.index("(")
    depth = 0
    for position in range(start, len(line)):
        depth += (line[position] == "(") - (line[position] == ")")
        if depth == 0:
            return line[start + 1 : position]
    return line[start + 1 :]


def _count(parameters: str) -> int:
    """Number of parameters; commas inside type parameters and function types do not part any."""
    plain = _without_parameters(parameters.replace("=>", "")).strip()
    return 0 if not plain else plain.count(",") + 1
