"""The region vector: what the layers compute, norms by name, and regions that are not there."""

import pytest
import torch
import torch.nn.functional as F
from detection_parts import enliven
from torch import nn

from openvocab.detection.box_head import BoxHead
from openvocab.detection.norms import NORMS, norm_layer


def make_head(**arguments) -> BoxHead:
    torch.manual_seed(0)
    return enliven(BoxHead(3, 5, **{"convs": 2, "conv_dim": 8, "layers": 2, "dim": 12, **arguments}))


def test_layers_in_their_order_by_hand():
    head, regions = make_head(), torch.randn(4, 3, 5, 5)
    first, first_bias, second, second_bias, *linear = head.parameters()
    maps = F.conv2d(regions, first, first_bias, padding=1).relu()
    maps = F.conv2d(maps, second, second_bias, padding=1).relu()
    vector = F.linear(maps.reshape(4, -1), *linear[:2]).relu()
    torch.testing.assert_close(head(regions), F.linear(vector, *linear[2:]).relu())
    assert head.out_dim == 12


def test_mask_rcnns_head_has_no_convolution():
    head = make_head(convs=0, layers=1)
    assert not any(isinstance(part, nn.Conv2d) for part in head.modules())
    assert head(torch.randn(2, 3, 5, 5)).shape == (2, 12)


@pytest.mark.parametrize("norm_linears", [False, True])
@pytest.mark.parametrize("norm", [None, "batch", "slow_batch", "frozen_batch", "group", "layer"])
def test_no_regions_give_no_vectors_defined_gradients_and_sound_statistics(norm, norm_linears):
    head = make_head(norm=norm, norm_linears=norm_linears, dim=64).train()
    regions = torch.zeros(0, 3, 5, 5, requires_grad=True)
    vectors = head(regions)
    vectors.sum().backward()
    assert vectors.shape == (0, 64)
    assert all(torch.equal(part.grad, torch.zeros_like(part)) for part in head.parameters())
    assert all(buffer.isfinite().all() for buffer in head.buffers())
    assert head.eval()(torch.randn(1, 3, 5, 5)).isfinite().all()


def test_every_convolution_has_its_norm():
    kinds = {"batch": nn.BatchNorm2d, "group": nn.GroupNorm, "layer": nn.GroupNorm}
    for name, kind in kinds.items():
        assert sum(type(part) is kind for part in make_head(norm=name).modules()) == 2
    assert norm_layer("group")(64).num_groups == 32 and norm_layer("group")(8).num_groups == 8
    assert norm_layer("layer")(64).num_groups == 1
    assert norm_layer(None) is None


def test_norms_after_linear_layers_by_hand():
    head = make_head(convs=0, norm="slow_batch", norm_linears=True).train()
    regions = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    rows = regions.flatten(1)
    linears = [part for part in head.modules() if isinstance(part, nn.Linear)]
    norms = [part for part in head.modules() if isinstance(part, nn.BatchNorm2d)]
    for linear, norm in zip(linears, norms, strict=True):
        rows = rows @ linear.weight.T + linear.bias
        spread = (rows.var(dim=0, correction=0) + 1e-4).sqrt()
        rows = ((rows - rows.mean(dim=0)) / spread * norm.weight + norm.bias).relu()
    torch.testing.assert_close(head(regions), rows)


def test_groups_of_a_single_number_are_rejected_after_linear_layers():
    with pytest.raises(ValueError, match="norm_linears: expected dim above 32 for norm='group', got 12; take 'layer'"):
        make_head(norm="group", norm_linears=True)


def test_an_unknown_norm_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match="expected one of .*batch.*got 'instance'"):
        make_head(norm="instance")
    assert set(NORMS) == {None, "batch", "slow_batch", "frozen_batch", "group", "layer"}
