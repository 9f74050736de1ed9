"""Weights, images and official outputs of GLIP, drawn from names and seeds."""

from functools import cache

import numpy as np
import pytest
import torch
from readout_reference import KEYS, seeded
from torch import Tensor, nn

from openvocab.backbones.swin import SwinBackbone
from openvocab.converters.glip import convert
from openvocab.detection.feature_pyramid import FeaturePyramid
from openvocab.heads.glip_tower import GLIPTower

LAYOUTS = {"a": "glip_swint_a", "c": "glip_swint_fused", "l": "glip_swinl_fused"}
SWIN_L = dict(dim=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12, drop_path=0.4)
needs_reference = pytest.mark.skipif(
    not (KEYS / "ref_glip.npz").is_file(), reason=f"no reference outputs at {KEYS}; set OPENVOCAB_KEYS"
)


@cache
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(KEYS / "ref_glip.npz"))


def expected(name: str) -> Tensor:
    return torch.from_numpy(reference()[name])


def image() -> Tensor:
    """The normalized input; the official network reads blue, green, red, ours red, green, blue."""
    return seeded().image(224, 288, 5).flip(1)


def of_vision(key: str) -> bool:
    """Whether an entry belongs to the backbone, the pyramid or the tower."""
    return key.startswith(("backbone.", "rpn.head.dyhead_tower."))


@cache
def vision_state(variant: str) -> dict[str, Tensor]:
    entries = seeded().state(KEYS / f"{LAYOUTS[variant]}.txt", 3)
    return convert({key: value for key, value in entries.items() if of_vision(key)})


def make_vision(variant: str) -> nn.Module:
    """Backbone, pyramid and tower, under the names that they have in a model."""
    model = nn.Module()
    model.backbone = SwinBackbone(**(SWIN_L if variant == "l" else {}))
    model.head = nn.Module()
    model.head.pyramid = FeaturePyramid(model.backbone.spec, (2, 3, 4), extra_levels=2, extra="retinanet")
    model.head.tower = GLIPTower(num_blocks=8 if variant == "l" else 6, fused=variant != "a")
    return model.eval()


@cache
def official_vision(variant: str) -> nn.Module:
    model = make_vision(variant)
    model.load_state_dict(vision_state(variant))
    return model


@cache
def official_levels(variant: str) -> list[Tensor]:
    """The pyramid of the reference's image."""
    model = official_vision(variant)
    with torch.no_grad():
        return model.head.pyramid(model.backbone(image(), (2, 3, 4)))


def assert_equal_to_official(actual: Tensor, name: str) -> None:
    """Compare relative to the largest entry."""
    other = expected(name)
    torch.testing.assert_close(actual, other, rtol=0, atol=2e-5 * other.abs().max().item())
