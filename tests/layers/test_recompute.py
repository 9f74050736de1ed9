"""Recomputed activations, and what must not be recomputed."""

import pytest
import torch
from torch import nn

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.layers.recompute import recompute


def test_gradients_are_equal_and_nothing_is_kept():
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.Linear(4, 4))
    runs = []
    part[0].register_forward_hook(lambda *_: runs.append(1))
    gradients = []
    for run in (part, lambda x: recompute(part, x)):
        x = torch.ones(2, 4, requires_grad=True)
        part.zero_grad()
        run(x).square().sum().backward()
        gradients.append([x.grad, *(parameter.grad.clone() for parameter in part.parameters())])
    assert len(runs) == 3  # once, and twice
    for plain, again in zip(*gradients):
        torch.testing.assert_close(plain, again)


def test_batch_norms_that_learn_are_refused():
    part = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
    images = torch.randn(2, 3, 4, 4, requires_grad=True)
    with pytest.raises(ValueError, match="update batch norms twice per step"):
        recompute(part, images)
    recompute(part.eval(), images)
    with torch.no_grad():
        recompute(part.train(), images)


def test_a_timm_pyramid_refuses_them_too():
    images = torch.randn(2, 3, 64, 64)
    learning = TimmBackbone("resnet18", checkpointing=True).train()
    with pytest.raises(ValueError, match="norm_eval=True"):
        learning(images, (4,))
    still = TimmBackbone("resnet18", checkpointing=True, norm_eval=True).train()
    still(images, (4,)).hidden[4].sum().backward()
    counts = {name: value.item() for name, value in still.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts and set(counts.values()) == {0}
