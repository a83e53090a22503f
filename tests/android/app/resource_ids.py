"""The class R that resources give rise to, so that code compiles against their names without Android's tools."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

_VALUE_KINDS = {"string-array": "array", "integer-array": "array", "item": None}


def resource_names(folder: Path) -> dict[str, set[str]]:
    """Names of an app's resources by kind: layout, string, id and so on."""
    names: dict[str, set[str]] = {}
    for file in sorted(folder.rglob("*.xml")):
        kind = file.parent.name.split("-")[0]
        root = ElementTree.parse(file).getroot()
        if kind == "values":
            for entry in root:
                entry_kind = _VALUE_KINDS.get(entry.tag, entry.tag)
                if entry_kind is not None:
                    names.setdefault(entry_kind, set()).add(entry.attrib["name"].replace(".", "_"))
        else:
            names.setdefault(kind, set()).add(file.stem)
        for identifier in re.findall(r"@\+id/(\w+)", file.read_text(encoding="utf-8")):
            names.setdefault("id", set()).add(identifier)
    return names


def r_class(package: str, names: dict[str, set[str]]) -> str:
    """Java source of the class R."""
    number = 0x7F010000
    lines = [f"package {package};", "", "public final class R {"]
    for kind in sorted(names):
        lines.append(f"    public static final class {kind} {{")
        for name in sorted(names[kind]):
            lines.append(f"        public static final int {name} = {number};")
            number += 1
        lines.append("    }")
    return "\n".join([*lines, "}", ""])
