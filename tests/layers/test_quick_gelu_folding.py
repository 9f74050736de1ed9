"""Folded towers against themselves before."""

import copy
import pickle

import pytest
import torch
from open_clip.transformer import QuickGELU
from timm.layers import Mlp
from timm.layers.activations import QuickGELU as TimmQuickGELU
from torch import nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.layers import packed_linear
from openvocab.layers.quick_gelu_folding import fold_quick_gelu
from openvocab.model import OpenVocabModel
from openvocab.text.one_hot import OneHotTextEncoder


def quick_tower() -> CLIPBackbone:
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes").eval()
    for block in backbone.reader.blocks:
        block.mlp.gelu = QuickGELU()
    return backbone


def largest_difference(got, expected) -> float:
    return float((got - expected).norm() / expected.norm())


def test_a_folded_tower_says_the_same():
    backbone = quick_tower()
    images = torch.randn(2, 3, 64, 48, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = backbone(images, (1, 2))
        fold_quick_gelu(backbone)
        after = backbone(images, (1, 2))
    assert not any(isinstance(part, QuickGELU) for part in backbone.modules())
    for layer in (1, 2):
        assert largest_difference(after.hidden[layer], before.hidden[layer]) < 1e-6
    assert largest_difference(after.patch_embed, before.patch_embed) < 2e-6


def test_timms_feed_forward_layers_are_folded_too():
    torch.manual_seed(0)
    mlp = Mlp(16, 64, act_layer=TimmQuickGELU).eval()
    x = torch.randn(5, 16)
    expected = mlp.double()(x.double())
    fold_quick_gelu(mlp)
    assert type(mlp.act) is nn.SiLU
    torch.testing.assert_close(mlp(x.double()), expected, rtol=1e-12, atol=1e-12)


def test_a_norm_between_the_layers_forbids_it():
    mlp = Mlp(16, 64, act_layer=TimmQuickGELU, norm_layer=nn.LayerNorm)
    fold_quick_gelu(mlp)
    assert type(mlp.act) is TimmQuickGELU


def test_weights_that_others_hold_stay_as_they_are():
    backbone = quick_tower()
    held = backbone.state_dict()
    before = copy.deepcopy(held)
    fold_quick_gelu(backbone)
    assert all(torch.equal(held[key], before[key]) for key in before)


def quick_model() -> OpenVocabModel:
    backbone = quick_tower()
    classes = OneHotTextEncoder([f"class {axis}" for axis in range(backbone.spec.embed_dim)])
    return OpenVocabModel(backbone, classes, dict(type=DenseCLIPHead))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_a_model_made_ready_to_predict_is_folded(dtype, tolerance):
    model = quick_model()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model.eval().encode(images).patch_embed
        after = model.compute_in(dtype).encode(images).patch_embed
    assert not any(isinstance(part, QuickGELU) for part in model.modules())
    assert largest_difference(after.float(), before) < tolerance


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_model_made_ready_to_predict_neither_saves_nor_loads(monkeypatch, packed, again):
    if not packed:
        monkeypatch.setattr(packed_linear, "can_pack", lambda dtype: False)
    model = quick_model()
    weights = copy.deepcopy(model.state_dict())
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = model.compute_in(torch.float32).encode(images).patch_embed
        copied = again(model)
        for part, state in ((copied, weights), (copied.backbone, {}), (copied.head, {})):
            with pytest.raises(RuntimeError, match=r"ready to predict.* load\(config, checkpoint\)"):
                part.state_dict()
            with pytest.raises(RuntimeError, match="ready to predict"):
                part.load_state_dict(state, strict=False)
        assert copied.encode(images).patch_embed.equal(before)
