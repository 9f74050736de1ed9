"""ResNets as Detectron's and TensorFlow's weights expect them."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.layers.resnet_style import set_resnet_style


def test_caffe_halves_in_the_first_convolution():
    block = TimmBackbone("resnet26", resnet_style="caffe").eval().visual.layer2[0]
    maps = torch.randn(1, 256, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        inner = F.relu(block.bn1(F.conv2d(maps, block.conv1.weight)[:, :, ::2, ::2]))
        inner = F.relu(block.bn2(F.conv2d(inner, block.conv2.weight, padding=1)))
        shortcut = block.downsample[1](F.conv2d(maps, block.downsample[0].weight)[:, :, ::2, ::2])
        expected = F.relu(block.bn3(F.conv2d(inner, block.conv3.weight)) + shortcut)
        torch.testing.assert_close(block(maps), expected, rtol=1e-4, atol=1e-5)


def test_tensorflow_pools_from_the_first_pixel_on():
    pool = TimmBackbone("resnet26", resnet_style="tensorflow").visual.maxpool
    maps = torch.arange(36.0).view(1, 1, 6, 6)
    assert pool(maps)[0, 0].tolist() == [[14, 16, 17], [26, 28, 29], [32, 34, 35]]


@pytest.mark.parametrize("style", ["caffe", "tensorflow"])
def test_sizes_and_weights_stay_as_they_are(style: str):
    plain, styled = TimmBackbone("resnet26"), TimmBackbone("resnet26", resnet_style=style)
    assert styled.spec == plain.spec
    styled.load_state_dict(plain.state_dict(), strict=True)
    images = torch.zeros(1, 3, 64, 96)
    ours, theirs = (tower.eval()(images, range(5)).hidden for tower in (styled, plain))
    assert [ours[i].shape for i in ours] == [theirs[i].shape for i in theirs]


def test_other_styles_and_towers_are_refused():
    with pytest.raises(ValueError, match="expected one of .*caffe, tensorflow.*got 'keras'"):
        TimmBackbone("resnet26", resnet_style="keras")
    with pytest.raises(ValueError, match="is for ResNets of bottlenecks, got Linear"):
        set_resnet_style(torch.nn.Linear(1, 1), "caffe")
