import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from config_parts import REPOSITORY
from PIL import Image

from openvocab.config.config import read_config
from openvocab.engine.runner import build_runner
from openvocab.inference.multi_scale import MultiScaleFlip
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary

BLACK = torch.tensor([-1.0, -2.0, -3.0]).view(1, 3, 1, 1)
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def samples(*sizes):
    vocabulary = Vocabulary.from_names(["a", "b"])
    return [Sample(str(size), vocabulary, size, size) for size in sizes]


def constant(images):
    return torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(len(images), 2, images.shape[2] // 2, images.shape[3] // 2)


def positional(images):
    pooled = F.avg_pool2d(images[:, :2], 4)
    return pooled * (1 + torch.arange(pooled.shape[3]) + 10.0 * torch.arange(pooled.shape[2])[:, None])


def resize(maps, size):
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=True)


def filled(image, size):
    canvas = BLACK.repeat(1, 1, max(size, image.shape[2]), max(size, image.shape[3]))
    canvas[..., : image.shape[2], : image.shape[3]] = image
    return canvas


def official(network, image, scale, base, crop, stride):
    """The rules of the official evaluator at one scale with flip, written down plainly for one image."""

    def both(window):
        full = resize(network(window), (crop, crop))
        mirrored = resize(network(window.flip(3)), (crop, crop))
        return full + mirrored.flip(3)

    height, width = image.shape[-2:]
    long_side = math.ceil(base * scale)
    if height > width:
        new = (long_side, int(width * long_side / height + 0.5))
    else:
        new = (int(height * long_side / width + 0.5), long_side)
    current = filled(resize(image, new), crop)
    if long_side <= crop:
        return resize(both(current)[..., : new[0], : new[1]], (height, width))
    padded_height, padded_width = current.shape[-2:]
    total, counts = torch.zeros(1, 2, padded_height, padded_width), torch.zeros(padded_height, padded_width)
    for row in range(math.ceil((padded_height - crop) / stride) + 1):
        for column in range(math.ceil((padded_width - crop) / stride) + 1):
            y, x = row * stride, column * stride
            window = current[..., y : y + crop, x : x + crop]
            h, w = window.shape[-2:]
            total[..., y : y + h, x : x + w] += both(filled(window, crop))[..., :h, :w]
            counts[y : y + h, x : x + w] += 1
    return resize((total / counts)[..., : new[0], : new[1]], (height, width))


@pytest.mark.parametrize("size", [(40, 56), (64, 31), (10, 90)])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.75])
def test_follows_the_official_evaluator(size, scale):
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    strategy = MultiScaleFlip(scales=[scale], base_size=52, crop_size=48)
    assert strategy.stride == 32
    expected = official(positional, image, scale, 52, 48, 32)
    torch.testing.assert_close(strategy(positional, image, samples(size), BLACK), expected, rtol=1e-5, atol=1e-4)


def test_scales_are_summed():
    image = torch.randn(1, 3, 40, 56)

    def summed(*scales):
        return MultiScaleFlip(scales, base_size=52, crop_size=48)(positional, image, samples((40, 56)), BLACK)

    torch.testing.assert_close(summed(0.5, 1.5), summed(0.5) + summed(1.5))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("flip", [False, True])
def test_constant_logits_stay_constant(scale, flip):
    strategy = MultiScaleFlip(scales=(scale,), flip=flip, base_size=52, crop_size=48)
    logits = strategy(constant, torch.randn(1, 3, 48, 64), samples((45, 60)), BLACK)
    expected = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 45, 60) * (1 + flip)
    torch.testing.assert_close(logits[..., :45, :60], expected)


def test_a_mirror_image_gives_mirrored_logits():
    image = torch.randn(1, 3, 40, 40)
    strategy = MultiScaleFlip(scales=(1.0,), base_size=40, crop_size=40)  # no filling up, which is at one side
    mirrored = strategy(positional, image.flip(3), samples((40, 40)), BLACK).flip(3)
    torch.testing.assert_close(strategy(positional, image, samples((40, 40)), BLACK), mirrored, rtol=1e-4, atol=1e-4)


def test_each_image_of_a_batch_is_treated_alone():
    images = BLACK.repeat(2, 1, 48, 64)
    images[0, :, :40, :64], images[1, :, :48, :30] = torch.randn(3, 40, 64), torch.randn(3, 48, 30)
    strategy = MultiScaleFlip(scales=(0.5, 1.0), base_size=52, crop_size=48)
    batch = strategy(positional, images, samples((40, 64), (48, 30)), BLACK)
    assert batch.shape == (2, 2, 48, 64)
    alone = strategy(positional, images[1:, :, :, :30], samples((48, 30)), BLACK)
    torch.testing.assert_close(batch[1:, :, :, :30], alone)


def test_the_official_test_of_ade20k_scales_the_original_image(tmp_path, monkeypatch):
    root = tmp_path / "ade"
    for folder, array in (("images", np.full((300, 500, 3), 90, np.uint8)), ("annotations", np.eye(300, 500))):
        (root / folder / "validation").mkdir(parents=True)
        suffix = "jpg" if folder == "images" else "png"
        Image.fromarray(array.astype(np.uint8)).save(root / folder / "validation" / f"one.{suffix}")
    seen = []

    def recorded(self, network, images, samples, black):
        logits = whole(self, network, images, samples, black)
        seen.append((samples[0].input_size, samples[0].original_size, tuple(logits.shape[2:])))
        return logits

    whole = MultiScaleFlip.__call__
    monkeypatch.setattr(MultiScaleFlip, "__call__", recorded)
    options = {
        "test_dataloader.dataset.root": str(root),
        "test_dataloader.num_workers": 0,
        "test_dataloader.persistent_workers": False,
        "model.backbone.model": "test_vit",
        "model.backbone.pretrained": None,
        "model.text_encoder.model": "ViT-Ti-8-shapes",
        "model.text_encoder.pretrained": None,
        "model.head.layers": (1, 2, 3, 4),
        "model.head.decoder.dims": (8, 8, 8, 8),
        "model.head.decoder.features": 8,
        "model.inference.scales": (0.5, 1.0),
    }
    config = read_config(REPOSITORY / "configs" / "lseg_ade_multi_scale.py", options)
    assert 0 <= build_runner(config, work_dir=tmp_path / "run", training=False).test()["mIoU"] <= 100
    ((input_size, original_size, summed),) = seen
    assert input_size == original_size == (300, 500)
    assert summed == (304, 512)  # the image and, right and below, the padding of its batch


def test_an_image_that_was_resized_before_is_refused_unless_asked_for():
    image, (sample,) = torch.randn(1, 3, 40, 56), samples((40, 56))
    sample = dataclasses.replace(sample, original_size=(80, 112))
    with pytest.raises(ValueError, match=r"from \(80, 112\) to \(40, 56\).*remove its Resize.*takes_resized=True"):
        MultiScaleFlip((1.0,))(positional, image, [sample], BLACK)
    strategy = MultiScaleFlip((1.0,), base_size=52, crop_size=48, takes_resized=True)
    assert strategy(positional, image, [sample], BLACK).shape == (1, 2, 40, 56)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="expected positive scales"):
        MultiScaleFlip(scales=())
    with pytest.raises(ValueError, match="stride 500"):
        MultiScaleFlip(stride=500)
