"""Several crops of one image, each with the box of the part that it shows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.crops import RandomResizedCrop
from openvocab.datasets.transforms.packing import PackSample
from openvocab.datasets.transforms.results import Packed, Results
from openvocab.registry import TRANSFORMS
from openvocab.structures import Size

Box = tuple[float, float, float, float]
VIEW_SETTINGS = {"area", "aspect", "flip", "transforms"}


@TRANSFORMS.register_module()
class CropViews(BaseTransform):
    """Make several views of an image, all of one size; `PackViews` packs them.

    Losses decide which views they read. A loss on captions needs views that the caption still describes: the whole
    image, or a mild crop; a mirrored view contradicts "left", changed colors contradict "red".

    Args:
        size: (height, width) of every view, divisible by the backbone's stride.
        views: one dict per view, with any of
            `area`: range of the crop's area, as a fraction of the image's (default: the whole image, resized);
            `aspect`: range of the crop's width over height (default: (3/4, 4/3));
            `flip`: probability of mirroring left and right (default: 0);
            `transforms`: further transforms of `img` that do not move pixels, such as changes of color.

    Raises:
        ValueError: fewer than two views, an unknown setting, a fraction out of range, a transform that changes the
            size.
    """

    def __init__(self, size: Size, views: Sequence[dict[str, Any]]) -> None:
        if len(views) < 2:
            raise ValueError(f"CropViews: expected at least two views, got {len(views)}; for one use RandomResizedCrop")
        height, width = size
        self.size = (height, width)
        self.views = [self._build_view(number, **_checked(view)) for number, view in enumerate(views)]

    def transform(self, results: Results) -> Results:
        """Set `views`, (H, W, 3) each, and `view_boxes`, (V, 4); `img` becomes the first view."""
        views = [self._make(results["img"], *view) for view in self.views]
        images = [image for image, _ in views]
        boxes = np.array([box for _, box in views], np.float32)  # (V, 4)
        return {**results, "img": images[0], "img_shape": self.size, "views": images, "view_boxes": boxes}

    def _build_view(
        self,
        number: int,
        area: tuple[float, float] | None = None,
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.0,
        transforms: Sequence[Any] = (),
    ) -> tuple[RandomResizedCrop | None, float, list]:
        """Return crop (None: the whole image), probability of a flip, and transforms of a view."""
        if not 0 <= flip <= 1:
            raise ValueError(f"CropViews: view {number}: flip: expected a probability from 0 to 1, got {flip}")
        crop = None if area is None else RandomResizedCrop(self.size, area, aspect)
        return crop, flip, [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms]

    def _make(
        self, source: np.ndarray, crop: RandomResizedCrop | None, flip: float, transforms: list
    ) -> tuple[np.ndarray, Box]:
        """Return a view (h, w, 3) of an image (H, W, 3), and the source positions of its left, top, right, bottom edge.

        Raises:
            ValueError: a transform has changed the size.
        """
        height, width = source.shape[:2]
        if crop is None:
            image, (left, top, right, bottom) = self._resized(source), (0, 0, width, height)
        else:
            cropped = crop.transform({"img": source})
            image, (left, top, right, bottom) = cropped["img"], cropped["crop_box"]
        if np.random.random() < flip:
            image, left, right = cv2.flip(image, 1), right, left  # left > right says that the view is mirrored
        for change in transforms:
            image = change({"img": image})["img"]
            if image.shape[:2] != self.size:
                raise ValueError(
                    f"CropViews: {type(change).__name__} changed the size of a view from {self.size} to "
                    f"{image.shape[:2]}; the transforms of a view may change pixels, not move them"
                )
        return image, (left, top, right, bottom)

    def _resized(self, image: np.ndarray) -> np.ndarray:
        return (
            # INTER_AREA averages the pixels that a smaller one covers, so that shrinking causes no aliasing.
            image if image.shape[:2] == self.size else cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA)
        )


@TRANSFORMS.register_module()
class PackViews(PackSample):
    """Pack the views of `CropViews`: `{"image": (V, 3, H, W) uint8 RGB, "sample": Sample}` with `view_boxes`."""

    def transform(self, results: Results) -> Packed:
        """Pack one item: `views`, V of (H, W, 3) BGR, become the image (V, 3, H, W) RGB.

        Raises:
            ValueError: there are no views.
        """
        if "views" not in results:
            raise ValueError("PackViews: no views to pack; put CropViews before it, or use PackSample")
        packed = [super(PackViews, self).transform({**results, "img": view}) for view in results["views"]]
        sample = dataclasses.replace(packed[0]["sample"], view_boxes=torch.from_numpy(results["view_boxes"]))
        return {"image": torch.stack([item["image"] for item in packed]), "sample": sample}


def _checked(view: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a view.

    Raises:
        ValueError: an unknown one.
    """
    unknown = set(view) - VIEW_SETTINGS
    if unknown:
        raise ValueError(f"CropViews: unknown settings {sorted(unknown)} of a view; expected {sorted(VIEW_SETTINGS)}")
    return view
