"""Official GLIP on drawn weights: layouts, inputs, outputs, and our model with the same weights."""

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from readout_reference import KEYS, seeded
from tiny_bert import numbered_vocabulary
from torch import Tensor

from openvocab.backbones.swin import SwinBackbone
from openvocab.converters.glip import convert
from openvocab.heads.glip import GLIPHead
from openvocab.model import OpenVocabModel
from openvocab.structures import Instances, Sample
from openvocab.text.bert import BERTTextEncoder
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

needs_reference = pytest.mark.skipif(
    not (KEYS / "ref_glip.npz").is_file(), reason=f"no reference outputs at {KEYS}; set OPENVOCAB_KEYS"
)
LAYOUTS = {"a": "glip_swint_a", "c": "glip_swint_fused", "l": "glip_swinl_fused"}
MODELS = ("a", "c")
"""GLIP-T without and with fusion."""
SWIN_L = dict(dim=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12, drop_path=0.4)
INPUT_SIZE = (224, 288)
STRIDES = (8, 16, 32, 64, 128)
ANCHOR_SIZES = (64, 128, 256, 512, 1024)
GT_BOXES = torch.tensor([[20.0, 30, 140, 210], [24, 60, 130, 150], [150, 120, 280, 215]])
"""Inclusive corners, one for each phrase in order."""
DETECTION = Prompt("traffic light. stop sign. dog", (((0, 13),), ((15, 24),), ((26, 29),)), (0, 1, 2))
CAPTION = Prompt("a woman in a red coat walks two small dogs", (((0, 7),), ((11, 21),), ((28, 42),)), (0, 1, 2))
PROMPTS = {"a": DETECTION, "c": CAPTION}
IDS = {
    "[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "traffic": 4026, "light": 2422,
    "stop": 2644, "sign": 3696, "dog": 3899, "a": 1037, "woman": 2450, "in": 1999, "red": 2417, "coat": 5435,
    "walks": 7365, "two": 2048, "small": 2235, "dogs": 6077, "horses": 5194,
}  # fmt: skip
"""Numbers of words in the vocabulary of bert-base-uncased."""


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


def labeled_sample(model: str) -> Sample:
    """The same with the objects and the prompt of the reference's losses."""
    labeled = sample()
    labeled.instances = Instances(GT_BOXES + torch.tensor([0.0, 0, 1, 1]), torch.arange(3))  # edges
    labeled.prompt = PROMPTS[model]
    return labeled


def image(height: int = 224, width: int = 288, seed: int = 5) -> Tensor:
    """A normalized input; the official network reads blue, green, red, ours red, green, blue."""
    return seeded().image(height, width, seed).flip(1)


@cache
def tokenizer_files() -> Path:
    return numbered_vocabulary(Path(tempfile.mkdtemp()), IDS, 30522)


def make_model(variant: str) -> OpenVocabModel:
    """GLIP-T (A), GLIP-T or GLIP-L with random weights."""
    return OpenVocabModel(
        SwinBackbone(**(SWIN_L if variant == "l" else {})),
        BERTTextEncoder(tokenizer=tokenizer_files()),
        dict(
            type=GLIPHead,
            pyramid=dict(layers=(2, 3, 4), extra_levels=2, extra="retinanet"),
            tower=dict(num_blocks=8 if variant == "l" else 6, fused=variant != "a"),
        ),
    ).eval()


@cache
def official_model(variant: str) -> OpenVocabModel:
    """The same with the reference's weights."""
    model = make_model(variant)
    model.load_state_dict(convert(seeded().state(KEYS / f"{LAYOUTS[variant]}.txt", 3)))  # strictly
    return model


@cache
def official_levels(variant: str) -> list[Tensor]:
    """The pyramid of the reference's image."""
    model = official_model(variant)
    with torch.no_grad():
        return model.head.pyramid(model.backbone(image(), (2, 3, 4)))


def assert_equal_to_official(actual: Tensor, name: str) -> None:
    """Compare relative to the largest entry."""
    other = expected(name)
    torch.testing.assert_close(actual, other, rtol=0, atol=2e-5 * other.abs().max().item())
