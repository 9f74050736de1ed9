"""Crops and augmentation for classification, against torchvision on the same picture."""

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as torchvision_transforms
from torchvision.transforms.functional import gaussian_blur

from openvocab.datasets.transforms import (
    ColorJitter,
    GaussianBlur,
    RandAugment,
    RandomErasing,
    RandomGrayscale,
    RandomResizedCrop,
    ResizeCenterCrop,
)
from openvocab.registry import TRANSFORMS
from openvocab.seeding import DrawIndex, seeded_draw


def make_results(height: int = 60, width: int = 90) -> dict:
    image = np.random.default_rng(0).integers(0, 256, (height // 6, width // 6, 3), dtype=np.uint8)
    image = np.ascontiguousarray(image.repeat(6, 0).repeat(6, 1))
    return {"img": image, "img_shape": image.shape[:2], "ori_shape": image.shape[:2]}


@pytest.mark.parametrize(("size", "short_side"), [(32, None), (32, 37), (80, None)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(60, 90), (78, 66)])
def test_center_crop_equals_torchvision_on_a_pillow_image(size, short_side, interpolation, shape):
    results = make_results(*shape)
    mode = torchvision_transforms.InterpolationMode(interpolation)
    peer = torchvision_transforms.Compose(
        [torchvision_transforms.Resize(short_side or size, mode), torchvision_transforms.CenterCrop(size)]
    )
    expected = np.asarray(peer(Image.fromarray(results["img"])))
    done = ResizeCenterCrop((size, size), short_side, interpolation)(results)
    assert np.array_equal(done["img"], expected)
    assert done["img_shape"] == (size, size) and done["ori_shape"] == shape


def test_random_crop_is_a_part_of_the_picture_in_the_ranges_asked_for():
    rows, columns = np.mgrid[:60, :90]
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)  # each pixel says where it is
    crop = RandomResizedCrop((60, 90), area=(0.25, 0.5), aspect=(0.5, 2.0), interpolation="bilinear")
    np.random.seed(0)
    shares, aspects = [], []
    for _ in range(200):
        part = crop({"img": image})["img"].astype(float)
        height, width = np.ptp(part[:, :, 0]) + 1, np.ptp(part[:, :, 1]) + 1
        shares.append(height * width / (60 * 90))
        aspects.append(width / height)
    assert 0.23 < min(shares) and max(shares) < 0.53 and max(shares) - min(shares) > 0.2
    assert 0.45 < min(aspects) and max(aspects) < 2.2


def test_random_crop_of_the_whole_picture_is_a_resize():
    results = make_results(60, 60)
    crop = RandomResizedCrop((24, 30), area=(1.0, 1.0), aspect=(1.0, 1.0))
    expected = Image.fromarray(results["img"]).resize((30, 24), Image.Resampling.BICUBIC)
    assert np.array_equal(crop(results)["img"], np.asarray(expected))


def test_where_no_part_fits_the_central_one_is_taken():
    image = np.arange(100, dtype=np.uint8).reshape(1, 100, 1).repeat(10, 0).repeat(3, 2)
    done = RandomResizedCrop((10, 10), area=(1.0, 1.0), aspect=(1.0, 1.0))({"img": image})
    assert np.array_equal(done["img"], image[:, 45:55])


def test_color_jitter_equals_torchvision_with_the_same_draws():
    results = make_results()
    torch.manual_seed(3)
    done = ColorJitter(0.4, 0.3, 0.2, 0.1)({**results})["img"]
    torch.manual_seed(3)
    peer = torchvision_transforms.ColorJitter(0.4, 0.3, 0.2, 0.1)
    expected = np.asarray(peer(Image.fromarray(results["img"][:, :, ::-1])))[:, :, ::-1]  # img is BGR
    assert np.array_equal(done, expected)
    assert np.array_equal(ColorJitter(prob=0.0)({**results})["img"], results["img"])


def test_gray_pictures_have_the_luma_of_itu_r_601_in_three_equal_channels():
    results = make_results()
    original = results["img"].copy()
    image = RandomGrayscale(prob=1.0)({**results})["img"]
    luma = original[:, :, ::-1].astype(float) @ (0.299, 0.587, 0.114)  # img is BGR
    assert image.dtype == np.uint8 and np.abs(image - luma[..., None]).max() <= 0.51
    assert np.array_equal(results["img"], original)
    assert np.array_equal(RandomGrayscale(prob=0.0)({**results})["img"], original)


@pytest.mark.parametrize("sigma", [0.1, 0.8, 2.0])
def test_blur_is_a_gaussian_of_the_deviation_drawn(sigma):
    results = make_results()
    original = results["img"].copy()
    image = GaussianBlur((sigma, sigma), prob=1.0)({**results})["img"]
    pixels = torch.from_numpy(original.copy()).permute(2, 0, 1).double()
    expected = gaussian_blur(pixels, [2 * math.ceil(4 * sigma) + 1] * 2, [sigma] * 2).permute(1, 2, 0).numpy()
    assert image.dtype == np.uint8 and np.abs(image - expected).max() < 1.1
    assert np.array_equal(results["img"], original)
    assert np.array_equal(GaussianBlur(prob=0.0)({**results})["img"], original)


def test_the_share_of_changed_pictures_is_the_probability():
    results = make_results()
    np.random.seed(0)
    for transform in (RandomGrayscale(prob=0.3), GaussianBlur((1.0, 2.0), prob=0.3)):
        changed = sum(not np.array_equal(transform({**results})["img"], results["img"]) for _ in range(400))
        assert 90 < changed < 150


def test_rand_augment_changes_most_pictures_and_keeps_their_form():
    results = make_results()
    random.seed(0), np.random.seed(0)
    augment = RandAugment()
    changed = 0
    for _ in range(20):
        image = augment({**results})["img"]
        assert image.shape == results["img"].shape and image.dtype == np.uint8
        changed += not np.array_equal(image, results["img"])
    assert changed >= 10


def test_rand_augment_resamples_as_it_is_told():
    def resamplings(**options):
        return {operation.kwargs.get("resample") for operation in RandAugment(**options).augment.ops}

    assert resamplings(interpolation="bilinear") == {Image.Resampling.BILINEAR}
    assert resamplings() == {(Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)}


@pytest.mark.parametrize("fill", ["noise", "mean"])
def test_erasing_overwrites_one_rectangle_of_the_size_asked_for(fill):
    results = make_results(96, 96)
    results["img"][:] = 7
    original = results["img"].copy()
    np.random.seed(0)
    for _ in range(20):
        image = RandomErasing(prob=1.0, area=(0.1, 0.2), fill=fill)({**results})["img"]
        rows, columns = np.nonzero((image != 7).any(-1))
        top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
        assert 0.09 < (bottom - top) * (right - left) / 96**2 < 0.22
        outside = image.copy()
        outside[top:bottom, left:right] = 7
        assert (outside == 7).all()
    assert np.array_equal(results["img"], original)  # a cached picture stays as it is
    assert RandomErasing(prob=0.0)(results)["img"] is results["img"]


def test_posterizing_to_no_bits_is_black_and_to_three_keeps_the_highest():
    (posterize,) = (operation.aug_fn for operation in RandAugment().augment.ops if "Posterize" in operation.name)
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    for bits, kept in ((0, 0), (3, 0b11100000), (8, 255)):
        np.testing.assert_array_equal(np.asarray(posterize(Image.fromarray(image), bits_to_keep=bits)), image & kept)


@pytest.mark.parametrize("name", ["RandomResizedCrop", "ColorJitter", "GaussianBlur", "RandAugment", "RandomErasing"])
def test_each_draw_follows_the_seed_of_its_sample(name):
    arguments = dict(size=(24, 24)) if name == "RandomResizedCrop" else {}
    if name == "RandomErasing":
        arguments = dict(prob=1.0)
    transform = TRANSFORMS.build(dict(type=name, **arguments))
    images = []
    for seed in (5, 5, 6):
        with seeded_draw(DrawIndex(0, seed)):
            images.append(transform(make_results())["img"])
    assert np.array_equal(images[0], images[1])


def test_wrong_arguments_are_clear():
    for make, message in (
        (lambda: RandomResizedCrop((8, 8), area=(0.5, 1.5)), "area"),
        (lambda: RandomResizedCrop((8, 8), aspect=(0, 1)), "aspect"),
        (lambda: RandomResizedCrop((8, 8), interpolation="cubic"), "interpolation: expected one of bilinear, bicubic"),
        (lambda: ResizeCenterCrop((8, 8), short_side=7), "short_side: expected at least 8"),
        (lambda: RandomErasing(fill="black"), "fill"),
        (lambda: RandomGrayscale(prob=1.2), "prob"),
        (lambda: GaussianBlur(prob=-1), "prob"),
        (lambda: GaussianBlur(sigma=(0.0, 2.0)), "sigma: expected 0 < low <= high"),
        (lambda: GaussianBlur(sigma=(2.0, 1.0)), "sigma: expected 0 < low <= high"),
        (lambda: RandomErasing(prob=2), "prob"),
        (lambda: RandAugment("augmix-m9"), "policy"),
        (lambda: RandAugment(interpolation="nearest"), "interpolation"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with pytest.raises(ValueError, match="do not move label maps"):
        ResizeCenterCrop((8, 8))({**make_results(), "gt_seg_map": np.zeros((60, 90), np.uint8)})
