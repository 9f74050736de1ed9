"""GroupViT, from a photo to its label map and the image side alone, against Hugging Face's model with equal weights."""

from collections.abc import Callable
from functools import partial

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GroupViTModel

from benchmarks.comparison import Row, Sides
from benchmarks.errors import relative_error
from benchmarks.hf_groupvit import random_peer
from benchmarks.lseg_inference import normalized, predicted_label_map
from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.converters.groupvit import convert
from openvocab.heads.groupvit import GroupViTHead
from openvocab.model import OpenVocabModel
from openvocab.predictor import Predictor
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.templates import fill_template
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

TEMPLATE = "a photo of a {}."
BACKGROUND_THRESHOLD = 0.95
"""Of the official protocol for VOC."""


def prepare_labels(size: int, device: str = "cpu") -> Sides:
    """Compare `Predictor` with the peer's forward pass, which encodes the names with each image, and the argmax.

    The peer's masks follow a simpler rule (soft groups, no background, no restriction to five classes), so that labels
    are not compared; the error is that of the image embedding, from which both sides derive them.
    """
    torch.manual_seed(0)
    peer_model = random_peer(size, device)
    model = our_model(peer_model.state_dict(), size).to(device)
    predictor = Predictor(model)
    vocabulary = voc_vocabulary()
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels = normalized(model, image).to(device)
    tokens = open_clip.tokenize([fill_template(TEMPLATE, name) for name in vocabulary.class_names]).to(device)

    @torch.inference_mode()
    def peer() -> Tensor:
        outputs = peer_model(input_ids=tokens, pixel_values=pixels, output_segmentation=True)
        return outputs.segmentation_logits.argmax(1)

    def ours() -> np.ndarray:
        return predicted_label_map(predictor, image, vocabulary)

    def error(expected: Tensor, got: np.ndarray) -> float:
        return relative_error(peer_embed(peer_model, pixels)(), our_embed(model, pixels)())

    return Sides(peer, ours, error)


def prepare_image_side(size: int = 224, device: str = "cpu") -> Sides:
    """Compare the unit-norm image embedding, without any text."""
    torch.manual_seed(0)
    peer_model = random_peer(size, device)
    model = our_model(peer_model.state_dict(), size).to(device)
    pixels = torch.randn(1, 3, size, size).to(device)
    return Sides(peer_embed(peer_model, pixels), our_embed(model, pixels), relative_error)


def our_model(peer_state: dict[str, Tensor], size: int) -> OpenVocabModel:
    """Build the official network at `size` from our parts, with the peer's weights."""
    model = OpenVocabModel(
        PatchEmbedding(image_size=size),
        CLIPTextEncoder("GroupViT", projector=(4096, 256), templates=[TEMPLATE]),
        dict(
            type=GroupViTHead,
            multi_label=dict(num_prompts=0),
            scoring=dict(background_threshold=BACKGROUND_THRESHOLD),
        ),
    )
    model.load_state_dict(convert(peer_state), strict=True)
    return model.compute_in(torch.float32)


def voc_vocabulary() -> Vocabulary:
    """Return the 20 classes of VOC and the background."""
    return Vocabulary.from_names(read_class_names(class_names_path("pascal_voc_21")), background="background")


def peer_embed(model: GroupViTModel, pixels: Tensor) -> Callable[[], Tensor]:
    """Return a function that embeds an image with the peer, (1, D) unit norm."""

    @torch.inference_mode()
    def work() -> Tensor:
        return F.normalize(model.get_image_features(pixels).pooler_output, dim=-1)

    return work


def our_embed(model: OpenVocabModel, pixels: Tensor) -> Callable[[], Tensor]:
    """Return a function that embeds an image with our model, (1, D) unit norm."""
    head = model.head
    if not isinstance(head, GroupViTHead):
        raise TypeError(f"expected GroupViT, got a {type(head).__name__}")

    @torch.inference_mode()
    def work() -> Tensor:
        features = model.backbone(pixels, head.layers)
        return head.image_embed(head.group(features))

    return work


_NOTE = "21 names, which ours has in its cache and the peer encodes per image; error of the image embedding"
ROWS = (
    Row(
        "groupvit_224",
        1.0,
        partial(prepare_labels, 224),
        products="float32",
        min_peak_fraction=0.8,
        repeats=15,
        note=_NOTE,
        on_cuda=True,
    ),
    Row(
        "groupvit_448",
        1.0,
        partial(prepare_labels, 448),
        products="float32",
        min_peak_fraction=0.8,
        repeats=9,
        note=_NOTE,
        on_cuda=True,
    ),
    Row(
        "groupvit_image_side",
        1.0,
        partial(prepare_image_side),
        products="float32",
        min_peak_fraction=0.8,
        repeats=15,
        on_cuda=True,
    ),
)
