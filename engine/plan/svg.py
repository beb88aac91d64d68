"""A drawing of a plan as SVG, for notebooks.

Decides sizes and lines. Colours are those of the text around it, so that it is read in light and dark.
"""

from __future__ import annotations

from html import escape

from .picture import Arrow, Box, Drawing

_WIDTH, _HEIGHT = 150, 44
_STEP_X, _STEP_Y = 196, 60
#: How many letters of a name fit into a box.
_LETTERS = 20


def svg_of(drawing: Drawing) -> str:
    """Return the drawing as an SVG element."""
    slots: dict[int, int] = {}
    for box in drawing.boxes:
        slots[box.layer] = max(slots.get(box.layer, 0), box.slot + 1)
    tallest = max(slots.values(), default=1)
    places = {
        box.id: (box.layer * _STEP_X + 2.0, (box.slot + (tallest - slots[box.layer]) / 2) * _STEP_Y + 2.0)
        for box in drawing.boxes
    }
    width, height = len(slots) * _STEP_X - (_STEP_X - _WIDTH) + 4, tallest * _STEP_Y - (_STEP_Y - _HEIGHT) + 4
    parts = [_arrow(arrow, places) for arrow in drawing.arrows] + [_box(box, *places[box.id]) for box in drawing.boxes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' style="max-width:100%;height:auto" font-family="system-ui,sans-serif" font-size="12">{"".join(parts)}</svg>'
    )


def _box(box: Box, x: float, y: float) -> str:
    dashes = ' stroke-dasharray="4 3"' if box.kind == "engine" else ""
    shown = box.name if len(box.name) <= _LETTERS else box.name[: _LETTERS - 1] + "…"
    below = box.kind if box.kind in ("source", "sink") else box.title
    return (
        f"<g><title>{escape(box.name)}</title>"
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" fill="none" stroke="currentColor"{dashes}/>'
        f'<text x="{x + 10}" y="{y + 18}" fill="currentColor" font-weight="600">{escape(shown)}</text>'
        f'<text x="{x + 10}" y="{y + 34}" fill="currentColor" opacity="0.65" font-size="11">{escape(below)}</text></g>'
    )


def _arrow(arrow: Arrow, places: dict[str, tuple[float, float]]) -> str:
    (x1, y1), (x2, y2) = places[arrow.start], places[arrow.to]
    x1, y1, x2, y2 = x1 + _WIDTH, y1 + _HEIGHT / 2, x2 - 5, y2 + _HEIGHT / 2
    bend = (x2 - x1) / 2
    dashes = ' stroke-dasharray="4 4"' if arrow.dotted else ""
    line = f"M{x1} {y1}C{x1 + bend} {y1},{x2 - bend} {y2},{x2} {y2}"
    return (
        f'<path d="{line}" fill="none" stroke="currentColor" opacity="0.6"{dashes}/>'
        f'<path d="M{x2 - 1} {y2 - 4}l6 4l-6 4z" fill="currentColor" opacity="0.8"/>'
    )
