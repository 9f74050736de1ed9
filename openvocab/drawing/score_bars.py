"""Pictures of a photo and the probabilities of the names of the whole image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from openvocab.drawing.class_colors import class_colors
from openvocab.drawing.legend import FAINT_INK, INK, PAPER, font, short_name, side_by_side, text_size
from openvocab.drawing.visualization import enlarge

BAR = 8
"""Length of a bar of probability 1, in heights of a letter."""


def draw_score_bars(image: np.ndarray, scores: Sequence[tuple[str, float]]) -> np.ndarray:
    """Draw a photo and, next to it, a bar for the probability of each name.

    Args:
        image: (H, W, 3) uint8 RGB.
        scores: (name, probability) in the order of the lines.

    Returns:
        (H', W', 3) uint8 RGB; tiny images are enlarged.
    """
    picture = enlarge(image)
    text = text_size(picture.shape)
    letters, line = font(text), round(1.75 * text)
    names = [short_name(name) for name, _ in scores]
    name_width = max([letters.getlength(name) for name in names] or [0])
    left = round(2 * text + name_width)
    panel = Image.new("RGB", (round(left + BAR * text + 4 * text), line * len(scores) + text), PAPER)
    draw = ImageDraw.Draw(panel)
    colors = class_colors([name for name, _ in scores])
    for row, (name, (_, score), color) in enumerate(zip(names, scores, colors)):
        middle = text // 2 + line * row + line // 2
        end = left + round(BAR * text * score)
        draw.text((text, middle), name, INK, letters, anchor="lm")
        draw.rectangle((left, middle - text // 2, end, middle + text // 2), fill=tuple(int(value) for value in color))
        draw.text((end + text // 2, middle), f"{score:.2f}", FAINT_INK, letters, anchor="lm")
    return side_by_side([picture, np.asarray(panel)])
