"""Panels next to a picture: titles and a legend of classes."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER = (250, 250, 248)
INK = (32, 34, 38)
FAINT_INK = (112, 116, 124)
MIN_TEXT, MIN_ROWS, MAX_NAME = 12, 8, 32


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, `size` pixels high, which has Latin, Greek and Cyrillic letters.

    It comes with matplotlib, which mmengine needs.
    """
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def text_color(ground: Sequence[int] | np.ndarray) -> tuple[int, int, int]:
    """Return the color of text on `ground` (3,) uint8 RGB: `INK` or `PAPER`, whichever contrasts more (WCAG 2)."""
    # Relative luminance, plus the 0.05 of WCAG's contrast ratio; a gamma of 2.2 stands for the exact sRGB curve.
    linear = (np.array([ground, INK, PAPER]) / 255) ** 2.2
    ground_light, ink_light, paper_light = linear @ (0.2126, 0.7152, 0.0722) + 0.05
    return INK if ground_light / ink_light >= paper_light / ground_light else PAPER


def text_size(image_size: Sequence[int]) -> int:
    """Return the height of text, in pixels, that is readable next to a picture of (height, width)."""
    return max(MIN_TEXT, round((image_size[0] * image_size[1]) ** 0.5 / 27))


def draw_legend(
    rows: Sequence[tuple[str, np.ndarray, Sequence[str]]], titles: Sequence[str], text: int, height: int
) -> np.ndarray:
    """Draw a table with a swatch, a name and columns of figures.

    Args:
        rows: (name, color (3,) uint8 RGB, figures); the last line counts those that do not fit.
        titles: titles of the columns of figures; if all are empty, there is no line of titles.
        text: height of the text in pixels.
        height: height of the picture next to it, in pixels; at least `MIN_ROWS` are drawn, however low it is.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    letters, line, swatch = font(text), round(1.75 * text), round(1.15 * text)
    room = max(MIN_ROWS, (height - text) // line - any(titles))
    omitted = 0 if len(rows) <= room else len(rows) - room + 1
    drawn = [(short_name(name), color, figures) for name, color, figures in rows[: len(rows) - omitted]]
    name_width = max([letters.getlength(name) for name, _, _ in drawn] or [0])
    columns = [max(letters.getlength(cell) for cell in cells) for cells in zip(titles, *(row[2] for row in drawn))]
    start = text + swatch + round(0.7 * text)
    width = round(start + name_width + sum(column + 1.4 * text for column in columns) + text)
    lines = len(drawn) + any(titles) + (omitted > 0)
    panel = Image.new("RGB", (width, line * lines + text), PAPER)
    draw = ImageDraw.Draw(panel)

    def draw_figures(cells: Sequence[str], middle: float) -> None:
        """Draw one line of the columns, aligned at the right, with its vertical center at `middle`."""
        right: float = width - text
        for cell, column in zip(reversed(cells), reversed(columns)):
            draw.text((right, middle), cell, FAINT_INK, letters, anchor="rm")
            right -= column + 1.4 * text

    middle = text // 2 + line // 2
    if any(titles):
        draw_figures(titles, middle)
        middle += line
    for name, color, figures in drawn:
        box = (text, middle - swatch // 2, text + swatch, middle + swatch // 2)
        # white classes would be invisible on the paper
        outline = FAINT_INK if np.abs(color.astype(int) - PAPER).max() < 40 else None
        draw.rounded_rectangle(box, radius=swatch // 4, fill=tuple(int(value) for value in color), outline=outline)
        draw.text((start, middle), name, INK, letters, anchor="lm")
        draw_figures(figures, middle)
        middle += line
    if omitted > 0:
        draw.text((start, middle), f"and {omitted} more", FAINT_INK, letters, anchor="lm")
    return np.asarray(panel)


def draw_long_legend(
    rows: Sequence[tuple[str, np.ndarray, Sequence[str]]], titles: Sequence[str], image_size: Sequence[int]
) -> list[np.ndarray]:
    """Draw a table with all rows: many rows have smaller letters, and even more are spread over several columns.

    Args:
        rows, titles: see `draw_legend`.
        image_size: (height, width) of the picture next to it.

    Returns:
        The columns, each (h, w, 3) uint8 RGB.
    """
    height = image_size[0]
    fitting = int(height / (1.75 * (len(rows) + 2)))
    text = max(MIN_TEXT, min(text_size(image_size), fitting))
    room = max(MIN_ROWS, (height - text) // round(1.75 * text)) - 1  # one line for the titles
    starts = range(0, max(1, len(rows)), room)
    return [draw_legend(rows[start : start + room], titles, text, height) for start in starts]


def short_name(name: str) -> str:
    """Return a name on one line, cut to `MAX_NAME` characters."""
    name = " ".join(name.split())
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"


def with_title(picture: np.ndarray, title: str, text: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 below a centered line of text, whose letters are `text` pixels high."""
    line = Image.new("RGB", (picture.shape[1], 2 * text), PAPER)
    ImageDraw.Draw(line).text((picture.shape[1] // 2, text), title, INK, font(text), anchor="mm")
    return np.vstack([np.asarray(line), picture])


def with_lines_below(picture: np.ndarray, lines: Sequence[str], text: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 above lines of text, `text` pixels high; a long line takes up to three rows."""
    letters, step = font(text), round(1.4 * text)
    rows = [row for line in lines for row in _broken(" ".join(line.split()), letters, picture.shape[1] - text)]
    panel = Image.new("RGB", (picture.shape[1], step * len(rows) + text // 2), PAPER)
    draw = ImageDraw.Draw(panel)
    for index, row in enumerate(rows):
        draw.text((text // 2, round((index + 0.6) * step)), row, INK, letters, anchor="lm")
    return np.vstack([picture, np.asarray(panel)])


def _broken(line: str, letters: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Break a line between words into at most three rows of `width` pixels; what does not fit is cut off."""
    rows = [""]
    for word in line.split(" "):
        longer = f"{rows[-1]} {word}".strip()
        if letters.getlength(longer) <= width or not rows[-1]:
            rows[-1] = longer
        else:
            rows.append(word)
    if len(rows) > 3:
        rows = [*rows[:2], rows[2] + "…"]
    return [_cut(row, letters, width) for row in rows]


def _cut(row: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    while len(row) > 1 and letters.getlength(row) > width:
        row = row[:-2] + "…"
    return row


def side_by_side(pictures: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Put pictures (H_i, W_i, 3) uint8 next to each other, aligned at the top, `gap` pixels apart."""
    height = max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + gap * (len(pictures) - 1)
    sheet = np.full((height, width, 3), PAPER, dtype=np.uint8)
    left = 0
    for picture in pictures:
        sheet[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + gap
    return sheet


def one_below_another(pictures: Sequence[np.ndarray], gap: int = 16) -> np.ndarray:
    """Put pictures (H_i, W_i, 3) uint8 below each other, aligned at the left, `gap` pixels apart."""
    turned = [picture.transpose(1, 0, 2) for picture in pictures]  # (W, H, 3)
    return np.ascontiguousarray(side_by_side(turned, gap).transpose(1, 0, 2))  # (H, W, 3)
