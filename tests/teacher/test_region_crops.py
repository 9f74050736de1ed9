"""Crops are those of CLIP's own preprocessing, of windows that are rounded as DetPro's."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from openvocab.teacher.region_crops import check_crop_rule, crop_picture, crop_windows

SIZE = (48, 100)


def picture(size=SIZE, seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (size[0] // 3, size[1] // 3, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def test_windows_equal_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(50, 2, generator=generator) * torch.tensor([90.0, 40.0])
    boxes = torch.cat([start, start + torch.rand(50, 2, generator=generator) * 30], 1)
    boxes = boxes.clamp(max=torch.tensor([100.0, 48.0, 100.0, 48.0]))
    windows = crop_windows(boxes, SIZE, (1.0, 1.5))
    assert windows.shape == (50, 2, 4) and windows.dtype == np.int64
    for box, of_box in zip(boxes.tolist(), windows):
        for scale, window in zip((1.0, 1.5), of_box):
            for axis, limit in ((0, 100), (1, 48)):
                middle, half = (box[axis] + box[axis + 2]) / 2, (box[axis + 2] - box[axis]) / 2 * scale
                assert window[axis] == max(0, min(limit - 1, math.floor(middle - half - 0.001)))
                assert window[axis + 2] == min(limit, max(window[axis] + 1, math.ceil(middle + half + 0.001)))


@pytest.mark.parametrize("box", [[0, 0, 100, 48], [99.5, 47.5, 100, 48], [10, 10, 10, 10], [100, 48, 100, 48]])
def test_every_window_shows_a_pixel_of_the_image(box):
    x1, y1, x2, y2 = crop_windows(torch.tensor([box], dtype=torch.float32), SIZE, (1.0, 1.5, 4.0))[0].T
    assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= 100).all() and (y2 <= 48).all()
    assert (x2 > x1).all() and (y2 > y1).all()


def test_no_boxes_are_no_windows():
    assert crop_windows(torch.empty(0, 4), SIZE, (1.0, 1.5)).shape == (0, 2, 4)


@pytest.mark.parametrize("side", [16, 64])
def test_center_is_the_original_preprocessing(side):
    image = picture()
    preprocess = [Resize(side, InterpolationMode.BICUBIC), CenterCrop(side)]
    for window in ([0, 0, 100, 48], [3, 5, 20, 45], [40, 10, 95, 21], [7, 7, 8, 8], [0, 0, 64, 48], [1, 2, 34, 35]):
        expected = Image.fromarray(image).crop(window)
        for step in preprocess:
            expected = step(expected)
        found = crop_picture(Image.fromarray(image), window, side, "center")
        assert found.shape == (side, side, 3) and (found == np.asarray(expected)).all()


def test_squash_shows_the_whole_window():
    image = Image.fromarray(picture())
    expected = np.asarray(image.crop((3, 5, 90, 15)).resize((24, 24), Image.Resampling.BICUBIC))
    assert (crop_picture(image, [3, 5, 90, 15], 24, "squash") == expected).all()
    assert (crop_picture(image, [3, 5, 90, 15], 24, "center") != expected).any()


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="expected one of center, squash, got 'middle'"):
        check_crop_rule("middle")


def test_the_window_of_a_mirrored_box_shows_the_mirrored_content():
    image = picture()
    boxes = torch.tensor([[10.0, 5, 30, 25], [60.3, 0, 99.7, 40.2], [0, 0, 8, 8]])
    mirrored = boxes.clone()
    mirrored[:, [0, 2]] = 100 - boxes[:, [2, 0]]
    pairs = zip(crop_windows(boxes, SIZE, (1.0, 1.5)), crop_windows(mirrored, SIZE, (1.0, 1.5)))
    for windows, others in pairs:
        for (x1, y1, x2, y2), (a1, b1, a2, b2) in zip(windows, others):
            assert (image[y1:y2, x1:x2] == image[:, ::-1][b1:b2, a1:a2][:, ::-1]).all()
