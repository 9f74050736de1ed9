"""Folded towers against themselves before."""

import copy

import pytest
import torch
from random_batch_norms import randomise_batch_norms
from torch import nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.layers.batch_norm_folding import fold_batch_norms


def plain_norms(module: nn.Module) -> int:
    return sum(type(part) is nn.BatchNorm2d for part in module.modules())


def make(backbone) -> nn.Module:
    """Batch norms that do something, in eval mode."""
    torch.manual_seed(0)
    built = backbone().eval()
    randomise_batch_norms(built)
    return built


@pytest.mark.parametrize(
    ("backbone", "left"),
    [
        (lambda: TimmBackbone("resnet50"), 0),
        (lambda: TimmBackbone("resnet50", resnet_style="caffe", norm_eval=True), 0),
        (lambda: TimmBackbone("densenet121"), 0),  # norms before convolutions too
        (lambda: TimmBackbone("mobilenetv2_100"), 0),  # norms with an activation of their own stay
        (lambda: CLIPBackbone("RN50"), 3),  # those of the stem stay
        (lambda: CLIPBackbone("ViT-Ti-8-shapes"), 0),
        (lambda: TimmBackbone("vit_tiny_patch16_384", model_args=dict(embed_dim=32, depth=2, num_heads=2)), 0),
    ],
    ids=["resnet50", "caffe", "densenet", "mobilenet", "clip-rn50", "clip-vit", "timm-vit"],
)
def test_a_folded_backbone_says_the_same_at_any_size(backbone, left):
    backbone = make(backbone)
    layers = range(len(backbone.spec.hidden_dims))
    sizes = [(2, 3, 64, 96), (1, 3, 128, 64)]
    images = [torch.randn(size, generator=torch.Generator().manual_seed(1)) for size in sizes]
    with torch.no_grad():
        before = [backbone(image, layers) for image in images]
        backbone.fold_batch_norms()
        after = [backbone(image, layers) for image in images]
    for old, new in zip(before, after):
        for layer in layers:
            scale = old.hidden[layer].abs().max()
            torch.testing.assert_close(new.hidden[layer] / scale, old.hidden[layer] / scale, atol=1e-5, rtol=0)
        if old.image_embed is not None:
            torch.testing.assert_close(new.image_embed, old.image_embed, atol=1e-5, rtol=1e-3)
    assert plain_norms(backbone) <= left


def test_a_tower_that_is_read_by_hooks_stays_as_it_is():
    backbone = make(lambda: TimmBackbone("legacy_xception"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(images, (4,)).hidden[4]
        backbone.fold_batch_norms()
        assert torch.equal(backbone(images, (4,)).hidden[4], before)


def test_a_convolution_that_others_read_too_is_left_alone():
    class Forked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x):
            x = self.conv(x)
            return x + self.norm(x)

    forked = make(Forked)
    images = torch.randn(1, 2, 4, 4)
    expected = forked(images)
    folded = fold_batch_norms(forked)
    torch.testing.assert_close(folded(images), expected)
    assert plain_norms(folded) == 1


def test_code_that_branches_on_values_stays_as_it_is():
    class Branching(nn.Sequential):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else x

    part = Branching(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)).eval()
    assert fold_batch_norms(part) is part


def test_the_original_is_not_changed():
    tower = make(lambda: TimmBackbone("resnet50")).visual
    state = copy.deepcopy(tower.state_dict())
    fold_batch_norms(tower)
    assert all(torch.equal(value, state[key]) for key, value in tower.state_dict().items())
