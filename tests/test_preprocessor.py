"""What a batch does to objects and to a teacher's regions."""

import numpy as np
import pytest
import torch

from openvocab.datasets.transforms import PackSample, RandomFlip
from openvocab.preprocessor import BatchPreprocessor
from openvocab.structures import Instances, Regions, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

VOCABULARY = Vocabulary.from_names(["cat", "dog"])
SIZE = (20, 30)


def make_batch(objectness: bool = True) -> dict:
    boxes = torch.tensor([[1.0, 2, 11, 12], [5, 5, 29, 19]])
    instances = Instances(boxes, torch.tensor([0, 1]), torch.ones(2, *SIZE, dtype=torch.bool))
    regions = Regions(boxes + 1, torch.eye(2, 8), torch.rand(2) if objectness else None)
    sample = Sample("a", VOCABULARY, SIZE, SIZE, instances=instances, regions=regions)
    return {"image": [torch.zeros(3, *SIZE, dtype=torch.uint8)], "sample": [sample]}


def preprocess(batch: dict, training: bool, device: str = "cpu") -> Sample:
    preprocessor = BatchPreprocessor((0.0,) * 3, (1.0,) * 3, stride=16).to(device)
    return preprocessor(batch, training)["samples"][0]


@pytest.mark.parametrize("objectness", [False, True])
def test_objects_and_regions_follow_the_images_to_their_device_in_training(objectness):
    batch = make_batch(objectness)
    sample = preprocess(batch, training=True, device="meta")
    moved = (sample.instances.boxes, sample.instances.masks, sample.regions.boxes, sample.regions.embed)
    assert {part.device.type for part in moved} == {"meta"}
    assert (sample.regions.objectness is None) == (not objectness)
    assert sample.instances.is_crowd is None
    assert batch["sample"][0].regions.boxes.device.type == "cpu"  # the dataset may keep its samples


def test_evaluation_leaves_them_where_they_are():
    batch = make_batch()
    sample = preprocess(batch, training=False, device="meta")
    assert sample.regions is batch["sample"][0].regions and sample.instances is batch["sample"][0].instances


def test_padding_right_and_below_moves_no_box():
    batch = make_batch()
    sample = preprocess(batch, training=True)
    before = batch["sample"][0]
    assert sample.padded_size == (32, 32) and sample.input_size == SIZE
    assert torch.equal(sample.regions.boxes, before.regions.boxes)
    assert torch.equal(sample.instances.boxes, before.instances.boxes)
    assert torch.equal(sample.regions.embed, before.regions.embed)


def test_samples_without_either_stay_without():
    batch = make_batch()
    batch["sample"][0].instances = batch["sample"][0].regions = None
    sample = preprocess(batch, training=True)
    assert sample.instances is None and sample.regions is None


def results() -> dict:
    sample = make_batch()["sample"][0]
    return {
        "img": np.zeros((*SIZE, 3), np.uint8),
        "instances": sample.instances,
        "regions": sample.regions,
        "ori_shape": SIZE,
        "img_shape": SIZE,
        "sample_id": "a",
        "vocabulary": VOCABULARY,
    }


def test_a_packed_sample_carries_the_regions():
    content = results()
    assert PackSample()(content)["sample"].regions is content["regions"]
    del content["regions"]
    assert PackSample()(content)["sample"].regions is None


def test_a_mirrored_image_mirrors_its_regions_once():
    packed = PackSample()(RandomFlip(prob=1.0)(results()))["sample"]
    assert packed.regions.boxes.tolist() == [[18, 3, 28, 13], [0, 6, 24, 20]]
    assert packed.instances.boxes.tolist() == [[19, 2, 29, 12], [1, 5, 25, 19]]
    assert torch.equal(packed.regions.embed, torch.eye(2, 8))


@pytest.mark.parametrize("padding", ["black", "mean"])
def test_padding_is_black_or_zero_after_normalization_whichever_way_a_batch_is_read(padding):
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (3, *size), generator=generator).byte() for size in ((20, 30), (31, 17))]
    samples = [Sample("a", VOCABULARY, size, size) for size in ((20, 30), (31, 17))]
    preprocessor = BatchPreprocessor(mean.tolist(), std.tolist(), stride=16, padding=padding)
    fill = torch.zeros(3) if padding == "mean" else -mean / std
    expected = fill[:, None, None].repeat(2, 1, 32, 32)
    for row, image in zip(expected, images):
        row[:, : image.shape[1], : image.shape[2]] = (image - mean[:, None, None]) / std[:, None, None]
    batch = {"image": images, "sample": samples}
    torch.testing.assert_close(preprocessor(batch)["images"], expected)
    pixels = preprocessor.pixels(batch)["images"]
    torch.testing.assert_close(pixels[1:].whole(), expected[1:])
    torch.testing.assert_close(pixels.read(5, 9, (20, 23)), expected[:, :, 5:25, 9:32])
    wider = pixels.with_size((32, 40)).whole()
    torch.testing.assert_close(wider[..., :32], expected)
    torch.testing.assert_close(wider[..., 32:], fill[:, None, None].expand(2, 3, 32, 8))
    torch.testing.assert_close(preprocessor.padding.flatten(), fill)


def test_another_padding_is_refused():
    with pytest.raises(ValueError, match="padding: expected .*black.*mean"):
        BatchPreprocessor((0.0,) * 3, (1.0,) * 3, stride=16, padding="white")
