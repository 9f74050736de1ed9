"""Proposals and their losses against torchvision's own, and what happens at the edges."""

import pytest
import torch
from detection_parts import enliven, make_boxes, make_instances
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, RegionProposalNetwork, RPNHead

from openvocab.detection.proposal_network import ProposalNetwork, as_regions
from openvocab.structures import Instances

STRIDES, DIM, SIZE = (4, 8, 16), 6, (64, 96)
COUNTS = dict(pre_nms_top_n=(50, 40), post_nms_top_n=(30, 20))


def make_network(box_loss_mean: str = "samples", **arguments) -> ProposalNetwork:
    torch.manual_seed(0)
    arguments = {"anchor_sizes": (12, 24, 40), "batch_size_per_image": 16, **COUNTS, **arguments}
    return enliven(ProposalNetwork(DIM, STRIDES, box_loss_mean=box_loss_mean, **arguments))


def make_maps(size=SIZE, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, DIM, -(-size[0] // s), -(-size[1] // s), generator=generator) for s in STRIDES]


def make_torchvisions(network: ProposalNetwork, convs: int) -> RegionProposalNetwork:
    head = RPNHead(DIM, 3, convs)
    missing = head.load_state_dict(network.head.state_dict(), strict=False).missing_keys
    assert not missing
    before, after = ({"training": first, "testing": second} for first, second in COUNTS.values())
    anchors = AnchorGenerator(((12,), (24,), (40,)), ((0.5, 1.0, 2.0),) * 3)
    return RegionProposalNetwork(anchors, head, 0.7, 0.3, 16, 0.5, before, after, 0.7)


@pytest.mark.parametrize("convs", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_proposals_and_losses_equal_torchvisions_on_copied_weights(convs, training):
    network = make_network(convs=convs).train(training)
    theirs = make_torchvisions(network, convs).train(training)
    maps, sizes = make_maps(), [(64, 96), (50, 70)]
    targets = [make_instances(4, sizes[0], 0), make_instances(2, sizes[1], 1)] if training else None
    images = ImageList(torch.zeros(2, 3, *SIZE), sizes)
    torch.manual_seed(3)
    boxes, losses = theirs(
        images,
        {str(i): level for i, level in enumerate(maps)},
        targets and [{"boxes": found.boxes} for found in targets],
    )
    torch.manual_seed(3)
    proposals, ours = network(maps, sizes, targets)
    assert [len(found) for found in boxes] == [30, 30] if training else [20, 20]
    for found, expected in zip(proposals.boxes, boxes, strict=True):
        torch.testing.assert_close(found, expected)
    assert set(ours) == ({"loss_rpn_objectness", "loss_rpn_box"} if training else set())
    for name, other in (("loss_rpn_objectness", "loss_objectness"), ("loss_rpn_box", "loss_rpn_box_reg")):
        if training:
            torch.testing.assert_close(ours[name], losses[other])
            assert ours[name] > 0


def huber(difference: float, delta: float = 1 / 9) -> float:
    return difference**2 / 2 if abs(difference) <= delta else delta * (abs(difference) - delta / 2)


def test_official_box_loss_is_a_mean_over_the_offsets_of_each_level_by_hand():
    """An object of 12 px between two anchors of the first level, 2 px from each; one of 24 px by one of the second.

    Offsets are predicted to be zero, so that an object d px to the right of an anchor of side s is missed by d / s.
    """
    network = make_network(
        "levels", aspect_ratios=(1.0,), batch_size_per_image=2
    ).train()  # one of the two anchors is sampled
    for parameter in network.head.bbox_pred.parameters():
        torch.nn.init.zeros_(parameter)
    boxes = torch.tensor([[36.0, 34, 48, 46]]), torch.tensor([[22.0, 20, 46, 44]])
    targets = [Instances(found, torch.zeros(1, dtype=torch.int64)) for found in boxes]
    _, losses = network(make_maps(), [SIZE, SIZE], targets)
    expected = 2 * huber(2 / 12) / 8 + huber(2 / 24) / 4
    assert losses["loss_rpn_box"].item() == pytest.approx(expected, rel=1e-5)


def test_the_mean_of_the_box_loss_leaves_the_loss_of_objectness_alone():
    targets = [Instances(torch.tensor([[20.0, 12, 60, 48]]), torch.zeros(1, dtype=torch.int64))] * 2
    losses = []
    for mean in ("samples", "levels"):
        network = make_network(mean, batch_size_per_image=32).train()
        torch.manual_seed(1)  # of the anchors that are drawn
        losses.append(network(make_maps(), [SIZE, SIZE], targets)[1]["loss_rpn_objectness"])
    assert torch.equal(*losses)


def test_an_unknown_mean_of_the_box_loss_is_named():
    with pytest.raises(ValueError, match="box_loss_mean: expected one of levels, samples"):
        make_network("regions")


def test_every_level_has_its_own_norms_and_shares_the_convolutions():
    network = make_network(convs=2, norm="group")
    norms = [part for part in network.modules() if isinstance(part, torch.nn.GroupNorm)]
    convs = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(norms) == 2 * 3 and len(convs) == 2 + 2
    maps = make_maps()
    before = network.head(maps)[0]
    torch.nn.init.zeros_(norms[2].weight)  # the first norm of the second level
    changed = [not torch.equal(*pair) for pair in zip(network.head(maps)[0], before)]
    assert changed == [False, True, False]


def test_untrained_proposals_are_the_anchors_by_hand():
    """Anchors are centered at multiples of the stride; sides are rounded halves, as in torchvision."""
    network = make_network(
        aspect_ratios=(1.0,), nms_iou=1.0, pre_nms_top_n=(999, 999), post_nms_top_n=(999, 999)
    ).eval()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    proposals, _ = network(make_maps(batch=1), [(30, 40)])
    expected = {
        (max(0, x - half), max(0, y - half), min(40, x + half), min(30, y + half))
        for stride, half in ((4, 6), (8, 12), (16, 20))
        for x in range(0, 96, stride)
        for y in range(0, 64, stride)
    }
    expected = {box for box in expected if box[0] < box[2] and box[1] < box[3]}
    assert {tuple(box) for box in proposals.boxes[0].tolist()} == expected
    assert torch.equal(proposals.objectness[0], torch.full_like(proposals.objectness[0], 0.5))


def test_anchors_keep_their_stride_where_a_map_is_rounded_up():
    """As of levels that are subsampled from odd ones: 3 columns at 32 px become 2 at 64 px, and not at 96 / 2."""
    network = make_network(
        aspect_ratios=(1.0,), nms_iou=1.0, pre_nms_top_n=(999, 999), post_nms_top_n=(999, 999)
    ).eval()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    size = (56, 72)  # 16 divides neither side
    proposals, _ = network(make_maps(size, batch=1), [(1000, 1000)])
    boxes = proposals.boxes[0]
    centers = {((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes.tolist() if x2 - x1 == y2 - y1 == 40}
    assert centers == {(x, y) for x in (32, 48, 64) for y in (32, 48)}  # others are cut off at the left or top


def test_proposals_are_best_first_apart_and_inside_their_own_image():
    network, sizes = make_network().eval(), [(64, 96), (33, 41)]
    proposals, losses = network(make_maps(), sizes)
    assert losses == {}
    for boxes, objectness, size in zip(proposals.boxes, proposals.objectness, sizes, strict=True):
        assert boxes.dtype == torch.float32 and 10 < len(boxes) == len(objectness) <= 20
        assert (objectness.diff() <= 0).all() and (objectness >= 0).all() and (objectness <= 1).all()
        assert (boxes >= 0).all() and (boxes <= torch.tensor([size[1], size[0]] * 2)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert not proposals.boxes[0].requires_grad and not proposals.objectness[0].requires_grad


def test_what_one_image_holds_does_not_change_another():
    network, maps = make_network().eval(), make_maps()
    alone = network([level[:1] for level in maps], [SIZE])[0]
    both = network(maps, [SIZE, SIZE])[0]
    torch.testing.assert_close(both.boxes[0], alone.boxes[0])
    torch.testing.assert_close(both.objectness[0], alone.objectness[0])


@pytest.mark.parametrize("mean", ["levels", "samples"])
def test_images_without_objects_are_all_background(mean):
    network, none = make_network(mean).train(), Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    maps = [level.requires_grad_() for level in make_maps()]
    _, losses = network(maps, [SIZE, SIZE], [none, none])
    sum(losses.values()).backward()
    assert losses["loss_rpn_box"] == 0 and 0 < losses["loss_rpn_objectness"] < 50
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("mean", ["levels", "samples"])
def test_a_wide_gap_leaves_no_proposal_and_finite_losses(mean):
    """All boxes are sent beyond the image, where clipping leaves nothing of them."""
    network = make_network(mean).train()
    torch.nn.init.constant_(network.head.bbox_pred.bias, 1e4)
    proposals, losses = network(make_maps(), [SIZE, SIZE], [make_instances(2, SIZE)] * 2)
    assert [tuple(found.shape) for found in proposals.boxes] == [(0, 4)] * 2
    assert [tuple(found.shape) for found in proposals.objectness] == [(0,)] * 2
    assert all(loss.isfinite() for loss in losses.values())


def test_autocast_keeps_boxes_and_losses_in_float32():
    network, targets = make_network("levels").train(), [make_instances(3, SIZE, seed) for seed in (0, 1)]
    with torch.autocast("cpu", torch.bfloat16):
        proposals, losses = network(make_maps(), [SIZE, SIZE], targets)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert proposals.boxes[0].dtype == proposals.objectness[0].dtype == torch.float32
    low = [level.bfloat16() for level in make_maps()]
    moved = network.to(torch.bfloat16).eval()(low, [SIZE, SIZE])[0].boxes[0]
    assert moved.dtype == torch.float32 and (moved != moved.bfloat16().float()).any()


@pytest.mark.parametrize("sizes", [(8, 16), (8, 16, 32, 64), (8, 16, 16), (32, 16, 8)])
def test_wrong_anchor_sizes_are_named(sizes):
    with pytest.raises(ValueError, match="expected 3 growing sizes"):
        ProposalNetwork(DIM, STRIDES, anchor_sizes=sizes)


def test_anchors_are_eight_strides_by_default():
    arguments = dict(nms_iou=1.0, pre_nms_top_n=(9999, 9999), post_nms_top_n=(9999, 9999))
    network = ProposalNetwork(DIM, STRIDES, aspect_ratios=(1.0,), **arguments).eval()
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    boxes = network(make_maps((256, 256), batch=1), [(256, 256)])[0].boxes[0]
    sides = (boxes[:, 2:] - boxes[:, :2])[(boxes > 0).all(dim=1) & (boxes < 256).all(dim=1)]
    assert sides.unique().tolist() == [32, 64, 128]


def test_boxes_of_a_batch_carry_the_index_of_their_image():
    boxes = [make_boxes(2, SIZE, 0), torch.zeros(0, 4), make_boxes(1, SIZE, 1)]
    regions = as_regions(boxes)
    assert regions[:, 0].tolist() == [0, 0, 2]
    assert torch.equal(regions[:, 1:], torch.cat(boxes))
