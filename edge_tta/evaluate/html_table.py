"""Tables of a page: they scroll by themselves on a phone, and may be sorted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edge_tta.evaluate.html import Markup, element


@dataclass(frozen=True)
class Cell:
    """A cell that is more than its text."""

    content: str
    value: float | str | None = None
    """What it is sorted by; None for its text."""
    look: str | None = None
    """Class of the style sheet."""


def table(
    label: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    numeric: Collection[int] = (),
    sortable: bool = False,
    stacked: bool = False,
) -> Markup:
    """A table whose first column names the row.

    Args:
        label: what it shows, for those who do not see it.
        heads: titles of the columns.
        rows: cells; a single cell is a heading over the rows that follow.
        numeric: columns of numbers, which are set to the right.
        sortable: columns get buttons that sort by them.
        stacked: on a phone every row becomes a block, its cells below each other with their heads.
    """
    titles = [
        element(
            "th",
            element("button", head, type="button") if sortable else head,
            scope="col",
            class_="number" if place in numeric else None,
        )
        for place, head in enumerate(heads)
    ]
    body = [_row(row, heads, numeric) for row in rows]
    made = element(
        "table",
        element("thead", element("tr", *titles)),
        element("tbody", *body),
        class_="sortable" if sortable else "stacked" if stacked else None,
    )
    # Reachable by keyboard, or what scrolls could not be scrolled without a mouse.
    return element("div", made, class_="scroll", tabindex=0, role="region", aria_label=label)


def _row(row: Sequence[str | Cell], heads: Sequence[str], numeric: Collection[int]) -> Markup:
    if len(row) == 1:
        title = row[0].content if isinstance(row[0], Cell) else row[0]
        return element("tr", element("th", title, scope="rowgroup", colspan=len(heads)), class_="group")
    return element(
        "tr", *(_cell(cell, heads[place], place == 0, place in numeric) for place, cell in enumerate(row))
    )


def _cell(cell: str | Cell, head: str, names_row: bool, numeric: bool) -> Markup:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    look = " ".join(name for name in ("number" if numeric else None, cell.look) if name) or None
    if names_row:
        return element("th", cell.content, scope="row", class_=look, data_value=cell.value)
    return element("td", cell.content, class_=look, data_value=cell.value, data_head=head)
