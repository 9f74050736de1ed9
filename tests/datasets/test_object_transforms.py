"""Image, label map, boxes and masks move together; what a crop hides is dropped."""

import dataclasses

import numpy as np
import pytest
import torch

from openvocab.datasets.transforms import (
    LargeScaleJitter,
    LoadInstances,
    PackSample,
    RandomFlip,
    RandomResizedCrop,
    RandomScaleCrop,
    Resize,
)
from openvocab.datasets.transforms.objects import mask_boxes
from openvocab.preprocessor import BatchPreprocessor
from openvocab.structures import Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

SIZE = (90, 120)


@dataclasses.dataclass
class Regions:
    """Boxes with features, as a teacher's cache brings them."""

    boxes: torch.Tensor
    embed: torch.Tensor


def _results(seed: int = 0, count: int = 6) -> dict:
    """Bright rectangles that do not overlap; the image, the label map and the masks show the same ones."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(SIZE, np.uint8)
    boxes = []
    for number in range(count):
        top, left = 30 * (number // 3) + generator.integers(0, 6), 40 * (number % 3) + generator.integers(0, 8)
        height, width = generator.integers(12, 24), generator.integers(14, 30)
        labels[top : top + height, left : left + width] = number + 1
        boxes.append([left, top, left + width, top + height])
    masks = torch.stack([torch.from_numpy(labels == number + 1) for number in range(count)])
    boxes = torch.tensor(boxes, dtype=torch.float32)
    return {
        "img": np.repeat(labels[..., None] * 40, 3, axis=-1),
        "gt_seg_map": labels,
        "instances": Instances(boxes, torch.arange(count) + 1, masks, torch.arange(count) > 3, torch.arange(count) * 7),
        "regions": Regions(boxes.clone(), torch.arange(count) + 1),
        "ori_shape": SIZE,
        "img_shape": SIZE,
        "sample_id": "x",
    }


TRANSFORM_LIST = [
    Resize(size=(61, 200)),
    Resize(short_side=(40, 120, 160), max_long_side=180),
    RandomScaleCrop((70, 80), ratio=(0.4, 2.2)),
    LargeScaleJitter((64, 100), scale=(0.3, 2.0)),
    RandomFlip(prob=0.5),
]


@pytest.mark.parametrize("transform", TRANSFORM_LIST, ids=lambda t: type(t).__name__)
def test_the_box_of_a_moved_mask_is_the_moved_box_within_a_pixel(transform):
    for seed in range(25):
        np.random.seed(seed)
        out = transform(_results(seed))
        instances = out["instances"]
        assert instances.masks.shape[1:] == out["img"].shape[:2] == tuple(out["img_shape"])
        assert torch.allclose(instances.boxes, mask_boxes(instances.masks), rtol=0, atol=1)
        for label, mask in zip(instances.classes, instances.masks):
            assert torch.equal(mask, torch.from_numpy(out["gt_seg_map"] == int(label)))
        assert torch.equal(instances.ids, (instances.classes - 1) * 7)
        assert torch.equal(instances.is_crowd, instances.classes > 4)


@pytest.mark.parametrize("transform", TRANSFORM_LIST, ids=lambda t: type(t).__name__)
def test_regions_of_a_teacher_move_as_objects_do(transform):
    for seed in range(10):
        np.random.seed(seed)
        before = _results(seed)
        before["instances"] = dataclasses.replace(before["instances"], masks=None)
        out = transform(before)
        assert torch.equal(out["regions"].boxes, out["instances"].boxes)
        assert torch.equal(out["regions"].embed, out["instances"].classes)


def test_flipping_twice_changes_nothing():
    before = _results()
    after = RandomFlip(1.0)(RandomFlip(1.0)(dict(before)))
    assert torch.allclose(after["instances"].boxes, before["instances"].boxes)
    assert torch.equal(after["instances"].masks, before["instances"].masks)
    once = RandomFlip(1.0)(dict(before))["instances"]
    left, top, right, bottom = before["instances"].boxes[0].tolist()
    assert once.boxes[0].tolist() == [120 - right, top, 120 - left, bottom]


def test_resizing_scales_boxes_by_the_ratio_of_the_sizes():
    before = _results()["instances"].boxes
    after = Resize(size=(180, 60))(_results())["instances"].boxes
    assert torch.allclose(after, before * torch.tensor([0.5, 2.0, 0.5, 2.0]))


def test_of_several_short_sides_each_is_drawn_and_the_long_side_has_a_limit():
    np.random.seed(0)
    sizes = {Resize(short_side=[45, 90, 180], max_long_side=200)(_results())["img"].shape[:2] for _ in range(40)}
    assert sizes == {(45, 60), (90, 120), (150, 200)}
    with pytest.raises(ValueError, match="short_side is an empty list"):
        Resize(short_side=[])


def test_a_crop_keeps_exactly_the_objects_that_it_shows():
    for seed in range(60):
        np.random.seed(seed)
        out = RandomScaleCrop((30, 30), ratio=(1, 1))(_results(seed))
        shown, counts = np.unique(out["gt_seg_map"], return_counts=True)
        visible = {int(label) for label, count in zip(shown, counts) if 0 < label < 255 and count > 0}
        assert set(out["instances"].classes.tolist()) == visible


def test_a_cut_object_gets_the_box_of_what_its_mask_still_shows():
    masks = torch.zeros(1, 10, 20, dtype=torch.bool)
    masks[0, :, :2] = masks[0, 4:6, :] = True  # a T that lies on its side
    instances = Instances(torch.tensor([[0.0, 0, 20, 10]]), torch.tensor([0]), masks)
    results = {"img": np.zeros((10, 20, 3), np.uint8), "instances": instances}
    boxes = set()
    for seed in range(30):
        np.random.seed(seed)
        out = RandomScaleCrop((10, 8), ratio=(1, 1))(dict(results))["instances"]
        boxes.add(tuple(out.boxes[0].tolist()))
    assert (0.0, 4.0, 8.0, 6.0) in boxes  # away from the bar, only the stem is seen
    assert (0.0, 0.0, 8.0, 10.0) in boxes


def test_a_sliver_of_less_than_a_pixel_is_dropped():
    instances = Instances(torch.tensor([[0.0, 0, 8.4, 10], [7.5, 0, 20, 10]]), torch.tensor([0, 1]))
    results = {"img": np.zeros((10, 20, 3), np.uint8), "instances": instances}
    kept = set()
    for seed in range(30):
        np.random.seed(seed)
        kept.add(tuple(RandomScaleCrop((10, 8), ratio=(1, 1))(dict(results))["instances"].classes.tolist()))
    assert kept >= {(0,), (1,), (0, 1)}  # windows from 0 (0.5 px of the second) to 12 (nothing of the first)


def test_large_scale_jitter_fits_the_image_into_the_range():
    np.random.seed(0)
    widths = []
    for _ in range(200):
        out = LargeScaleJitter((60, 60), scale=(0.25, 1.0))({"img": np.full((30, 50, 3), 9, np.uint8)})
        assert out["img"].shape == (60, 60, 3)
        widths.append(int((out["img"][0, :, 0] > 0).sum()))
    assert min(widths) in (15, 16) and max(widths) in (59, 60)
    assert np.mean(widths) == pytest.approx(37.5, abs=2)


def test_images_without_objects_pass_all_transforms():
    empty = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *SIZE, dtype=torch.bool))
    for transform in TRANSFORM_LIST:
        out = transform({**_results(), "instances": empty})
        assert out["instances"].boxes.shape == (0, 4)
        assert out["instances"].masks.shape == (0, *out["img"].shape[:2])


def test_transforms_do_not_write_into_what_a_cache_holds():
    kept = _results()
    boxes, masks = kept["instances"].boxes.clone(), kept["instances"].masks.clone()
    for transform in TRANSFORM_LIST:
        transform(dict(kept))
    assert torch.equal(kept["instances"].boxes, boxes) and torch.equal(kept["instances"].masks, masks)


def test_crops_for_classification_refuse_objects():
    with pytest.raises(ValueError, match="do not move label maps or boxes"):
        RandomResizedCrop((32, 32))({"img": np.zeros((40, 40, 3), np.uint8), "instances": _results()["instances"]})


def test_items_without_labels_pass():
    assert "instances" not in LoadInstances()({"img": np.zeros((4, 4, 3), np.uint8)})
    sample = PackSample()({"img": np.zeros((4, 4, 3), np.uint8), "sample_id": "x", "ori_shape": (4, 4)})["sample"]
    assert sample.instances is None and sample.federated is None


def test_mask_boxes_are_edges_of_pixels():
    masks = torch.zeros(3, 5, 7, dtype=torch.bool)
    masks[0, 2, 3] = masks[1, 0, 0] = masks[1, 4, 6] = True
    assert mask_boxes(masks).tolist() == [[3, 2, 4, 3], [0, 0, 7, 5], [0, 0, 0, 0]]


@pytest.mark.parametrize("training", [True, False])
def test_padding_of_the_batch_moves_no_object(training):
    packed = PackSample()({**_results(), "vocabulary": Vocabulary.from_names([str(i) for i in range(7)])})
    batch = {"image": [packed["image"]], "sample": [packed["sample"]]}
    placed: Sample = BatchPreprocessor([0] * 3, [1] * 3, stride=32)(batch, training)["samples"][0]
    assert placed.padded_size == (96, 128) and placed.instances.masks.shape[1:] == SIZE
    assert torch.equal(placed.instances.boxes, packed["sample"].instances.boxes)
    assert torch.equal(placed.instances.masks, packed["sample"].instances.masks)
