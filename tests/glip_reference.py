"""Outputs of official GLIP on drawn weights, with the outputs of its loss and of its post-processing."""

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary

KEYS = Path(os.environ.get("OPENVOCAB_KEYS", Path(__file__).resolve().parents[2] / "shared" / "keys"))
needs_reference = pytest.mark.skipif(
    not (KEYS / "ref_glip.npz").is_file(), reason=f"no reference outputs at {KEYS}; set OPENVOCAB_KEYS"
)
MODELS = ("a", "c")
"""GLIP-T without and with fusion."""
INPUT_SIZE = (224, 288)
STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SIZES = (64, 128, 256, 512, 1024)
GT_BOXES = torch.tensor([[20.0, 30, 140, 210], [24, 60, 130, 150], [150, 120, 280, 215]])
"""Inclusive corners, one for each phrase in order."""


@cache
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(KEYS / "ref_glip.npz"))


def expected(name: str) -> Tensor:
    return torch.from_numpy(np.asarray(reference()[name]))


def grid_sizes(model: str) -> list[tuple[int, int]]:
    return [(int(height), int(width)) for height, width in expected(f"{model}_locations")]


def counts(model: str) -> list[int]:
    return [height * width for height, width in grid_sizes(model)]


def sample() -> Sample:
    """A sample of three classes whose original image is the input."""
    return Sample("image", Vocabulary((("a",), ("b",), ("c",))), INPUT_SIZE, INPUT_SIZE)
