"""From a photo to its label map, by LSeg."""

import copy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import label_disagreement
from benchmarks.plain_lseg import full_size_logits, text_rows
from openvocab.config.config import read_config
from openvocab.model import OpenVocabModel
from openvocab.predictor import Predictor
from openvocab.registry import MODELS
from openvocab.structures import SemanticPrediction
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

CONFIGS = Path(__file__).parents[2] / "configs"
RANDOM_WEIGHTS = {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None}


def prepare(
    config: str,
    dtype: torch.dtype,
    encode_each_call: bool,
    size: int = 480,
    num_classes: int = 150,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Sides:
    """Compare `Predictor` with the same network in the plain order of its layers.

    Args:
        config: file below `configs/`.
        dtype: dtype of our backbone and head; the peer computes in float32.
        encode_each_call: whether the peer encodes the names with every image, and takes the argmax of the logits;
            otherwise it has the text embeddings ready, and takes the argmax of the scores.
        size: side of the image in pixels.
        num_classes: number of class names.
        overrides: changes of the config.
        device: where both sides run.
    """
    model, vocabulary = random_model(config, overrides).to(device), ade_vocabulary(num_classes)
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    plain = copy.deepcopy(model).eval()
    predictor = Predictor(model.compute_in(dtype))
    tokens = open_clip.tokenize(list(vocabulary.class_names)).to(device)
    with torch.inference_mode():
        ready = text_rows(plain.text_encoder.text, tokens)

    @torch.inference_mode()
    def peer() -> Tensor:
        text = text_rows(plain.text_encoder.text, tokens) if encode_each_call else ready
        logits = full_size_logits(plain, normalized(plain, image).to(device), text)
        return (logits if encode_each_call else logits.softmax(1)).argmax(1)

    def ours() -> np.ndarray:
        return predicted_label_map(predictor, image, vocabulary)

    return Sides(peer, ours, label_disagreement)


def predicted_label_map(predictor: Predictor, image: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Return the label map (H, W) of an image (H, W, 3) uint8."""
    prediction = predictor(image, vocabulary)
    if not isinstance(prediction, SemanticPrediction):
        raise TypeError(f"expected a model that predicts label maps, got a {type(prediction).__name__}")
    return prediction.label_map


def random_model(config: str, overrides: Mapping[str, Any] | None = None) -> OpenVocabModel:
    """Build the model of a config with random weights."""
    torch.manual_seed(0)
    return MODELS.build(read_config(CONFIGS / config, {**RANDOM_WEIGHTS, **(overrides or {})}).model)


def ade_vocabulary(num_classes: int) -> Vocabulary:
    """Return the first `num_classes` names of ADE20K."""
    return Vocabulary.from_names(read_class_names(class_names_path("ade20k_150"))[:num_classes])


def normalized(model: OpenVocabModel, image: np.ndarray) -> Tensor:
    """Return an image (H, W, 3) uint8 as (1, 3, H, W) float32 input."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.backbone.mean, model.backbone.std))
    return ((torch.from_numpy(image).permute(2, 0, 1).float() - mean) / std)[None]


_large = partial(prepare, "lseg_ade.py", encode_each_call=True)
_base = partial(prepare, "lseg_ade_clip-vit-b16.py", encode_each_call=False)
_SECOND = "ours has the vocabulary in its cache, the peer encodes 150 names per image; labels of random weights"
_LABELS = "labels of random weights: the disagreement is an upper bound"
ROWS = (
    Row(
        "lseg_vit_l16_fp32",
        1.0,
        partial(_large, torch.float32),
        products="float32",
        min_peak_fraction=0.8,
        repeats=3,
        note=_SECOND,
        on_cuda=True,
    ),
    Row(
        "lseg_vit_l16_bf16",
        1.0,
        partial(_large, torch.bfloat16),
        products="bfloat16",
        min_peak_fraction=0.8,
        repeats=3,
        note=_SECOND,
        on_cuda=True,
    ),
    Row(
        "lseg_vit_b16_fp32",
        1.0,
        partial(_base, torch.float32),
        products="float32",
        min_peak_fraction=0.8,
        repeats=7,
        note=_LABELS,
        on_cuda=True,
    ),
    Row(
        "lseg_vit_b16_bf16",
        1.0,
        partial(_base, torch.bfloat16),
        products="bfloat16",
        min_peak_fraction=0.8,
        repeats=7,
        note=_LABELS,
        on_cuda=True,
    ),
)
