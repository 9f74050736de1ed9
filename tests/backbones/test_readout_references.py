"""Readouts against what the published code gives on the same drawn weights."""

import pytest
import torch
import torch.nn.functional as F
from readout_reference import SIZES, backbone, expected, needs_reference, queries, scene

from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.structures import TextFeatures

pytestmark = needs_reference


def unit_patches(maps: torch.Tensor) -> torch.Tensor:
    return F.normalize(maps, dim=1)[0].flatten(1).T  # (N, D)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("readout", "array"),
    [
        ("naclip", "naclip"),
        ("sclip", "sclip"),
        ("clearclip", "clearclip"),
        ("value", "vonly"),
        ("maskclip", "maskclipq"),
    ],
)
def test_features_and_cosines_equal_the_published_code(readout, array):
    tower = backbone(readout)
    for size in ("a", "b"):
        patches = unit_patches(tower(scene(*SIZES[size])).patch_embed)
        torch.testing.assert_close(patches[::14], expected(f"{array}_{size}_feat"), rtol=0, atol=1e-6)
        torch.testing.assert_close(patches @ queries().T, expected(f"{array}_{size}_sim"), rtol=0, atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize(
    ("readout", "array", "sizes"), [("scclip", "scclip", "as"), ("sfp", "sfp", "as"), ("rfclip", "rf", "ab")]
)
def test_readouts_of_several_blocks_equal_the_published_code(readout, array, sizes):
    tower = backbone(readout)
    for size in sizes:
        features = tower(scene(*SIZES[size]))
        patches = unit_patches(features.patch_embed)
        torch.testing.assert_close(patches[::14], expected(f"{array}_{size}_feat"), rtol=0, atol=1e-6)
        torch.testing.assert_close(patches @ queries().T, expected(f"{array}_{size}_sim"), rtol=0, atol=1e-6)
        if readout == "rfclip":
            image_embed = F.normalize(features.image_embed[0], dim=0)
            torch.testing.assert_close(image_embed, expected(f"rf_{size}_cls"), rtol=0, atol=1e-6)


@torch.inference_mode()
def test_maskclip_refines_as_published():
    tower = backbone("maskclip", model="ViT-B-16")  # the published tower has exact GELU, and another epsilon
    for part in tower.modules():
        if isinstance(part, torch.nn.LayerNorm):
            part.eps = 1e-6
    words = TextFeatures(queries(), torch.tensor(100.0))
    for size in ("a", "b"):
        features = tower(scene(*SIZES[size]))
        patches = unit_patches(features.patch_embed)
        torch.testing.assert_close(patches @ queries().T, expected(f"maskclip_{size}_sim"), rtol=0, atol=1e-6)
        for array, ks, pd in (("ks", 1.0, None), ("ks_pd", 1.0, 0.5), ("ks_half", 0.2, 0.2)):
            head = DenseCLIPHead(tower.spec, 512, ks_thresh=ks, pd_thresh=pd)
            published = expected(f"maskclip_{size}_{array}")
            torch.testing.assert_close(head(features, words)[0], published, rtol=1e-5, atol=1e-5 * published.max())
