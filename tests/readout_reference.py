"""Weights, images and texts of the reference outputs of training-free readouts, drawn from names and seeds."""

import copy
import importlib.util
import os
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import build_readout
from openvocab.structures import TextFeatures

KEYS = Path(os.environ.get("OPENVOCAB_KEYS", Path(__file__).resolve().parents[2] / "shared" / "keys"))
SIZES = {"a": (224, 224), "b": (240, 336), "s": (336, 336)}
WORD_CLASS = (0, 0, 1, 2, 3, 3, 4, 5, 5)
"""Classes of the nine words; class 0 is the background."""
needs_reference = pytest.mark.skipif(
    not (KEYS / "ref_readouts.npz").is_file(), reason=f"no reference outputs at {KEYS}; set OPENVOCAB_KEYS"
)


@cache
def seeded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seeded", KEYS / "seeded.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def reference() -> dict[str, np.ndarray]:
    return dict(np.load(KEYS / "ref_readouts.npz"))


def expected(name: str) -> Tensor:
    return torch.from_numpy(reference()[name])


def normal(shape: tuple[int, ...], seed: int) -> Tensor:
    rows = np.random.Generator(np.random.PCG64(seed)).standard_normal(shape)
    return torch.from_numpy(rows.astype(np.float32))


def scene(height: int, width: int, noise: float = 0.3) -> Tensor:
    blocks = normal((1, 3, -(-height // 48), -(-width // 48)), 1005)
    large = blocks.repeat_interleave(48, 2).repeat_interleave(48, 3)[..., :height, :width]
    return large + noise * seeded().image(height, width, 5)


@cache
def visual_state() -> dict[str, Tensor]:
    """OpenAI's layout of the image tower, without the prefix."""
    state = seeded().state(KEYS / "clip_vitb16_visual.txt", 3)
    state["visual.transformer.resblocks.4.mlp.c_proj.weight"][474] *= 40
    return {name.removeprefix("visual."): value for name, value in state.items()}


@cache
def tower(model: str) -> CLIPBackbone:
    backbone = CLIPBackbone(model)
    backbone.visual.load_state_dict(visual_state())
    return backbone.eval()


def backbone(readout: str, model: str = "ViT-B-16-quickgelu") -> CLIPBackbone:
    """A backbone with the drawn weights; all share one tower, which takes seconds to build."""
    made, read = copy.copy(tower(model)), build_readout(readout)
    made.reader = VisionTransformerReader(made.visual, read, read.position_resize, checkpointing=False)
    return made


def queries() -> Tensor:
    t = F.normalize(normal((9, 512), 7), dim=1)
    for row, base, noise in ((1, 0, 0.2), (3, 2, 0.3), (5, 4, 0.25), (6, 2, 0.3), (8, 7, 0.45)):
        t[row] = F.normalize(t[base] + noise * t[row], dim=0)
    return t


def text() -> TextFeatures:
    """The nine words as the texts of six classes."""
    return TextFeatures(queries(), torch.tensor(100.0), torch.tensor(WORD_CLASS), background=0)
