"""Geometry moves image and labels together, never mixes labels, and cutting first equals resizing first."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from openvocab.datasets.transforms import (
    PackSample,
    PhotometricDistortion,
    RandomFlip,
    RandomScaleCrop,
    Resize,
    TakeAsOriginal,
)
from openvocab.registry import TRANSFORMS


def _results(height: int = 48, width: int = 64, dtype=np.uint8) -> dict:
    """Labels in blocks; the image shows the label as gray value."""
    generator = np.random.default_rng(0)
    blocks = generator.choice([3, 60, 200, 255], (height // 8, width // 8)).astype(dtype)
    labels = blocks.repeat(8, 0).repeat(8, 1)
    image = np.repeat(labels[..., None].astype(np.uint8), 3, axis=-1)
    return {
        "img": image,
        "gt_seg_map": labels,
        "ori_shape": (height, width),
        "img_shape": (height, width),
        "sample_id": "x",
    }


TRANSFORM_LIST = [
    Resize(size=(30, 50)),
    Resize(short_side=96),
    RandomScaleCrop((40, 40), ratio=(0.4, 2.2)),
    RandomScaleCrop((40, 40), long_side=(20, 150)),
    RandomFlip(prob=0.5),
]


@pytest.mark.parametrize("transform", TRANSFORM_LIST, ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_are_never_interpolated_and_stay_with_the_image(transform, dtype):
    for seed in range(20):
        np.random.seed(seed)
        out = transform(_results(dtype=dtype))
        ignored = np.iinfo(dtype).max
        assert out["gt_seg_map"].dtype == dtype and out["img"].dtype == np.uint8
        assert set(np.unique(out["gt_seg_map"])) <= {3, 60, 200, 255, ignored}
        assert out["img"].shape[:2] == out["gt_seg_map"].shape == tuple(out["img_shape"])
        inside = out["gt_seg_map"] != ignored
        agree = np.abs(out["img"][..., 0].astype(int) - out["gt_seg_map"]) < 8
        assert agree[inside].mean() > 0.65  # the rest is on the interpolated edges of blocks


def test_flip_is_exact():
    before = _results()
    after = RandomFlip(prob=1.0)(dict(before))
    assert np.array_equal(after["img"], before["img"][:, ::-1])
    assert np.array_equal(after["gt_seg_map"], before["gt_seg_map"][:, ::-1])
    assert np.array_equal(RandomFlip(prob=0.0)(dict(before))["img"], before["img"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"size": (10, 20)}, (10, 20)),
        ({"short_side": 96}, (96, 128)),
        ({"short_side": 96, "max_long_side": 100}, (75, 100)),
        ({"long_side": 32}, (24, 32)),
    ],
)
def test_resize_sizes(arguments, expected):
    assert Resize(**arguments)(_results())["img"].shape[:2] == expected


@pytest.mark.parametrize(
    ("size", "short_side", "limit", "expected"),
    [
        ((480, 640), 800, 1333, (800, 1066)),  # 1066.7
        ((640, 480), 800, 1333, (1066, 800)),
        ((300, 900), 800, 1333, (444, 1332)),
        ((100, 150), 80, None, (80, 120)),
        ((80, 111), 80, 200, (80, 111)),
    ],
)
def test_a_resize_like_pillow_has_the_sizes_and_pixels_of_torchvision(size, short_side, limit, expected):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    resize = Resize(short_side=short_side, max_long_side=limit, like="pillow")
    resized = resize({"img": image, "gt_seg_map": image[..., 0].copy()})
    assert resized["img"].shape[:2] == resized["gt_seg_map"].shape == expected
    theirs = functional.resize(Image.fromarray(image), list(expected))
    assert np.array_equal(resized["img"], np.asarray(theirs))
    assert set(np.unique(resized["gt_seg_map"])) <= set(np.unique(image[..., 0]))


def test_a_resize_like_pillow_needs_a_short_side():
    with pytest.raises(ValueError, match="Resize: like='pillow' needs short_side"):
        Resize(long_side=96, like="pillow")
    with pytest.raises(ValueError, match="like: expected .*opencv.*pillow"):
        Resize(short_side=96, like="pil")


def test_resize_before_loading_labels_leaves_them_out():
    results = _results()
    del results["gt_seg_map"]
    assert "gt_seg_map" not in Resize(short_side=96)(results)


def test_ambiguous_arguments_are_refused():
    for arguments in ({}, {"size": (2, 2), "short_side": 4}, {"long_side": 4, "max_long_side": 5}):
        with pytest.raises(ValueError, match="Resize"):
            Resize(**arguments)
    with pytest.raises(ValueError, match="exactly one"):
        RandomScaleCrop((8, 8), ratio=(1, 2), long_side=(3, 4))
    with pytest.raises(ValueError, match="low <= high"):
        RandomScaleCrop((8, 8), ratio=(2, 1))


def test_scale_one_is_a_plain_crop():
    before = _results()
    for seed in range(10):
        np.random.seed(seed)
        out = RandomScaleCrop((16, 24), ratio=(1, 1))(dict(before))
        windows = np.lib.stride_tricks.sliding_window_view(before["gt_seg_map"], (16, 24))
        places = np.argwhere((windows == out["gt_seg_map"]).all(axis=(-1, -2)))
        assert any(np.array_equal(before["img"][y : y + 16, x : x + 24], out["img"]) for y, x in places)


def test_small_images_are_padded_right_and_below_with_black_and_ignored():
    out = RandomScaleCrop((64, 100), ratio=(1, 1))(_results())
    assert not out["img"][48:].any() and not out["img"][:, 64:].any()
    assert (out["gt_seg_map"][48:] == 255).all() and (out["gt_seg_map"][:, 64:] == 255).all()
    assert np.array_equal(out["gt_seg_map"][:48, :64], _results()["gt_seg_map"])


def _ramp(height: int, width: int) -> dict:
    """Image whose channels are its own coordinates, so that a crop tells where it was cut."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    image = np.stack([rows * 255 / (height - 1), columns * 255 / (width - 1), rows * 0], axis=-1)
    return {"img": image, "gt_seg_map": np.zeros((height, width), np.uint8)}


def _resize_then_crop(results: dict, crop: int, low: float, high: float) -> np.ndarray:
    scale = np.random.uniform(low, high)
    height, width = (int(n * scale + 0.5) for n in results["img"].shape[:2])
    image = cv2.resize(results["img"], (width, height), interpolation=cv2.INTER_LINEAR)
    top, left = np.random.randint(max(height - crop, 0) + 1), np.random.randint(max(width - crop, 0) + 1)
    return image[top : top + crop, left : left + crop]


def _place_and_scale(image: np.ndarray, crop: int) -> tuple[float, float, float]:
    """Top, left and steepness of a crop of a ramp."""
    middle = image[2 : crop - 2, 2 : crop - 2]
    return middle[0, 0, 0], middle[0, 0, 1], (middle[-1, 0, 0] - middle[0, 0, 0]) / (len(middle) - 1)


def test_cutting_first_has_the_distribution_of_resizing_first():
    results, crop = _ramp(80, 120), 40
    ours, theirs = [], []
    for seed in range(1500):
        np.random.seed(seed)
        ours.append(_place_and_scale(RandomScaleCrop((crop, crop), ratio=(0.6, 2))(dict(results))["img"], crop))
        np.random.seed(seed + 10_000)
        theirs.append(_place_and_scale(_resize_then_crop(results, crop, 0.6, 2), crop))
    for quantile in (0.1, 0.3, 0.5, 0.7, 0.9):
        difference = np.abs(np.quantile(ours, quantile, axis=0) - np.quantile(theirs, quantile, axis=0))
        assert (difference < (12, 12, 0.3)).all(), (quantile, difference)  # of 255 gray levels


def test_same_draws_cut_the_same_place_up_to_a_pixel():
    results, crop = _ramp(80, 120), 40
    for seed in range(50):
        np.random.seed(seed)
        ours = RandomScaleCrop((crop, crop), ratio=(0.6, 2))(dict(results))["img"]
        np.random.seed(seed)
        theirs = _resize_then_crop(results, crop, 0.6, 2)
        pixel = 255 / 79
        assert np.abs(ours - theirs)[2:-2, 2:-2].max() < 1.5 * pixel


def test_nearest_labels_sit_where_the_bilinear_image_does():
    labels = np.zeros((8, 8), np.uint8)
    labels[:, 4:] = 100
    image = np.repeat(labels[..., None], 3, axis=-1)
    out = Resize(size=(32, 32))({"img": image, "gt_seg_map": labels})
    assert np.array_equal(out["gt_seg_map"] > 50, out["img"][..., 0] > 50)


def test_photometric_distortion_is_bounded_and_can_be_neutral():
    image = np.full((4, 4, 3), (100, 120, 140), np.uint8)
    np.random.seed(0)
    outs = [PhotometricDistortion()({"img": image})["img"] for _ in range(60)]
    assert any(np.array_equal(out, image) for out in outs)
    assert sum(not np.array_equal(out, image) for out in outs) > 30
    neutral = PhotometricDistortion(brightness=0, contrast=(1, 1), saturation=(1, 1), hue=0)
    assert np.array_equal(neutral({"img": image})["img"], image)
    assert image[0, 0].tolist() == [100, 120, 140]


def test_pack_makes_an_rgb_tensor_and_a_sample():
    results = _results()
    results["img"] = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    results["img"].flags.writeable = False
    packed = PackSample()({**results, "captions": ["a cat"], "class_ids": [2], "img_path": "a.jpg"})
    assert np.array_equal(packed["image"].numpy(), results["img"][..., ::-1].transpose(2, 0, 1))
    sample = packed["sample"]
    assert sample.label_map.dtype == torch.uint8 and sample.captions == ("a cat",) and sample.class_ids == (2,)


def test_take_as_original_moves_the_frame():
    out = PackSample()(TakeAsOriginal()(Resize(size=(10, 10))(_results())))
    assert out["sample"].original_size == out["sample"].input_size == (10, 10)


def test_transforms_are_found_by_name():
    assert isinstance(TRANSFORMS.build({"type": "RandomScaleCrop", "crop": (4, 4), "ratio": (1, 1)}), RandomScaleCrop)
