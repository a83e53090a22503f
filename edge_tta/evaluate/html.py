"""HTML that is safe by construction: whatever is not markup of ours is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from importlib import resources


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


VOID = frozenset({"br", "img", "input", "line", "meta", "path", "rect"})
"""Elements without content; those of SVG are closed in place."""


def element(name: str, /, *content: str, **attributes: str | int | float | bool | None) -> Markup:
    """One element.

    Args:
        name: tag name.
        content: text, which is escaped, or markup, which is not.
        attributes: a trailing underscore is dropped (``class_``), others become hyphens (``aria_label``); True is an
            attribute without a value, False and None are left out.
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}"
        + ("" if value is True else f'="{html.escape(_short(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(
            f"<{name}{written}>" if name in ("br", "img", "input", "meta") else f"<{name}{written}/>"
        )
    return Markup(f"<{name}{written}>{join(*content)}</{name}>")


def join(*content: str) -> Markup:
    """Pieces one after the other; text is escaped."""
    return Markup("".join(piece if isinstance(piece, Markup) else html.escape(piece) for piece in content))


def _short(value: str | int | float | bool) -> str:
    """An attribute's value; coordinates need no more than two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def data_address(kind: str, data: bytes) -> str:
    """``data:`` address with the bytes in it, so that a page needs nothing beside it.

    Args:
        kind: media type, such as "image/png".
        data: the file.
    """
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def document(title: str, *content: str, scripts: Sequence[str]) -> str:
    """A whole page with the house style inlined.

    Args:
        title: for the window.
        content: body.
        scripts: names of packaged scripts that are inlined at the end.
    """
    folder = resources.files("edge_tta.evaluate") / "page"
    style = (folder / "style.css").read_text(encoding="utf-8")
    code = "\n".join((folder / name).read_text(encoding="utf-8") for name in scripts)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # An icon of its own keeps browsers from asking for one.
        Markup('<link rel="icon" href="data:,">'),
        element("title", title),
        Markup(f"<style>\n{style}</style>"),
    )
    body = element("body", *content, Markup(f"<script>\n{code}</script>"))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'
