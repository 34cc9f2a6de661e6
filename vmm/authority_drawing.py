"""A system's authority as a picture: SVG, in layers from those who ask, on top, to those who are asked.

Drawn are requests with their operations, who drives which device, lent memory (dashed) and supervision
(dotted). Who asks is answered, and a device answers its driver: that is not drawn. The same graph always
gives the same bytes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from html import escape
from statistics import mean

from vmm.authority import Graph, Influence

COLUMN, BOX_WIDTH, BOX_HEIGHT, MARGIN, LINE = 290, 200, 46, 170, 14  # pixels
LABEL, NAME, LENT = 29, 26, 20  # characters of a line

_FILL = {"program": "#e8f1fb", "component": "#eef7ea", "supervisor": "#f3eefb", "device": "#fdf1e3"}
_STROKE = {
    "request": 'stroke="#1f5fa8" stroke-width="1.6" marker-end="url(#tip)"',
    "device": 'stroke="#a8651f" stroke-width="1.6" marker-end="url(#tip)"',
    "grant": 'stroke="#b3261e" stroke-width="1.4" stroke-dasharray="7 4"',
    "dma": 'stroke="#b3261e" stroke-width="1.4" stroke-dasharray="7 4"',
    "supervision": 'stroke="#7a6a99" stroke-dasharray="2 4"',
    "group": 'stroke="#7a6a99" stroke-dasharray="2 4"',
}  # what is drawn, and how
_LENT = ("grant", "dma")


def svg(found: Graph, title: str) -> str:
    """The picture of `found`, a whole SVG file."""
    edges = [edge for edge in found.edges if edge.by in _STROKE]
    layers = _layers(found, edges)
    centres = _centres(layers, edges)
    widest = max(len(layer) for layer in layers)
    most = max((len(_asks(node, edges)) for node in found.nodes), default=0)
    row = BOX_HEIGHT + 60 + LINE * most
    boxes = {
        node: (x + MARGIN + widest * COLUMN / 2, 60 + row * depth) for node, (x, depth) in centres.items()
    }
    width, height = 2 * MARGIN + widest * COLUMN, 60 + row * (len(layers) - 1) + BOX_HEIGHT + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#444"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        *_text(width / 2, 26, [title], "middle"),
    ]
    drawn: set[tuple[str, frozenset[str]]] = set()
    for edge in edges:
        pair = (edge.by, frozenset((edge.source, edge.target)))
        if edge.by not in _LENT or pair not in drawn:
            parts += _edge(edge, boxes[edge.source], boxes[edge.target])
        drawn.add(pair)
    for node, (x, y) in boxes.items():
        parts.append(
            f'<rect x="{x - BOX_WIDTH / 2:.0f}" y="{y:.0f}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" '
            f'fill="{_FILL[found.nodes[node]]}" stroke="#444"/>'
        )
        lines = textwrap.wrap(node, NAME)
        parts += _text(x, y + BOX_HEIGHT / 2 + 4 - LINE * (len(lines) - 1) / 2, lines, "middle")
        parts += _text(x - BOX_WIDTH / 2, y + BOX_HEIGHT + 18, _asks(node, edges), "start")
    return "\n".join([*parts, "</svg>", ""])


def _layers(found: Graph, edges: Sequence[Influence]) -> list[list[str]]:
    """The nodes by how many ask, one after the other, until a request comes to them."""
    depth = dict.fromkeys(found.nodes, 0)
    down = [edge for edge in edges if edge.by in ("request", "device")]
    for _ in found.nodes:  # enough, as needs form no cycle
        for edge in down:
            depth[edge.target] = min(max(depth[edge.target], depth[edge.source] + 1), len(depth))
    levels = sorted(set(depth.values()))
    return [[node for node in found.nodes if depth[node] == level] for level in levels] or [[]]


def _centres(layers: list[list[str]], edges: Sequence[Influence]) -> dict[str, tuple[float, int]]:
    """The x of each node's middle (0: of the picture) and its layer, ordered as those who ask."""
    centres: dict[str, tuple[float, int]] = {}
    for depth, layer in enumerate(layers):
        above = {
            node: [centres[edge.source][0] for edge in edges
                   if edge.target == node and edge.source in centres and edge.by in ("request", "device")]
            for node in layer
        }  # fmt: skip
        ordered = sorted(layer, key=lambda node: (mean(above[node]) if above[node] else 0.0, node))
        for place, node in enumerate(ordered):
            centres[node] = (COLUMN * (place - (len(ordered) - 1) / 2), depth)
    return centres


def _asks(node: str, edges: Sequence[Influence]) -> list[str]:
    """What is written below a node: whom it asks or drives, and for what."""
    lines: list[str] = []
    for edge in edges:
        if edge.source == node and edge.by in ("request", "device"):
            protocol, dot, _ = edge.what[0].partition(".")
            what = ", ".join(each.removeprefix(f"{protocol}.") for each in edge.what)
            text = f"{protocol} {what}" if dot else what
            lines += textwrap.wrap(f"{edge.target}: {text}", LABEL)
    return lines


def _edge(edge: Influence, start: tuple[float, float], end: tuple[float, float]) -> Iterator[str]:
    (x1, y1), (x2, y2) = start, end
    if edge.by in _LENT or y1 == y2:  # past the boxes between, on the right
        x1, x2, y1, y2 = x1 + BOX_WIDTH / 2, x2 + BOX_WIDTH / 2, y1 + BOX_HEIGHT / 2, y2 + BOX_HEIGHT / 2
        way = f"M{x1:.0f} {y1:.0f}C{x1 + 90:.0f} {y1:.0f} {x2 + 90:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"
    else:
        y1, y2 = (y1 + BOX_HEIGHT, y2) if y1 < y2 else (y1, y2 + BOX_HEIGHT)
        way = f"M{x1:.0f} {y1:.0f}L{x2:.0f} {y2:.0f}"
    yield f'<path d="{way}" fill="none" {_STROKE[edge.by]}/>'
    if edge.by in _LENT:
        lines = textwrap.wrap(", ".join(edge.what), LENT)
        yield from _text((x1 + x2) / 2 + 74, (y1 + y2) / 2, lines, "start")


def _text(x: float, y: float, lines: Sequence[str], anchor: str) -> Iterator[str]:
    for number, line in enumerate(lines):
        text = "".join(each if each.isprintable() else "?" for each in line)
        yield (
            f'<text x="{x:.0f}" y="{y + LINE * number:.0f}" text-anchor="{anchor}" fill="#222" '
            f'paint-order="stroke" stroke="white" stroke-width="3">{escape(text)}</text>'
        )
