"""The pyramid: sums of maps by hand, extra levels, resampled maps of one stride, and mistakes."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detection_parts import SPEC, enliven, make_features
from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork

from openvocab.detection.feature_pyramid import FeaturePyramid
from openvocab.structures import BackboneSpec, ImageFeatures

VIT = BackboneSpec(16, 16, (5, 5, 5, 5), (16, 16, 16, 16))


def make_transparent(pyramid: FeaturePyramid) -> None:
    """Make every convolution hand its input on: the identity, at the center of its kernel."""
    for part in pyramid.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.dirac_(part.weight)
            nn.init.zeros_(part.bias)


def test_levels_are_sums_of_their_map_and_the_coarser_ones_enlarged():
    spec = BackboneSpec(None, 16, (4, 4, 4), (4, 8, 16))
    pyramid = FeaturePyramid(spec, layers=(0, 1, 2), dim=4, extra_levels=2)
    make_transparent(pyramid)
    features = make_features((64, 96), spec=spec)
    fine, middle, coarse = features.hidden.values()
    with torch.no_grad():
        levels = pyramid(features)
    enlarged = middle + coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(levels[2], coarse)
    torch.testing.assert_close(levels[1], enlarged)
    torch.testing.assert_close(levels[0], fine + enlarged.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.equal(levels[3], levels[2][:, :, ::2, ::2])
    assert torch.equal(levels[4], levels[2][:, :, ::4, ::4])
    assert pyramid.strides == (4, 8, 16, 32, 64) and pyramid.backbone_strides == (4, 8, 16)


def test_equals_torchvisions_backbone_with_a_pyramid_on_copied_weights():
    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 10, 2, 2)

        def forward(self, images):
            return self.b(self.a(images))

    torch.manual_seed(0)
    theirs = enliven(BackboneWithFPN(Maps(), {"a": "0", "b": "1"}, [8, 10], 12))
    ours = FeaturePyramid(SPEC, layers=(1, 2), dim=12)
    (part,) = [part for part in ours.modules() if isinstance(part, FeaturePyramidNetwork)]
    part.load_state_dict(theirs.fpn.state_dict())
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        hidden = {1: theirs.body["a"](images)}
        hidden[2] = theirs.body["b"](hidden[1])
        levels = ours(ImageFeatures((48, 80), hidden=hidden))
        expected = list(theirs(images).values())  # two levels and one pooled with stride 2
    assert [tuple(level.shape[2:]) for level in levels] == [(6, 10), (3, 5), (2, 3)]
    for level, other in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, other)


def test_maps_of_one_stride_become_a_pyramid_by_factors():
    pyramid = FeaturePyramid(VIT, layers=(0, 1, 2, 3), dim=5, factors=(4, 2, 1, 0.5), extra_levels=1)
    assert pyramid.strides == (4, 8, 16, 32, 64)
    features = make_features((64, 128), spec=VIT)
    levels = pyramid(features)
    halves = ImageFeatures(features.input_size, hidden={i: level.bfloat16() for i, level in features.hidden.items()})
    assert all(level.dtype == torch.bfloat16 for level in copy.deepcopy(pyramid).bfloat16()(halves))
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]
    make_transparent(pyramid)
    with torch.no_grad():
        lowest = pyramid(features)[3]
    triangle = torch.tensor([1.0, 3.0, 3.0, 1.0])  # two new cells wide, at the old ones; the border cuts the first off
    columns = features.hidden[3][:, :, :3, 1:5] @ triangle / triangle.sum()
    expected = columns @ triangle[1:] / triangle[1:].sum()
    torch.testing.assert_close(lowest[:, :, 0, 1], expected)


def test_extra_levels_may_be_convolutions_of_the_level_before():
    pyramid = enliven(FeaturePyramid(SPEC, layers=(1, 2), dim=8, extra_levels=2, extra="convolve"))
    with torch.no_grad():
        levels = pyramid(make_features((128, 192)))
        for last, level, conv in zip(levels[1:-1], levels[2:], pyramid.extra_convs, strict=True):
            padded = F.pad(last, (0, 1, 0, 1))  # as TensorFlow pads an even side
            torch.testing.assert_close(level, F.conv2d(padded, conv.weight, conv.bias, stride=2))
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert pyramid(make_features((48, 80)))[-1].shape[2:] == (1, 2)  # of 3 x 5, then 2 x 3


def test_extra_levels_may_be_those_of_retinanet():
    pyramid = enliven(FeaturePyramid(SPEC, layers=(1, 2), dim=8, extra_levels=3, extra="retinanet"))
    with torch.no_grad():
        levels = pyramid(make_features((80, 112)))
        last = levels[1]  # the finer ones come from torchvision's part, the first extra one from its result
        for level, conv in zip(levels[2:], pyramid.extra_convs, strict=True):
            windows = F.unfold(last, 3, padding=1, stride=2)  # (B, C * 9, h * w), zero outside on every side
            expected = (conv.weight.flatten(1) @ windows + conv.bias[:, None]).view_as(level)
            torch.testing.assert_close(level, expected, rtol=1e-4, atol=1e-5)
            last = level.clamp(min=0)
        assert (levels[2] < 0).any()
    assert [tuple(level.shape[2:]) for level in levels[1:]] == [(5, 7), (3, 4), (2, 2), (1, 1)]
    assert pyramid.strides == (8, 16, 32, 64, 128)


def test_norms_of_the_result_follow_the_sums_and_the_extra_levels():
    plain = enliven(FeaturePyramid(SPEC, layers=(1, 2), dim=8)).eval()
    normed = FeaturePyramid(SPEC, layers=(1, 2), dim=8, output_norm="batch").eval()
    normed.load_state_dict(plain.state_dict(), strict=False)
    for level, norm in enumerate(normed.output_norms):
        norm.running_mean.fill_(level + 1)
    with torch.no_grad():
        expected = [(values - i - 1) / (1 + 1e-5) ** 0.5 for i, values in enumerate(plain(make_features()))]
        for level, other in zip(normed(make_features()), expected, strict=True):
            torch.testing.assert_close(level, other)


@pytest.mark.parametrize("norm", ["batch", "frozen_batch", "group", "layer"])
def test_norms_by_name_follow_every_convolution(norm):
    pyramid = FeaturePyramid(SPEC, layers=(0, 1), dim=8, norm=norm)
    kinds = [type(part) for part in pyramid.modules()]
    norms = [kind for kind in kinds if "Norm" in kind.__name__ and kind.__name__ != "Conv2dNormActivation"]
    assert len(norms) == kinds.count(nn.Conv2d) == 4
    assert all(level.isfinite().all() for level in pyramid(make_features()))


def test_gradient_reaches_every_map_and_weight():
    pyramid, features = FeaturePyramid(SPEC, layers=(0, 1, 2), dim=8), make_features()
    for level in features.hidden.values():
        level.requires_grad_()
    sum(level.square().sum() for level in pyramid(features)).backward()
    assert all(level.grad.abs().sum() > 0 for level in features.hidden.values())
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


def test_wrong_arguments_are_named():
    cases = [
        (SPEC, dict(layers=()), "0 to 2"),
        (SPEC, dict(layers=(1, 3)), "0 to 2"),
        (SPEC, dict(layers=(2, 1)), "fine to coarse"),
        (SPEC, dict(layers=(1, 1)), "fine to coarse"),
        (VIT, dict(layers=(0, 1)), "see factors"),
        (VIT, dict(layers=(0, 1), factors=(2,)), "expected 2"),
        (SPEC, dict(layers=(0, 1), norm="instance"), "expected one of"),
        (SPEC, dict(layers=(0, 1), output_norm="instance"), "expected one of"),
        (SPEC, dict(layers=(0, 1), extra="pool"), "extra: expected one of"),
    ]
    for spec, arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            FeaturePyramid(spec, **arguments)
