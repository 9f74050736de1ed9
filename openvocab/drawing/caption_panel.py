"""A caption below a picture, whose phrases have the colors of the objects that they name."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from openvocab.drawing.box_drawing import MASK_ALPHA, MAX_OBJECTS, MIN_SCORE, best_objects, draw_detections
from openvocab.drawing.class_figures import class_counts
from openvocab.drawing.legend import FAINT_INK, INK, PAPER, font, one_below_another, text_color, text_size
from openvocab.drawing.visualization import colors_of_present
from openvocab.structures import DetectionPrediction
from openvocab.vocabulary.prompt import CharacterRange, Prompt

NARROWEST = 20
"""Least width of a caption, in heights of its letters: a picture may be a few pixels wide."""
LINE = 1.8
"""Distance of two lines, in heights of the letters."""
Shade = tuple[int, ...]
"""Color (3,) 0..255 RGB."""


@dataclass(frozen=True)
class _Piece:
    """Characters of a caption that are drawn at once, a word or a part of one, and where."""

    begin: int
    end: int
    line: int
    left: float
    right: float


def draw_grounding(
    image: np.ndarray,
    prediction: DetectionPrediction,
    caption: Prompt | None,
    *,
    min_score: float = MIN_SCORE,
    max_objects: int = MAX_OBJECTS,
    alpha: float = MASK_ALPHA,
) -> np.ndarray:
    """Draw the objects of a photo above the caption that names them, in the colors of their phrases.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: objects whose classes are the phrases of the caption.
        caption: the caption with its phrases; None to draw the objects alone.
        min_score, max_objects, alpha: see `draw_detections`.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: see `draw_detections`.
    """
    overlay = draw_detections(
        image, prediction, min_score=min_score, max_objects=max_objects, alpha=alpha, legend=False
    )
    if caption is None:
        return overlay
    present = class_counts(best_objects(prediction, min_score, max_objects))
    colors = colors_of_present(prediction.vocabulary.class_names, present)
    found = {phrase: colors[phrase] for phrase in present}
    return one_below_another([overlay, draw_caption(caption, found, overlay.shape[1], text_size(overlay.shape))], 0)


def draw_caption(caption: Prompt, colors: Mapping[int, np.ndarray], width: int, text: int) -> np.ndarray:
    """Write a caption, with phrases on grounds of their colors, and those without a color underlined.

    Where phrases overlap, the shorter one is on top. A caption whose first letter is of a script from right to left is
    set in this direction.

    Args:
        caption: a text with P phrases.
        colors: (3,) uint8 RGB of phrases, by their indices.
        width: of the panel, in pixels; at least `NARROWEST` letters.
        text: height of the letters in pixels.

    Returns:
        (h, width, 3) uint8 RGB.
    """
    width = max(width, NARROWEST * text)
    characters = caption.text.encode(errors="replace").decode()  # Pillow cannot draw lone surrogates
    spans = [(span, index) for index, ranges in enumerate(caption.phrases) for span in ranges]
    borders = {border for span, _ in spans for border in span}
    pieces = _placed(characters, borders, font(text), width - 2 * text)
    panel = Image.new("RGB", (width, round(LINE * text * (pieces[-1].line + 1)) + text), PAPER)
    draw, grounds = ImageDraw.Draw(panel), dict[CharacterRange, Shade]()
    for span, index in sorted(spans, key=lambda pair: pair[0][0] - pair[0][1]):  # the longest first
        inside = [piece for piece in pieces if span[0] <= piece.begin < span[1]]
        if index in colors:
            depth = sum(begin < span[1] and span[0] < end for begin, end in grounds)
            grounds[span] = tuple(colors[index].tolist())
            _draw_grounds(draw, inside, grounds[span], text, depth)
        else:
            _draw_underlines(draw, inside, text)
    for piece in pieces:
        shades = [shade for (begin, end), shade in grounds.items() if begin <= piece.begin < end]
        ink = text_color(shades[-1]) if shades else INK
        words = characters[piece.begin : piece.end]
        draw.text((text + piece.left, _middle(piece.line, text)), words, ink, font(text), anchor="lm")
    return np.asarray(panel)


def _placed(text: str, borders: Set[int], letters: ImageFont.FreeTypeFont, width: float) -> list[_Piece]:
    """Set a text in lines of `width` pixels, broken between words, and in words that are longer than a line.

    Args:
        text: has a visible character.
        borders: characters at which pieces begin, even within a word.
        letters, width: the font, and the length of a line in pixels.
    """
    pieces: list[_Piece] = []
    line, left, space = 0, 0.0, 1.25 * letters.getlength(" ")  # wide, for the margins of grounds
    for word in re.finditer(r"\S+", text):
        begin, end = word.span()
        cuts = {begin, end} | {border for border in borders if begin < border < end}
        length = letters.getlength(word[0])
        if length > width:
            cuts = {*range(begin, end + 1)}
        elif left + length > width:
            line, left = line + 1, 0.0
        for start, stop in pairwise(sorted(cuts)):
            right = left + letters.getlength(text[start:stop])
            if right > width and left > 0:
                line, left, right = line + 1, 0.0, right - left
            pieces.append(_Piece(start, stop, line, left, right))
            left = right
        left += space
    if not _is_leftward(text):
        return pieces
    return [replace(piece, left=width - piece.right, right=width - piece.left) for piece in pieces]


def _is_leftward(text: str) -> bool:
    """Return whether the first letter of a text is of a script that is written from right to left."""
    directions = (unicodedata.bidirectional(character) for character in text)
    return next((direction for direction in directions if direction in ("L", "R", "AL")), "L") != "L"


def _draw_grounds(draw: ImageDraw.ImageDraw, pieces: Sequence[_Piece], shade: Shade, text: int, depth: int) -> None:
    """Draw the ground of a phrase in each of its lines; with a `depth`, lower, so that those below it stay visible."""
    pale = min(shade) > 235  # such a ground would not stand out from the paper
    half = text * max(0.55, 0.8 - 0.12 * depth)
    for line, left, right in _stretches(pieces):
        middle, margin = _middle(line, text), text / (6 + 4 * depth)
        box = (text + left - margin, middle - half, text + right + margin, middle + half)
        draw.rounded_rectangle(box, radius=text / 4, fill=shade, outline=FAINT_INK if pale or depth else None)


def _draw_underlines(draw: ImageDraw.ImageDraw, pieces: Sequence[_Piece], text: int) -> None:
    for line, left, right in _stretches(pieces):
        below = round(_middle(line, text) + 0.65 * text)
        draw.line((text + left, below, text + right, below), FAINT_INK, max(1, text // 12))


def _stretches(pieces: Sequence[_Piece]) -> Iterator[tuple[int, float, float]]:
    """Yield each line of neighboring pieces with its left and its right end."""
    for line, group in groupby(pieces, key=lambda piece: piece.line):
        of_line = list(group)
        yield line, min(piece.left for piece in of_line), max(piece.right for piece in of_line)


def _middle(line: int, text: int) -> float:
    return LINE * text * (line + 0.5) + text / 2
