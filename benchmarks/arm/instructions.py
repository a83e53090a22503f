"""Which arithmetic the emulated code reached, from QEMU's log of translated instructions.

QEMU writes a block of code to the log when it is translated, that is, when it is about to run for the first time. So
what stands in the log was reached; how often it ran is not known.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import BinaryIO

FAMILIES = {
    "float multiply-add": ("fmla",),
    "dot product": ("sdot", "udot", "usdot", "sudot"),
    "int8 matrix product": ("smmla", "ummla", "usmmla"),
    "SME int8 outer product": ("smopa", "umopa", "usmopa", "sumopa"),
    "SME float outer product": ("fmopa", "bfmopa"),
    "widening multiply": ("smlal", "smlal2", "umlal", "umlal2", "smull", "smull2", "umull", "umull2"),
}
"""Mnemonics (Arm Architecture Reference Manual, DDI 0487) that tell which kind of matrix kernel was chosen."""
_FAMILY = {mnemonic.encode(): family for family, names in FAMILIES.items() for mnemonic in names}
# A vector operand tells the matrix kernels' multiplies from those of scalar code.
_LINE = re.compile(rb":  [0-9a-f]{8}  (" + b"|".join(_FAMILY) + rb") +(?:v[0-9]|z[0-9]|za)")
_CHUNK = 1 << 20


def count_instructions(stream: BinaryIO) -> Counter[str]:
    """Instructions of each of ``FAMILIES`` in a log, which is read to its end."""
    found: Counter[str] = Counter()
    rest = b""
    while block := stream.read(_CHUNK):
        lines, newline, rest = (rest + block).rpartition(b"\n")
        found.update(_FAMILY[match[1]] for match in _LINE.finditer(lines + newline))
    return found
