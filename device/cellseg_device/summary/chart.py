"""Simple charts as PNG: axes with round numbers or times, points, stepped lines, a legend."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

WIDTH_PX, HEIGHT_PX = 1200, 700
# Okabe and Ito's palette, which colour-blind people can distinguish, with its yellow darkened for a white background
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B5A900")
OTHERS = "#999999"
MADE_BY = ("Software", "cellseg-device")  # a text in the PNG file, by which it is known to be ours

_SCALE = 2  # drawn larger, then scaled down: smooth lines
_LEFT, _RIGHT, _TOP, _BOTTOM, _LEGEND = 100, 36, 76, 92, 210
_INK, _GRID, _PALE = "#222222", "#E4E4E4", "#555555"
_MARKERS = 4
_PLAIN = str.maketrans({"µ": "u", "²": "2", "–": "-"})  # Pillow's own font lacks these letters

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS_S = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 3, 7, 14)),
)
_STEPS_MONTHS = (1, 2, 3, 6)
_MONTH = 30.44 * _DAY


@dataclass(frozen=True)
class Axis:
    """A range of values, with the ticks that label it.

    Attributes
    ----------
    low, high : float
    ticks : tuple of (float, str)
        A label may have two lines.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Style:
    """How a series is drawn: its colour, and the shape of its points."""

    name: str
    colour: str
    marker: int = 0


def numbers(low: float, high: float, most: int = 8, least_step: float = 0) -> Axis:
    """Return an axis that covers a range, in about `most` steps of 1, 2 or 5 times a power of ten."""
    high = high if high > low else low + 1
    step = nice_step(max((high - low) / most, least_step))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    decimals = max(-math.floor(math.log10(step) + 1e-9), 0)
    ticks = tuple((n * step, f"{n * step:,.{decimals}f}") for n in range(first, last + 1))
    return Axis(first * step, last * step, ticks)


def nice_step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not less than `least`, which is positive."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def ordinals(number: int, most: int = 10) -> Axis:
    """Return an axis from the first to the last of so many things, in about `most` steps."""
    step = int(nice_step(max(number / most, 1)))
    ticks = tuple((float(n), f"{n:,}") for n in range(step, number + 1, step))
    return Axis(0, max(number, 1) + 1, ticks)


def times(start: datetime, end: datetime, most: int = 10) -> Axis:
    """Return an axis of time, in seconds since 1970, with at most `most` + 1 ticks at round times (UTC).

    The second line of a label gives the day or year if it differs from that of the tick before.
    """
    low, high = ((time - _EPOCH).total_seconds() for time in (start, end))
    margin = max((high - low) * 0.03, 1.0 if high > low else 60.0)
    low, high = low - margin, high + margin
    labelled, before = [], ""
    step = (high - low) / most
    for time, label, second in _round_times(low, high, step):
        labelled.append((time, f"{label}\n{second if second != before else ''}"))
        before = second
    return Axis(low, high, tuple(labelled))


def _round_times(low: float, high: float, least: float) -> list[tuple[float, str, str]]:
    step = next((s for s in _STEPS_S if s >= least), None)
    found = []
    if step is not None:
        origin = (_MONDAY - _EPOCH).total_seconds() if step >= _DAY else 0.0
        for number in range(math.ceil((low - origin) / step), math.floor((high - origin) / step) + 1):
            seconds = origin + number * step
            try:
                time = _EPOCH + timedelta(seconds=seconds)
            except OverflowError:  # beyond the years 1 and 9999
                continue
            if step >= _DAY:
                found.append((seconds, f"{time.day} {time:%b}", f"{time.year}"))
            else:
                clock = f"{time:%H:%M:%S}" if step < _MINUTE else f"{time:%H:%M}"
                found.append((seconds, clock, f"{time.day} {time:%b} {time.year}"))
        return found
    months = next((m for m in _STEPS_MONTHS if m * _MONTH >= least), None)
    months = months if months is not None else 12 * int(nice_step(least / (12 * _MONTH)))
    first, last = (int(seconds / (12 * _MONTH)) + 1970 + more for seconds, more in ((low, -1), (high, 2)))
    for number in range(max(first, 1) * 12, min(last, 9999) * 12 + 1):
        year, month = divmod(number, 12)
        if number % months or not 1 <= year <= 9999:
            continue
        time = datetime(year, month + 1, 1, tzinfo=UTC)
        seconds = (time - _EPOCH).total_seconds()
        if low <= seconds <= high:
            found.append((seconds, *((f"{time:%b}", f"{year}") if months < 12 else (f"{year}", ""))))
    return found


def style(index: int, name: str) -> Style:
    """Return the style of the series of this number; markers differ as well as colours."""
    return Style(name, PALETTE[index % len(PALETTE)], index % _MARKERS)


@dataclass
class Chart:
    """A chart, drawn step by step: first its axes, then what is added to it.

    Parameters
    ----------
    title, note : str
        Above the chart, in large and in small letters.
    x, y : Axis
    x_label, y_label : str
        With their units.
    legend : sequence of Style
        Named to the right of the chart; empty for none.
    """

    title: str
    note: str
    x: Axis
    y: Axis
    x_label: str
    y_label: str
    legend: Sequence[Style] = ()
    _image: Image.Image = field(init=False, repr=False)
    _draw: ImageDraw.ImageDraw = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._image = Image.new("RGB", (WIDTH_PX * _SCALE, HEIGHT_PX * _SCALE), "white")
        self._draw = ImageDraw.Draw(self._image)
        self._right = WIDTH_PX - _RIGHT - (_LEGEND if self.legend else 0)
        bottom = HEIGHT_PX - _BOTTOM
        self._write(_LEFT, 14, self.title, 21, "left")
        self._write(_LEFT, 44, self.note, 15, "left", colour=_PALE)
        for value, label in self.y.ticks:
            y = self._at_y(value)
            self._line([(_LEFT, y), (self._right, y)], _GRID, 1)
            self._write(_LEFT - 10, y - 10, label, 15, "right")
        for value, label in self.x.ticks:
            x = self._at_x(value)
            self._line([(x, bottom), (x, bottom + 6)], _PALE, 1)
            for row, text in enumerate(label.split("\n")):
                self._write(x, bottom + 9 + 19 * row, text, 15, "middle")
        self._line([(_LEFT, _TOP), (_LEFT, bottom), (self._right, bottom)], _PALE, 1.5)
        self._write((_LEFT + self._right) / 2, HEIGHT_PX - 36, self.x_label, 17, "middle")
        self._write_upwards(22, (_TOP + bottom) / 2, self.y_label, 17)
        for row, entry in enumerate(self.legend):
            y = _TOP + 14 + 26 * row
            self._marker(self._right + 26, y, 6, entry)
            self._write(self._right + 42, y - 11, _shortened(entry.name, 15, _LEGEND - 24), 15, "left")

    def points(
        self, places: Sequence[tuple[float, float]], hollow: Sequence[bool], shown: Style, radius: float
    ) -> None:
        """Draw points; one above the axis becomes an arrow at its top."""
        for (x, y), is_hollow in zip(places, hollow, strict=True):
            if y > self.y.high:
                top = (self._at_x(x), self._at_y(self.y.high) - 4)
                self._polygon(top, radius + 3, (-90, 30, 150), shown, is_hollow=is_hollow)
            else:
                self._marker(self._at_x(x), self._at_y(y), radius, shown, is_hollow=is_hollow)

    def drops(self, places: Sequence[tuple[float, float, float]], shown: Style, half: float) -> None:
        """Draw a line down from each (x, upper y) to its lower y, with a bar of half this width at its end."""
        for x, upper, lower in places:
            at, top, end = self._at_x(x), self._at_y(min(upper, self.y.high)), self._at_y(min(lower, self.y.high))
            self._line([(at, top), (at, end)], shown.colour, 1)
            self._line([(at - half, end), (at + half, end)], shown.colour, 2)

    def steps(self, edges: Sequence[float], heights: Sequence[float], shown: Style, *, filled: bool) -> None:
        """Draw a histogram: its outline and, if `filled`, its bars."""
        base = self._at_y(0)
        outline = [(self._at_x(edges[0]), base)]
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True):
            outline += [(self._at_x(left), self._at_y(height)), (self._at_x(right), self._at_y(height))]
            if filled and height > 0:
                corners = (self._at_x(left), self._at_y(height), self._at_x(right), base)
                self._draw.rectangle([_SCALE * c for c in corners], fill="#BFDCEC")
        self._line([*outline, (self._at_x(edges[-1]), base)], shown.colour, 2.5)

    def upright(self, value: float, text: str) -> None:
        """Mark a value of the x axis with a dashed line and a text at its top."""
        x = self._at_x(value)
        for y in range(_TOP, HEIGHT_PX - _BOTTOM, 12):
            self._line([(x, y), (x, min(y + 7, HEIGHT_PX - _BOTTOM))], _INK, 1.5)
        is_left = x < (_LEFT + self._right) / 2
        self._write(x + (8 if is_left else -8), _TOP + 2, text, 15, "left" if is_left else "right")

    def say(self, text: str) -> None:
        """Write in the middle of a chart that has nothing to show."""
        self._write((_LEFT + self._right) / 2, HEIGHT_PX / 2 - 30, text, 21, "middle", colour=_PALE)

    def png(self) -> bytes:
        """Return the chart as a PNG file: the same bytes for the same chart and font."""
        data, made_by = io.BytesIO(), PngInfo()
        made_by.add_text(*MADE_BY)
        self._image.reduce(_SCALE).save(data, "PNG", optimize=True, pnginfo=made_by)
        return data.getvalue()

    def _at_x(self, value: float) -> float:
        return _LEFT + (value - self.x.low) / (self.x.high - self.x.low) * (self._right - _LEFT)

    def _at_y(self, value: float) -> float:
        return HEIGHT_PX - _BOTTOM - (value - self.y.low) / (self.y.high - self.y.low) * (HEIGHT_PX - _BOTTOM - _TOP)

    def _line(self, places: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        self._draw.line([(x * _SCALE, y * _SCALE) for x, y in places], colour, round(width * _SCALE), "curve")

    def _marker(self, x: float, y: float, radius: float, shown: Style, *, is_hollow: bool = False) -> None:
        corners = (None, (45, 135, 225, 315), (-90, 30, 150), (0, 90, 180, 270))[shown.marker]
        if corners is not None:
            self._polygon((x, y), radius * 1.25, corners, shown, is_hollow=is_hollow)
            return
        box = [_SCALE * v for v in (x - radius, y - radius, x + radius, y + radius)]
        self._draw.ellipse(box, "white" if is_hollow else shown.colour, shown.colour, round(1.6 * _SCALE))

    def _polygon(
        self, middle: tuple[float, float], radius: float, angles: Sequence[int], shown: Style, *, is_hollow: bool
    ) -> None:
        x, y = middle
        turns = [math.radians(angle) for angle in angles]
        corners = [(_SCALE * (x + radius * math.cos(t)), _SCALE * (y + radius * math.sin(t))) for t in turns]
        fill = "white" if is_hollow else shown.colour
        self._draw.polygon(corners, fill, shown.colour, round(1.6 * _SCALE))

    def _write(self, x: float, y: float, text: str, size: int, align: str, *, colour: str = _INK) -> None:
        mask = _text(text, size * _SCALE)
        left = x * _SCALE - mask.width * {"left": 0, "middle": 0.5, "right": 1}[align]
        self._image.paste(colour, (round(left), round(y * _SCALE)), mask)

    def _write_upwards(self, x: float, middle: float, text: str, size: int) -> None:
        mask = _text(text, size * _SCALE).transpose(Image.Transpose.ROTATE_90)
        self._image.paste(_INK, (round(x * _SCALE), round(middle * _SCALE - mask.height / 2)), mask)


def _text(text: str, size: int) -> Image.Image:
    """Return a text drawn as a mask, whose height is the same for all texts of a size."""
    font = _font(size)
    if isinstance(font, ImageFont.ImageFont):  # a bitmap font, in one size and with Western European letters only
        text = text.translate({ord("–"): "-"}).encode("latin-1", "replace").decode("latin-1")
        grow = size / 13
        left, top, right, bottom = font.getbbox(text or " ")
        mask = Image.new("L", (max(int(right - left), 1), max(int(bottom - top), 1)))
        ImageDraw.Draw(mask).text((0, 0), text, 255, font)
        return mask.resize((max(round(mask.width * grow), 1), max(round(mask.height * grow), 1)))
    if font.getname()[0] != "DejaVu Sans":
        text = text.translate(_PLAIN)
    ascent, descent = font.getmetrics()
    mask = Image.new("L", (max(math.ceil(font.getlength(text)), 1), ascent + descent))
    ImageDraw.Draw(mask).text((0, 0), text, 255, font)
    return mask


def _shortened(text: str, size: int, width: float) -> str:
    """Return the text, shortened with dots if it is too wide."""
    if _text(text, size).width <= width:
        return text
    while text and _text(f"{text}...", size).width > width:
        text = text[:-1]
    return f"{text}..."


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return DejaVu Sans, which most systems have, or Pillow's own font, or without FreeType its bitmap font."""
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)
    except OSError:
        return ImageFont.load_default(size)
    except ImportError:
        return ImageFont.load_default()
