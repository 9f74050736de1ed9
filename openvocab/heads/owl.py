"""OWL-ViT's head, version 2: every patch of an image-text transformer is a candidate object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import argument_group
from openvocab.detection.region_outputs import original_boxes
from openvocab.detection.scored_boxes import DetectionChoice, choose_detections
from openvocab.heads.base import Head
from openvocab.layers.packed_linear import pack_linears
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Sample, Size, TextFeatures

NORM_FLOOR = 1e-6
"""Added to the norm of a class embedding, as in the official code."""
POSITION_FLOOR = 1e-4
"""Added before the logarithms of the box bias, as in the official code."""


@dataclass
class OWLCandidates:
    """What the head knows of the N = h * w patches of each image before it meets the names."""

    boxes: Tensor
    """(B, N, 4) float32 x1 y1 x2 y2 in pixels of the network's input; they may reach outside it."""
    embed: Tensor
    """(B, N, D) float32, unit norm, in the space of the texts."""
    shift: Tensor
    """(B, N, 1) float32, added to the cosines."""
    scale: Tensor
    """(B, N, 1) float32, positive, multiplied with the sum."""


@dataclass
class OWLOutputs:
    """The candidates of a batch, with a logit for each class."""

    boxes: Tensor
    """(B, N, 4) float32, as in `OWLCandidates`."""
    logits: Tensor
    """(B, K, N) float32, before a sigmoid for each class."""


@HEADS.register_module()
class OWLHead(Head):
    """OWLv2's detector: a box, a class embedding and an objectness for every token of a vision transformer.

    The score of a class is the sigmoid of (cosine + shift) * scale, where each token predicts its own shift and scale.
    Names are scored independently of each other, so that one pass over the image serves any number of them. The
    network expects square images, padded with black at the right and the bottom (`SquareImage`).

    The head predicts; it cannot be trained here. Official training needs a set loss with bipartite matching on
    Objects365 and Visual Genome, and self-training on a billion web images.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model. The
            backbone is a vision transformer with a class token.
        detections: arguments of `DetectionChoice`; by default, as transformers does, each box gets its best class, and
            none is suppressed.

    Raises:
        TypeError, ValueError: an unknown argument in `detections`, or a value out of its range.

    Reference: Minderer et al., Scaling Open-Vocabulary Object Detection (arXiv 2306.09683); the head is that of Simple
    Open-Vocabulary Object Detection with Vision Transformers (arXiv 2205.06230) with an objectness.
    """

    embeddings = False

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        detections: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.last = len(backbone.hidden_dims) - 1
        self.layers = (self.last,)
        width = backbone.hidden_dims[self.last]
        # the norm after the tower: the tower's own copy of it is applied to the class token only
        self.token_norm, self.merged_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.class_embed = nn.Linear(width, text_dim)
        self.logit_shift, self.logit_scale = nn.Linear(width, 1), nn.Linear(width, 1)
        self.box_mlp, self.objectness_mlp = _mlp(width, 4), _mlp(width, 1)
        self.choice = argument_group("detections", detections, DetectionChoice)

    def forward(self, features: ImageFeatures, text: TextFeatures) -> OWLOutputs:
        """Return a box and the logits of all classes for every patch."""
        candidates = self.decoded(features)
        # a positive factor and a shift of all rows alike, so that the best synonym may be chosen before them
        logits = (text.similarity(candidates.embed) + candidates.shift) * candidates.scale  # (B, N, K)
        return OWLOutputs(candidates.boxes, logits.transpose(1, 2))

    def decode(self, features: ImageFeatures) -> OWLCandidates:
        """Return the candidates, which any number of vocabularies can then be compared with."""
        tokens = self._tokens(features)
        embed = self.class_embed(tokens).float()  # (B, N, D)
        return OWLCandidates(
            boxes=self._boxes(tokens, features),
            embed=embed / (embed.norm(dim=-1, keepdim=True) + NORM_FLOOR),
            shift=self.logit_shift(tokens).float(),
            scale=F.elu(self.logit_scale(tokens).float()) + 1,
        )

    def proposals(self, features: ImageFeatures) -> tuple[list[Tensor], list[Tensor]]:
        """Return the box of every patch [(N, 4)] in the input frame, and its objectness [(N,)] in 0..1."""
        tokens = self._tokens(features)
        objectness = self.objectness_mlp(tokens)[..., 0].float().sigmoid()  # (B, N)
        return list(self._boxes(tokens, features)), list(objectness)

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Raise `ValueError`: this head is not trained here."""
        raise ValueError(
            "OWLHead only predicts, with converted weights: run tools/test.py, or train another head (ViLDHead)"
        )

    def postprocess(self, outputs: OWLOutputs, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in its original frame.

        Returns:
            For each image boxes (M, 4) x1 y1 x2 y2, scores (M,) in 0..1 and classes (M,) int64; see
            `choose_detections`.
        """
        return [
            choose_detections(original_boxes(boxes, sample), logits.T.sigmoid(), sample, self.choice)
            for boxes, logits, sample in zip(outputs.boxes, outputs.logits, samples, strict=True)
        ]

    def pack_linears(self) -> None:
        """See `Head.pack_linears`."""
        pack_linears(self)

    def _tokens(self, features: ImageFeatures) -> Tensor:
        """Return the patches, each multiplied by the class token, (B, N, C)."""
        patches = features.hidden[self.last].flatten(2).transpose(1, 2)  # (B, N, C)
        if self.last not in features.prefix:
            raise ValueError("OWLHead needs a backbone with a class token, such as CLIP's ViT-B-16")
        class_token = self.token_norm(features.prefix[self.last][:, :1])  # (B, 1, C)
        return self.merged_norm(self.token_norm(patches) * class_token)

    def _boxes(self, tokens: Tensor, features: ImageFeatures) -> Tensor:
        """Return the boxes (B, N, 4) float32, in pixels of the input, of tokens (B, N, C)."""
        height, width = features.input_size
        grid_height, grid_width = features.hidden[self.last].shape[-2:]
        # float32 before the bias: bfloat16 would round a box by several pixels
        offsets = self.box_mlp(tokens).float()
        cxcywh = (offsets + box_bias((grid_height, grid_width)).to(offsets)).sigmoid()  # relative to the input
        center, size = cxcywh.split(2, dim=-1)
        corners = torch.cat([center - size / 2, center + size / 2], dim=-1)  # (B, N, 4)
        return corners * corners.new_tensor([width, height] * 2)


def box_bias(grid_size: Size) -> Tensor:
    """Return what is added to the predicted box of each patch before the sigmoid.

    Without an offset, a box has the size of a patch and its center at the patch's lower right corner.

    Args:
        grid_size: (h, w).

    Returns:
        (h * w, 4) float32, the logits of center x, center y, width and height relative to the image, row by row.
    """
    height, width = grid_size
    y, x = torch.meshgrid(torch.arange(1, height + 1) / height, torch.arange(1, width + 1) / width, indexing="ij")
    sizes = torch.full_like(x, 1 / width), torch.full_like(y, 1 / height)
    boxes = torch.stack([x, y, *sizes], dim=-1).flatten(0, 1)  # (h * w, 4)
    return torch.log(boxes + POSITION_FLOOR) - torch.log1p(-boxes + POSITION_FLOOR)


def _mlp(width: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, out_dim)
    )
