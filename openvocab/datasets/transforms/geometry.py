"""Resize, scale, crop and flip: images bilinearly, label maps and masks by nearest neighbor, and boxes."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Literal, cast

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from openvocab.argument_checks import check_choice
from openvocab.datasets.transforms.enlargement import check_enlargement
from openvocab.datasets.transforms.objects import crop_objects, flip_objects, move_objects, resize_objects
from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS
from openvocab.structures import Size

Range = tuple[float, float]
_SIDES = re.compile(r"(?<!\w)(left|right)(?!\w)", re.IGNORECASE)


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resize to a size, or by the short or the long side with the aspect ratio kept. Give exactly one of the three.

    Args:
        size: (height, width).
        short_side, long_side: in pixels; from a list of short sides, one is drawn.
        max_long_side: with `short_side`, shrink further if the long side would exceed it. Without it, an image so
            narrow that it would become enormous is a bad sample.
        like: `opencv`, or `pillow` for the pixels and sizes of torchvision's detectors and official GLIP (needs
            `short_side`): a shrunk image is averaged over all of its pixels, and the long side is rounded down.

    Raises:
        ValueError: none or several of the three, `max_long_side` or `pillow` without `short_side`, an empty list, an
            unknown choice.
    """

    def __init__(
        self,
        size: Size | None = None,
        short_side: int | Sequence[int] | None = None,
        long_side: int | None = None,
        max_long_side: int | None = None,
        like: Literal["opencv", "pillow"] = "opencv",
    ) -> None:
        check_choice("like", like, ("opencv", "pillow"))
        if sum(value is not None for value in (size, short_side, long_side)) != 1:
            raise ValueError("Resize: give exactly one of size, short_side and long_side")
        if like == "pillow" and short_side is None:
            raise ValueError("Resize: like='pillow' needs short_side")
        if max_long_side is not None and short_side is None:
            raise ValueError("Resize: max_long_side needs short_side; give both, or long_side alone")
        if isinstance(short_side, Sequence) and not short_side:
            raise ValueError("Resize: short_side is an empty list; give at least one length")
        self.size, self.short_side, self.long_side, self.max_long_side = size, short_side, long_side, max_long_side
        self.like = like

    def transform(self, results: Results) -> Results:
        """Resize `img` (H, W, 3) and, if present, `gt_seg_map` (H, W) and objects."""
        height, width = results["img"].shape[:2]
        target = self._target((height, width))
        if self.short_side is not None:
            check_enlargement(results, target, "max_long_side bounds it")
        if target == (height, width):
            return results
        resize = _resize_as_pillow if self.like == "pillow" else _resize
        _replace(results, [resize(array, target) for array in _arrays(results)])
        move_objects(
            results,
            lambda objects: resize_objects(objects, (height, width), target, partial(_resize, size=target)),
        )
        return results

    def _target(self, size: Size) -> Size:
        """Return the size to resize an image of `size` to; draws one of several short sides."""
        if self.size:
            target_height, target_width = self.size
            return target_height, target_width
        return self._pillow_size(*size) if self.like == "pillow" else _scaled_size(size, self._scale(*size))

    def _pillow_size(self, height: int, width: int) -> Size:
        """Return the size to resize to by the rule of torchvision's detectors."""
        short, long = min(height, width), max(height, width)
        side = self._draw_short_side()
        if self.max_long_side is not None and long / short * side > self.max_long_side:
            side = max(1, round(self.max_long_side * short / long))
        scaled = side * long // short
        return (side, scaled) if height <= width else (scaled, side)

    def _draw_short_side(self) -> int:
        sides = self.short_side
        return sides if isinstance(sides, int) else int(np.random.choice(cast(Sequence[int], sides)))

    def _scale(self, height: int, width: int) -> float:
        """Return the factor by which the sides given by `short_side` or `long_side` scale an image."""
        if self.long_side is not None:
            return self.long_side / max(height, width)
        scale = self._draw_short_side() / min(height, width)
        # Without `max_long_side`, the limit is what the scale gives anyway.
        limit = self.max_long_side or max(height, width) * scale
        return min(scale, limit / max(height, width))


@TRANSFORMS.register_module()
class RandomScaleCrop(BaseTransform):
    """Scale by a random factor, crop at a random position, and pad right and bottom up to the size of the crop.

    The window is cut from the source first, and only it is resized: the scales and positions are distributed as if the
    image were resized and then cropped (up to a shift of less than one source pixel), at a fraction of the work.

    Args:
        crop: (height, width) of the result.
        long_side: range of the scaled image's long side, drawn as an integer (LSeg: 0.5 to 2 times 520).
        short_side: the same for the short side.
        ratio: range of the scale, relative to the size of `img`.

    Give exactly one range. Padding is black and, in the label map, ignored. Objects of which less than a pixel is left
    are dropped.

    Raises:
        ValueError: none or several ranges, or an empty one.
    """

    def __init__(
        self, crop: Size, long_side: Range | None = None, short_side: Range | None = None, ratio: Range | None = None
    ) -> None:
        ranges = {"long_side": long_side, "short_side": short_side, "ratio": ratio}
        given = {name: value for name, value in ranges.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"RandomScaleCrop: give exactly one of {', '.join(ranges)}; got {sorted(given)}")
        (self.scaled_quantity, (self.low, self.high)) = given.popitem()
        if not 0 < self.low <= self.high:
            raise ValueError(f"{self.scaled_quantity}: expected 0 < low <= high, got {(self.low, self.high)}")
        height, width = crop
        self.crop = (height, width)

    def transform(self, results: Results) -> Results:
        """Scale and crop `img` (H, W, 3) and, if present, `gt_seg_map` (H, W) and objects."""
        height, width = results["img"].shape[:2]
        target = _scaled_size((height, width), self._draw_scale((height, width)))
        rows = _draw_window(height, target[0], self.crop[0])
        columns = _draw_window(width, target[1], self.crop[1])
        # The exact factors of the rounded size, which move boxes and pixels alike.
        scale = target[0] / height, target[1] / width
        # the scaled window is smaller than the crop if the scaled image is; padding fills the rest
        visible_size = min(target[0], self.crop[0]), min(target[1], self.crop[1])
        cut = partial(self._cut, rows=rows, columns=columns, scale=scale, visible_size=visible_size)
        _replace(results, [cut(array, fill=_fill_of(array)) for array in _arrays(results)])
        # In source pixels: objects are moved before they are scaled.
        offset = rows[0], columns[0]
        move_objects(
            results,
            lambda objects: crop_objects(objects, offset, scale, visible_size, self.crop, partial(cut, fill=0)),
        )
        return results

    def _draw_scale(self, size: Size) -> float:
        if self.scaled_quantity == "ratio":
            return np.random.uniform(self.low, self.high)
        side = max(size) if self.scaled_quantity == "long_side" else min(size)
        return np.random.randint(int(self.low), int(self.high) + 1) / side

    def _cut(
        self,
        array: np.ndarray,
        rows: tuple[int, int],
        columns: tuple[int, int],
        scale: Range,
        visible_size: Size,
        fill: int,
    ) -> np.ndarray:
        """Cut a window out of an image (H, W, 3), label map or mask (H, W), scale it, and pad it to the crop's size."""
        window = array[rows[0] : rows[1], columns[0] : columns[1]]
        return _pad(_resize_by(window, scale, visible_size), self.crop, fill)


@TRANSFORMS.register_module()
class LargeScaleJitter(RandomScaleCrop):
    """Scale the image to fit a random multiple of the result's size, then crop and pad (arXiv 2012.07177).

    Args:
        size: (height, width) of the result.
        scale: range of the multiple; ViLD and most later detectors use 0.1 to 2.
    """

    def __init__(self, size: Size, scale: Range = (0.1, 2.0)) -> None:
        super().__init__(size, ratio=scale)

    def _draw_scale(self, size: Size) -> float:
        # The scale at which the whole image just fits into the result.
        fits = min(target / length for target, length in zip(self.crop, size))
        return fits * np.random.uniform(self.low, self.high)


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror left and right.

    An image whose `prompt` has the word left or right is never mirrored, since the phrase would become wrong. (Official
    GLIP mirrors it all the same; official MDETR exchanges the words, also in "he left".)

    Args:
        prob: probability that an image is mirrored.
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: Results) -> Results:
        """Flip `img` (H, W, 3) and, if present, `gt_seg_map` (H, W) and objects."""
        prompt = results.get("prompt")
        names_side = prompt is not None and _SIDES.search(prompt.text) is not None
        if np.random.random() < self.prob and not names_side:  # drawn in any case: later draws do not depend on words
            _replace(results, [cv2.flip(array, 1) for array in _arrays(results)])
            move_objects(results, lambda objects: flip_objects(objects, results["img"].shape[1]))
        return results


@TRANSFORMS.register_module()
class TakeAsOriginal(BaseTransform):
    """Predict and score in the frame of the image as it is now (few-shot protocols score at the input size)."""

    def transform(self, results: Results) -> Results:
        """Set `ori_shape`."""
        height, width = results["img"].shape[:2]
        results["ori_shape"] = height, width
        return results


def _arrays(results: Results) -> list[np.ndarray]:
    """Return the image (H, W, 3) and, if there is one, the label map (H, W)."""
    return [results["img"], results["gt_seg_map"]] if "gt_seg_map" in results else [results["img"]]


def _replace(results: Results, arrays: list[np.ndarray]) -> None:
    """Set what `_arrays` returns, and the size of the image."""
    image, *label_maps = arrays
    results["img"], results["img_shape"] = image, (image.shape[0], image.shape[1])
    for label_map in label_maps:
        results["gt_seg_map"] = label_map


def _scaled_size(size: Size, scale: float) -> Size:
    height, width = (max(1, int(length * scale + 0.5)) for length in size)
    return height, width


def _draw_window(length: int, scaled: int, crop: int) -> tuple[int, int]:
    """Draw where to cut along one axis: [start, stop) in source pixels, enough for `min(scaled, crop)` scaled ones."""
    if scaled <= crop:
        return 0, length
    offset = np.random.randint(scaled - crop + 1)
    # Rounded up, so that the scaled window is never shorter than the crop.
    extent = min(length, -(-crop * length // scaled))
    # Rounded to a source pixel, less than a pixel off; the window may not leave the image.
    start = min(int(offset * length / scaled + 0.5), length - extent)
    return start, start + extent


def _is_label_map(array: np.ndarray) -> bool:
    return array.ndim == 2


def _resize(array: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image (H, W, 3), label map or mask (H, W) to `size`."""
    # labels must not be interpolated; the exact variant reads at pixel centers, where the bilinear one reads the image
    flag = cv2.INTER_NEAREST_EXACT if _is_label_map(array) else cv2.INTER_LINEAR
    return cv2.resize(array, size[::-1], interpolation=flag)


def _resize_as_pillow(array: np.ndarray, size: Size) -> np.ndarray:
    """Resize an image (H, W, 3) as Pillow does; a label map (H, W) as `_resize`."""
    if _is_label_map(array):
        return _resize(array, size)
    return np.asarray(Image.fromarray(array).resize(size[::-1], Image.Resampling.BILINEAR))


def _resize_by(window: np.ndarray, scale: Range, size: Size) -> np.ndarray:
    """Resize by exact factors (y, x) and keep the first `size` pixels."""
    flag = cv2.INTER_NEAREST_EXACT if _is_label_map(window) else cv2.INTER_LINEAR
    # by factors, not to a size: a window that was rounded to whole pixels would be stretched a little
    resized = cv2.resize(window, None, fx=scale[1], fy=scale[0], interpolation=flag)
    return resized[: size[0], : size[1]]


def _fill_of(array: np.ndarray) -> int:
    """Return the value of padding: ignored in label maps, black in images."""
    return np.iinfo(array.dtype).max if _is_label_map(array) else 0


def _pad(array: np.ndarray, size: Size, fill: int) -> np.ndarray:
    """Pad right and bottom to `size`."""
    below, right = size[0] - array.shape[0], size[1] - array.shape[1]
    if not (below or right):
        return array
    return cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
