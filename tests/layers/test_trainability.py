"""Modes of towers that are partly frozen."""

import torch
from torch import nn

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.layers.trainability import set_mode


class Caching(nn.Module):
    """Like timm's LeViT, it forgets something when it is told to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.cache = "old"

    def train(self, mode=True):
        self.cache = None if mode else self.cache
        return super().train(mode)


def test_a_towers_own_way_of_changing_its_mode_is_used():
    tower = nn.Sequential(Caching(), Caching())
    tower[1].requires_grad_(False)
    set_mode(tower, True)
    assert tower.training and tower[0].training and not tower[1].training
    assert tower[0].cache is None
    set_mode(tower, False)
    assert not any(part.training for part in tower.modules())


def test_a_cached_attention_bias_does_not_outlive_training():
    torch.manual_seed(0)
    backbone = TimmBackbone("tiny_vit_5m_224")
    images = torch.randn(1, 3, 64, 64)
    last = len(backbone.spec.hidden_dims) - 1
    with torch.no_grad():
        before = backbone.eval()(images, (last,)).hidden[last]
        backbone.train()
        for name, parameter in backbone.named_parameters():
            if "attention_biases" in name:
                parameter.normal_()
        after = backbone.eval()(images, (last,)).hidden[last]
    assert (before - after).abs().max() > 1e-2
