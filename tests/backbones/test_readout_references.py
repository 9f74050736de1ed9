"""Readouts against what the published code gives on the same drawn weights."""

import pytest
import torch
import torch.nn.functional as F
from readout_reference import SIZES, backbone, expected, needs_reference, queries, scene

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
