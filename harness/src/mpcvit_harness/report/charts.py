"""Geometry of charts: from values to places in a picture. The templates draw them as SVG or as rows of HTML."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

WIDTH, HEIGHT = 520.0, 360.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 14.0, 12.0, 46.0

_LETTER, _LINE, _MARK = 6.0, 12.0, 6.0
"""Of a label's font of 11 px: the width of a letter and the height of a line; the half width of a mark."""


@dataclass(frozen=True)
class ChartPoint:
    """A point of a scatter. `kind` is its class in the legend, `tip` the text that a pointer shows, `href` its page."""

    x: float
    y: float
    kind: str
    name: str
    tip: str
    href: str = ""


class Tick(NamedTuple):
    """A place on an axis, in pixels of a scatter or percent of a row, and its text."""

    at: float
    text: str


class Label(NamedTuple):
    """A point's name in the picture: its place, and which end of the text is there."""

    x: float
    y: float
    anchor: str
    text: str


class Mark(NamedTuple):
    """A point in its place."""

    x: float
    y: float
    point: ChartPoint
    label: Label | None


class Line(NamedTuple):
    """A line through pixels, as SVG's polyline takes it."""

    kind: str
    points: str


@dataclass(frozen=True)
class Scale:
    """A scale from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Sequence[float], *, log: bool = False, margin: float = 0.06) -> Scale:
        """The scale that holds all `values`, with a margin at both ends."""
        low, high = min(values), max(values)
        if log:
            room = (high / low) ** margin if high > low else 1.5
            return cls(low / room, high * room, log=True)
        room = (high - low) * margin or abs(high) * margin or 1.0
        return cls(low - room, high + room)

    def share(self, value: float) -> float:
        """Where `value` lies, from 0 to 1."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values within the scale, about four to eight."""
        if self.log:
            steps = (1, 2, 5) if self.high / self.low < 1000 else (1,)
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            all_values = [step * 10.0**power for power in powers for step in steps]
            return [value for value in all_values if self.low <= value <= self.high]
        power = 10.0 ** math.floor(math.log10((self.high - self.low) / 8))
        step = next(size * power for size in (1, 2, 5, 10) if (self.high - self.low) / (size * power) <= 8)
        return [step * i for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


@dataclass(frozen=True)
class Scatter:
    """A chart of points over two scales. `legend` names the kinds of points; a line is its kind and its values."""

    title: str
    x_label: str
    y_label: str
    x: Scale
    y: Scale
    points: Sequence[ChartPoint]
    legend: dict[str, str]
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]] = field(default_factory=tuple)

    width, height = WIDTH, HEIGHT
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of a pair of values."""
        return (
            self.left + self.x.share(x) * (self.right - self.left),
            self.bottom - self.y.share(y) * (self.bottom - self.top),
        )

    @property
    def x_ticks(self) -> list[Tick]:
        """The ticks of the horizontal axis."""
        return [Tick(self.place(value, self.y.low)[0], f"{value:g}") for value in self.x.ticks()]

    @property
    def y_ticks(self) -> list[Tick]:
        """The ticks of the vertical axis."""
        return [Tick(self.place(self.x.low, value)[1], f"{value:g}") for value in self.y.ticks()]

    @property
    def drawn_lines(self) -> list[Line]:
        """The lines in pixels."""
        return [
            Line(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in (self.place(*pair) for pair in pairs)))
            for kind, pairs in self.lines
        ]

    @property
    def marks(self) -> list[Mark]:
        """The points in pixels. A name is shown where it covers no other; the uppermost points come first."""
        places = [(*self.place(point.x, point.y), point) for point in self.points]
        taken = [(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y, _ in places]
        places.sort(key=lambda place: place[1])
        return [Mark(x, y, p, self._label(p.name, x, y, taken) if p.name else None) for x, y, p in places]

    @property
    def shown_legend(self) -> dict[str, str]:
        """The kinds that have a point."""
        kinds = {point.kind for point in self.points}
        return {kind: text for kind, text in self.legend.items() if kind in kinds}

    def _label(self, text: str, x: float, y: float, taken: list[tuple[float, float, float, float]]) -> Label | None:
        width = len(text) * _LETTER
        for anchor, at, up in (
            ("start", x + 8, y + 4),
            ("end", x - 8, y + 4),
            ("middle", x, y - 9),
            ("middle", x, y + 17),
        ):
            begin = {"start": at, "end": at - width, "middle": at - width / 2}[anchor]
            box = (begin, up - _LINE, begin + width, up + 1)
            inside = box[0] > self.left and box[2] < self.width and box[1] > 0 and box[3] < self.bottom
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                return Label(at, up, anchor, text)
        return None


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def front(points: Iterable[ChartPoint]) -> list[tuple[float, float]]:
    """The Pareto front for small x and large y: the points that no other point beats, from left to right."""
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not best or point.y > best[-1][1]:
            best.append((point.x, point.y))
    return best


@dataclass(frozen=True)
class Part:
    """A part of a bar: its kind in the legend, its width in percent of the row, and the text that a pointer shows."""

    kind: str
    width: float
    tip: str


@dataclass(frozen=True)
class Bar:
    """A row of parts, one after the other, with the total at its end."""

    name: str
    href: str
    parts: list[Part]
    total: str

    @property
    def tip(self) -> str:
        """The text that a pointer shows of the whole row."""
        return "\n".join((f"{self.name}: {self.total}", *(part.tip for part in self.parts)))


@dataclass(frozen=True)
class Dot:
    """A dot on a row: its place in percent, its kind, and the text that a pointer shows."""

    kind: str
    at: float
    tip: str
    href: str


@dataclass(frozen=True)
class DotRow:
    """A row of dots."""

    name: str
    dots: list[Dot]


@dataclass(frozen=True)
class Rows:
    """Bars or dots under one heading and over one scale."""

    title: str
    legend: dict[str, str]
    rows: Sequence[Bar | DotRow]
    ticks: list[Tick]
