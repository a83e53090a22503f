"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: int | None = None) -> list[str]:
    """Lines of a table and an empty one.

    Args:
        head: titles of the columns.
        rows: cells.
        numbers: from which column on cells are set to the right; None for none.
    """
    first = len(head) if numbers is None else numbers
    rule = "|" + "".join("---|" if column < first else "---:|" for column in range(len(head)))
    lines = ["| " + " | ".join(head) + " |", rule]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]
