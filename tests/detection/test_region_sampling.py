"""Which regions are learnt from: by hand, and as torchvision draws them."""

import pytest
import torch
from detection_parts import make_boxes, make_instances
from torchvision.models.detection.roi_heads import RoIHeads

from openvocab.detection.region_sampling import SamplingOptions, match_objects, sample_regions, without_crowds
from openvocab.structures import Instances

SIZE = (120, 160)


def no_objects() -> Instances:
    return Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, *SIZE, dtype=torch.bool))


def test_a_region_shows_the_object_it_overlaps_most():
    objects = torch.tensor([[0.0, 0, 10, 10], [10, 0, 20, 10]])
    boxes = torch.tensor(
        [
            [0.0, 0, 10, 10],
            [8, 0, 20, 10],
            [0, 0, 10, 5],
            [0, 0, 10, 4.9],
            [5, 0, 15, 10],
            [50, 50, 60, 60],
            [3, 3, 3, 3],
        ]
    )  # IoU: 1; 10/12; exactly 1/2; less; 1/3; none; no area
    assert match_objects(boxes, objects, 0.5).tolist() == [0, 1, 0, -1, -1, -1, -1]
    assert match_objects(boxes, objects, 0.3).tolist()[4] in (0, 1)
    assert match_objects(boxes, objects[:0], 0.5).tolist() == [-1] * 7
    assert match_objects(boxes[:0], objects, 0.5).shape == (0,)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_seed_draws_what_torchvision_draws(seed):
    targets = [make_instances(5, SIZE, seed), make_instances(2, SIZE, seed + 10), no_objects()]
    near = [target.boxes.repeat(8, 1) for target in targets]
    proposals = [
        torch.cat(
            [boxes + torch.randn(boxes.shape, generator=torch.Generator().manual_seed(seed)), make_boxes(60, SIZE, i)]
        )
        for i, boxes in enumerate(near)
    ]
    heads = RoIHeads(None, None, None, 0.5, 0.5, 32, 0.25, None, 0.0, 0.5, 100)
    theirs = [{"boxes": target.boxes, "labels": target.classes + 1} for target in targets]
    torch.manual_seed(seed)
    boxes, objects, labels, _ = heads.select_training_samples([found.clone() for found in proposals], theirs)
    torch.manual_seed(seed)
    ours = sample_regions(proposals, targets, SamplingOptions(32, positive_fraction=0.25, fg_iou_threshold=0.5))
    for i in range(3):
        classes = labels[i] - 1
        expected = torch.cat([boxes[i], classes[:, None], objects[i].where(classes >= 0, -1)[:, None]], dim=1)
        found = torch.cat([ours.boxes[i], ours.classes[i][:, None], ours.objects[i][:, None]], dim=1)
        assert sorted(found.tolist()) == sorted(expected.tolist())
        assert len(found) == 32


def test_the_fraction_of_positives_is_an_upper_bound_and_background_fills_up():
    target = make_instances(2, SIZE)
    hits, misses = target.boxes.repeat(20, 1), torch.tensor([[100.0, 100.0, 101.0, 101.0]]).repeat(30, 1)
    cases = [(hits, misses, 16, 4), (hits[:1], misses, 16, 3), (hits, misses[:5], 16, 4), (hits[:0], misses[:0], 16, 2)]
    for positive, negative, samples, shown in cases:
        sampled = sample_regions(
            [torch.cat([positive, negative])], [target], SamplingOptions(samples, positive_fraction=0.25)
        )
        assert int((sampled.objects[0] >= 0).sum()) == shown
        assert len(sampled.boxes[0]) == min(samples, shown + len(negative))


def test_labeled_boxes_are_regions_too_and_carry_their_class():
    target = make_instances(3, SIZE, seed=4)
    sampled = sample_regions([torch.zeros(0, 4)], [target], SamplingOptions(batch_size_per_image=64))
    assert sorted(sampled.boxes[0].tolist()) == sorted(target.boxes.tolist())
    for box, found, label in zip(sampled.boxes[0], sampled.objects[0], sampled.classes[0], strict=True):
        assert torch.equal(box, target.boxes[found]) and label == target.classes[found]


def test_neither_objects_nor_proposals_give_empty_lists():
    sampled = sample_regions([torch.zeros(0, 4)], [no_objects()])
    assert sampled.boxes[0].shape == (0, 4)
    assert sampled.objects[0].dtype == sampled.classes[0].dtype == torch.int64
    only = sample_regions([make_boxes(4, SIZE)], [no_objects()])
    assert len(only.boxes[0]) == 4 and (only.classes[0] == -1).all()


def test_regions_carry_no_gradient():
    proposals = make_boxes(10, SIZE).requires_grad_()
    assert not sample_regions([proposals], [make_instances(2, SIZE)]).boxes[0].requires_grad


def test_crowds_are_left_out_with_their_masks():
    target = make_instances(4, SIZE)
    target.is_crowd = torch.tensor([False, True, False, True])
    single = without_crowds(target)
    assert torch.equal(single.boxes, target.boxes[[0, 2]]) and torch.equal(single.masks, target.masks[[0, 2]])
    assert torch.equal(single.classes, target.classes[[0, 2]])
    target.is_crowd = torch.tensor([True] * 4)
    assert len(without_crowds(target).boxes) == len(without_crowds(target).masks) == 0
    plain = make_instances(4, SIZE)
    assert without_crowds(plain) is plain
