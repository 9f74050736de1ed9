"""Resize, scale, crop and flip: images bilinear, label maps and masks by nearest neighbor, boxes with them."""

from collections.abc import Sequence
from functools import partial

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.enlargement import check_enlargement
from openvocab.datasets.transforms.objects import crop_objects, flip_objects, objects_of, resize_objects
from openvocab.registry import TRANSFORMS
from openvocab.structures import Size

Range = tuple[float, float]


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Resize to a size, or by the short or the long side with the aspect ratio kept. Give exactly one of the three.

    Args:
        size: (height, width).
        short_side, long_side: in pixels; of several short sides one is drawn.
        max_long_side: with `short_side`, shrink further where the long side would exceed it. Without it an image that
            is so narrow that it would become enormous is a bad sample.
    """

    def __init__(
        self,
        size: Size | None = None,
        short_side: int | Sequence[int] | None = None,
        long_side: int | None = None,
        max_long_side: int | None = None,
    ) -> None:
        if sum(value is not None for value in (size, short_side, long_side)) != 1:
            raise ValueError("Resize: give exactly one of size, short_side and long_side")
        if max_long_side is not None and short_side is None:
            raise ValueError("Resize: max_long_side goes with short_side")
        if isinstance(short_side, Sequence) and not short_side:
            raise ValueError("Resize: short_side is an empty list")
        self.size, self.short_side, self.long_side, self.max_long_side = size, short_side, long_side, max_long_side

    def transform(self, results: dict) -> dict:
        """Resize `img` and, where present, `gt_seg_map` and objects."""
        height, width = results["img"].shape[:2]
        target = tuple(self.size) if self.size else _scaled_size((height, width), self._scale(height, width))
        if self.short_side is not None:
            check_enlargement(results, target, "max_long_side bounds it")
        if target == (height, width):
            return results
        _replace(results, [_resize(array, target) for array in _arrays(results)])
        for key, objects in objects_of(results).items():
            results[key] = resize_objects(objects, (height, width), target, partial(_resize, size=target))
        return results

    def _scale(self, height: int, width: int) -> float:
        if self.long_side is not None:
            return self.long_side / max(height, width)
        short_side = self.short_side if isinstance(self.short_side, int) else np.random.choice(self.short_side)
        scale = short_side / min(height, width)
        limit = self.max_long_side or max(height, width) * scale
        return min(scale, limit / max(height, width))


@TRANSFORMS.register_module()
class RandomScaleCrop(BaseTransform):
    """Scale by a random factor, pad right and bottom where smaller than the crop, crop at a random place.

    The window is cut from the source first and only it is resized: the same distribution of scales and places as resize
    then crop (up to a shift of less than one source pixel), at a fraction of the work.

    Args:
        crop: (height, width) of the result.
        long_side: range of the scaled image's LONG side, drawn as an integer (LSeg: 0.5 to 2 times 520).
        short_side: the same for the short side.
        ratio: range of the scale, relative to the file's own size.

    Padding is black and, in the label map, ignored. Objects of which less than a pixel is left are dropped.
    Give exactly one range.
    """

    def __init__(
        self, crop: Size, long_side: Range | None = None, short_side: Range | None = None, ratio: Range | None = None
    ) -> None:
        ranges = {"long_side": long_side, "short_side": short_side, "ratio": ratio}
        given = {name: value for name, value in ranges.items() if value is not None}
        if len(given) != 1:
            raise ValueError(f"RandomScaleCrop: give exactly one of {', '.join(ranges)}; got {sorted(given)}")
        (self.kind, (self.low, self.high)) = given.popitem()
        if not 0 < self.low <= self.high:
            raise ValueError(f"{self.kind}: expected 0 < low <= high, got {(self.low, self.high)}")
        self.crop = tuple(crop)

    def transform(self, results: dict) -> dict:
        """Scale and crop `img` and, where present, `gt_seg_map` and objects."""
        size = results["img"].shape[:2]
        target = _scaled_size(size, self._draw_scale(size))
        window = [_draw_window(*lengths) for lengths in zip(size, target, self.crop)]
        scale = tuple(after / before for after, before in zip(target, size))
        shown = tuple(map(min, target, self.crop))
        cut = partial(self._cut, window=window, scale=scale, shown=shown)
        _replace(results, [cut(array, fill=_fill_of(array)) for array in _arrays(results)])
        for key, objects in objects_of(results).items():
            offset = tuple(start for start, _ in window)
            results[key] = crop_objects(objects, offset, scale, shown, self.crop, partial(cut, fill=0))
        return results

    def _draw_scale(self, size: Size) -> float:
        if self.kind == "ratio":
            return np.random.uniform(self.low, self.high)
        side = max(size) if self.kind == "long_side" else min(size)
        return np.random.randint(int(self.low), int(self.high) + 1) / side

    def _cut(
        self, array: np.ndarray, window: list[tuple[int, int]], scale: Range, shown: Size, fill: int
    ) -> np.ndarray:
        (top, bottom), (left, right) = window
        return _pad(_resize_by(array[top:bottom, left:right], scale, shown), self.crop, fill)


@TRANSFORMS.register_module()
class LargeScaleJitter(RandomScaleCrop):
    """Scale so that the image fits a random multiple of the result, then crop and pad (arXiv 2012.07177).

    Args:
        size: (height, width) of the result.
        scale: range of the multiple; ViLD and most detectors since use 0.1 to 2.
    """

    def __init__(self, size: Size, scale: Range = (0.1, 2.0)) -> None:
        super().__init__(size, ratio=scale)

    def _draw_scale(self, size: Size) -> float:
        fits = min(target / length for target, length in zip(self.crop, size))
        return fits * np.random.uniform(self.low, self.high)


@TRANSFORMS.register_module()
class RandomFlip(BaseTransform):
    """Mirror left and right with a probability."""

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flip `img` and, where present, `gt_seg_map` and objects."""
        if np.random.random() < self.prob:
            _replace(results, [cv2.flip(array, 1) for array in _arrays(results)])
            for key, objects in objects_of(results).items():
                results[key] = flip_objects(objects, results["img"].shape[1])
        return results


@TRANSFORMS.register_module()
class TakeAsOriginal(BaseTransform):
    """Make the present size the frame of predictions and scores (few-shot protocols score at the input size)."""

    def transform(self, results: dict) -> dict:
        """Set `ori_shape`."""
        results["ori_shape"] = results["img"].shape[:2]
        return results


def _arrays(results: dict) -> list[np.ndarray]:
    """Return the image and, where there is one, the label map."""
    return [results[key] for key in ("img", "gt_seg_map") if key in results]


def _replace(results: dict, arrays: list[np.ndarray]) -> None:
    results.update(zip(("img", "gt_seg_map"), arrays))
    results["img_shape"] = arrays[0].shape[:2]


def _scaled_size(size: Size, scale: float) -> Size:
    return tuple(max(1, int(length * scale + 0.5)) for length in size)


def _draw_window(length: int, scaled: int, crop: int) -> tuple[int, int]:
    """Draw where to cut along one axis: [start, stop) in source pixels, enough for `min(scaled, crop)` scaled ones."""
    if scaled <= crop:
        return 0, length
    offset = np.random.randint(scaled - crop + 1)
    extent = min(length, -(-crop * length // scaled))
    start = min(int(offset * length / scaled + 0.5), length - extent)
    return start, start + extent


def _is_label_map(array: np.ndarray) -> bool:
    return array.ndim == 2


def _resize(array: np.ndarray, size: Size) -> np.ndarray:
    flag = cv2.INTER_NEAREST_EXACT if _is_label_map(array) else cv2.INTER_LINEAR
    return cv2.resize(array, size[::-1], interpolation=flag)


def _resize_by(window: np.ndarray, scale: Range, size: Size) -> np.ndarray:
    """Resize by exact factors (y, x) and keep the first `size` pixels."""
    flag = cv2.INTER_NEAREST_EXACT if _is_label_map(window) else cv2.INTER_LINEAR
    resized = cv2.resize(window, None, fx=scale[1], fy=scale[0], interpolation=flag)
    return resized[: size[0], : size[1]]


def _fill_of(array: np.ndarray) -> int:
    """Return the value of padding: ignored in label maps, black in images."""
    return np.iinfo(array.dtype).max if _is_label_map(array) else 0


def _pad(array: np.ndarray, size: Size, fill: int) -> np.ndarray:
    below, right = size[0] - array.shape[0], size[1] - array.shape[1]
    if not (below or right):
        return array
    return cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_CONSTANT, value=fill)
