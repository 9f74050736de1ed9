"""Objects drawn into a photo: masks, outlines and tags."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle

from openvocab.drawing.legend import font, short_name, text_color, text_size
from openvocab.drawing.tag_placement import place_tags
from openvocab.structures import DetectionPrediction

SMALLEST_TAG = 10
"""Least height of letters, in pixels: in a picture with many objects."""

DARK = 96
"""Outlines of colors whose channels are all below this would disappear on a darkened rim."""


@dataclass(frozen=True)
class ObjectStyle:
    """How objects are drawn, in one or several pictures."""

    colors: dict[int, np.ndarray]
    """(3,) uint8 RGB of every class present."""
    numbers: dict[int, int]
    """Number of every class in the legend; empty without a legend."""
    alpha: float
    """Opacity of the masks, 0..1."""
    with_scores: bool = True
    """Whether tags show the score if they have room."""


def draw_objects(photo: np.ndarray, objects: DetectionPrediction, style: ObjectStyle) -> tuple[np.ndarray, bool]:
    """Draw objects into a photo, smaller ones over larger ones, and their tags on top.

    Args:
        photo: (H, W, 3) uint8 RGB.
        objects: boxes in the frame of `photo`; masks may be of a frame that is smaller by a whole factor.
        style: colors, opacity, and what tags show.

    Returns:
        The picture (H, W, 3) uint8 RGB, and whether any tag is a number of the legend.
    """
    picture = photo.copy()
    boxes = objects.boxes.double().numpy().clip(0, np.array([*photo.shape[1::-1]] * 2))  # (N, 4)
    shades = [tuple(style.colors[label].tolist()) for label in objects.classes.tolist()]
    order = np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable").tolist()
    if objects.masks is not None:
        for index in order:
            _draw_mask(picture, objects.masks[index], shades[index], style.alpha)
    _draw_boxes(picture, boxes[order], [shades[index] for index in order])
    return _draw_tags(picture, objects, boxes, shades, style)


def _draw_mask(picture: np.ndarray, mask: dict[str, Any], shade: tuple[int, ...], alpha: float) -> None:
    """Blend one mask into a picture (H, W, 3) in place, and draw its outline."""
    left, top, width, height = rle.toBbox(mask).astype(int).tolist()
    factor = len(picture) // mask["size"][0]
    # only the box of the mask is enlarged and blended: whole pictures would take seconds for many objects
    part = rle.decode(mask)[top : top + height, left : left + width].repeat(factor, 0).repeat(factor, 1)
    left, top = left * factor, top * factor
    # A view, so that blending writes into the picture.
    view = picture[top : top + len(part), left : left + part.shape[1]]
    mixed = np.round((1 - alpha) * view + alpha * np.array(shade)).astype(np.uint8)
    np.copyto(view, mixed, where=part[..., None].astype(bool))
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top))
    cv2.drawContours(picture, outlines, -1, shade, 1)


def _draw_boxes(picture: np.ndarray, boxes: np.ndarray, shades: Sequence[tuple[int, ...]]) -> None:
    """Draw outlines of boxes (N, 4) into a picture in place.

    A darkened rim makes them visible on any photo, a lightened one those of dark colors.
    """
    width = max(1, round(max(picture.shape) / 600))
    starts = np.round(boxes[:, :2]).astype(int)
    # OpenCV draws the end pixel too, so that it is the one before the edge of the box.
    ends = np.maximum(starts, np.round(boxes[:, 2:]).astype(int) - 1)
    # All rims are collected first: where boxes overlap, the photo is darkened only once.
    dark_rim, light_rim = np.zeros((2, *picture.shape[:2]), dtype=np.uint8)
    for start, end, shade in zip(starts.tolist(), ends.tolist(), shades):
        cv2.rectangle(light_rim if max(shade) < DARK else dark_rim, start, end, 1, width + 2)
    picture[dark_rim > 0] //= 2
    picture[light_rim > 0] = 255 - (255 - picture[light_rim > 0]) // 2
    for start, end, shade in zip(starts.tolist(), ends.tolist(), shades):
        cv2.rectangle(picture, start, end, shade, width)


def _draw_tags(
    picture: np.ndarray,
    objects: DetectionPrediction,
    boxes: np.ndarray,
    shades: Sequence[tuple[int, ...]],
    style: ObjectStyle,
) -> tuple[np.ndarray, bool]:
    """Draw the tags of objects with boxes (N, 4); see `draw_objects` for the result."""
    size = _tag_letters(picture.shape, len(boxes))
    letters, margin, height = font(size), max(2, size // 4), round(1.35 * size)
    wordings = [_wordings(objects, index, style) for index in range(len(boxes))]
    widths = [[round(letters.getlength(words)) + 2 * margin for words in row] for row in wordings]
    tags = place_tags(boxes, widths, height, picture.shape[:2])
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    numbered = False
    for index, tag in enumerate(tags):
        if tag is None:
            continue
        words = wordings[index][tag.wording]
        right, bottom = tag.left + widths[index][tag.wording] - 1, tag.top + height - 1
        draw.rectangle((tag.left, tag.top, right, bottom), fill=shades[index])
        draw.text((tag.left + margin, tag.top + height / 2), words, text_color(shades[index]), letters, anchor="lm")
        numbered |= words == _number(objects, index, style)
    return np.asarray(canvas), numbered


def _wordings(objects: DetectionPrediction, index: int, style: ObjectStyle) -> list[str]:
    """Return the possible texts of an object's tag, the preferred one first."""
    name = short_name(objects.vocabulary.class_names[int(objects.classes[index])])
    score = [f"{name} {objects.scores[index]:.2f}"] if style.with_scores else []
    number = _number(objects, index, style)
    return [*score, name, *([] if number is None else [number])]


def _number(objects: DetectionPrediction, index: int, style: ObjectStyle) -> str | None:
    """Return the number of an object's class in the legend, None without a legend."""
    number = style.numbers.get(int(objects.classes[index]))
    return None if number is None else str(number)


def _tag_letters(picture_size: Sequence[int], count: int) -> int:
    """Return the height of letters, in pixels, for `count` tags: the more, the smaller."""
    room = (picture_size[0] * picture_size[1] / (count + 8)) ** 0.5
    return max(SMALLEST_TAG, round(min(room / 9, 0.7 * text_size(picture_size))))
