"""GLIP: detection as grounding, where image and text read each other before they are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import argument_group, check_choice, check_number, construct_group
from openvocab.detection.feature_pyramid import FeaturePyramid
from openvocab.detection.location_anchors import location_anchors
from openvocab.detection.location_candidates import (
    CandidateChoice,
    LocationCandidates,
    choose_candidates,
    find_candidates,
)
from openvocab.detection.scored_boxes import merge_detections
from openvocab.heads.base import Head
from openvocab.heads.glip_tower import GLIPTower, as_locations
from openvocab.heads.location_losses import LocationOutputs, location_losses
from openvocab.heads.token_alignment import TokenAlignment
from openvocab.layers.packed_linear import pack_linears
from openvocab.registry import HEADS
from openvocab.structures import (
    BackboneSpec,
    DetectionPrediction,
    ImageFeatures,
    Sample,
    TextFeatures,
    TextTokens,
    known,
    size_of,
)
from openvocab.vocabulary.vocabulary_prompts import PromptForm

TrainedParts = Literal["all", "prompt", "linear"]
LONGEST_PROMPT = 1000
"""Rows of the learned offset of tokens, as in the official code."""
LINEAR_PARTS = ("alignment", "box_offsets", "centerness")
"""What a linear probe trains."""


@dataclass
class GLIPOutputs:
    """What is found in each of B images for each of Q prompts."""

    candidates: list[list[LocationCandidates]]
    """[image][prompt]."""
    num_classes: int
    """K of the vocabulary."""

    @property
    def logits(self) -> Tensor:
        """(B, K) float32, of the best candidate of each class in each image; -inf for a class without one."""
        best = self.candidates[0][0].scores.new_zeros(len(self.candidates), self.num_classes)
        for row, of_image in zip(best, self.candidates):
            for found in of_image:
                row.scatter_reduce_(0, found.classes, found.scores, "amax")
        return best.logit()


@HEADS.register_module()
class GLIPHead(Head):
    """A one-stage detector whose locations are aligned with the tokens of a text.

    A feature pyramid and the tokens pass through a tower in which they read each other (`GLIPTower`). Each location
    then predicts a box, a centerness, and a logit for every token; the score of a phrase is the mean over its tokens.

    The scores of a name depend on the other names of its prompt, with which the text encoder and the tower read it. A
    vocabulary that does not fit one prompt is divided in its order, and detections of several prompts do not suppress
    each other, as in the official evaluation on LVIS. Backbone and pyramid run once for all prompts; so does the tower
    without fusion, GLIP-T (A).

    Args:
        backbone, text_dim: description of the backbone and width of the tokens, passed by the model.
        pyramid: arguments of `FeaturePyramid`.
        tower: arguments of `GLIPTower`, without its widths.
        detections: arguments of `CandidateChoice`. Official: 100 detections per prompt for COCO, 300 for LVIS.
        names_at_once: largest number of names in a prompt; default: as many as the text encoder reads. Official: 40 for
            LVIS.
        prompt_form: how the names of a vocabulary are joined, see `vocabulary_prompts`.
        anchor_scale: size of the anchors in units of the stride.
        box_weight: weight of the box loss.
        trained_parts: `all`; `prompt`, only an offset that is added to each token; or `linear`, only the last layers.
            The last two need a frozen backbone and text encoder (`trainable="none"` of both).

    Raises:
        TypeError: an unknown argument in a group.
        ValueError: an unknown choice, or a value out of its range.

    Reference: Li et al., Grounded Language-Image Pre-training (arXiv 2112.03857). The official detector is GLIP with
    `SwinBackbone` and `BERTTextEncoder`; with the tokens of a CLIP text tower it is ours.
    """

    embeddings = False
    reads_phrases = True

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        pyramid: Mapping[str, Any],
        tower: Mapping[str, Any] | None = None,
        detections: Mapping[str, Any] | None = None,
        names_at_once: int | None = None,
        prompt_form: PromptForm = "evaluation",
        anchor_scale: float = 8.0,
        box_weight: float = 2.0,
        trained_parts: TrainedParts = "all",
    ) -> None:
        super().__init__()
        check_number("names_at_once", names_at_once, 1, whole=True, optional=True)
        check_choice("prompt_form", prompt_form, get_args(PromptForm))
        check_number("anchor_scale", anchor_scale, 1)
        check_number("box_weight", box_weight)
        check_choice("trained_parts", trained_parts, get_args(TrainedParts))
        self.names_at_once, self.prompt_form = names_at_once, prompt_form
        self.anchor_scale, self.box_weight = anchor_scale, box_weight
        self.pyramid = construct_group("pyramid", pyramid, FeaturePyramid, backbone=backbone)
        self.layers, self.strides = self.pyramid.layers, [round(stride) for stride in self.pyramid.strides]
        dim = self.pyramid.dim
        self.tower = construct_group("tower", tower or {}, GLIPTower, dim=dim, text_dim=text_dim)
        self.choice = argument_group("detections", detections, CandidateChoice)
        self.alignment = TokenAlignment(dim, text_dim)
        self.box_offsets, self.centerness = nn.Conv2d(dim, 4, 1), nn.Conv2d(dim, 1, 1)
        self.level_scales = nn.ParameterList(torch.ones(1) for _ in self.strides)
        for part in (self.box_offsets, self.centerness):
            nn.init.normal_(part.weight, std=0.01)
            part.bias = nn.Parameter(torch.zeros(part.out_channels))
        self.token_offset = nn.Parameter(torch.zeros(LONGEST_PROMPT, text_dim)) if trained_parts == "prompt" else None
        self._freeze_others(trained_parts)

    def forward(self, features: ImageFeatures, text: TextFeatures) -> GLIPOutputs:
        """Compare every location of every image with every prompt, and keep the best pairs."""
        levels = self.decoded(features)
        tokens = known(text.tokens, "tokens of the texts")
        of_prompts = [self._find(levels, tokens, prompt) for prompt in range(len(tokens.ids))]
        return GLIPOutputs([list(of_image) for of_image in zip(*of_prompts)], text.num_classes)

    def decode(self, features: ImageFeatures) -> list[Tensor]:
        """Return the levels (B, C, h_i, w_i) that all prompts share: those of the pyramid, or, without fusion, of the
        tower.
        """
        levels = self.pyramid(features)
        return levels if self.tower.fused else self.tower(levels, *_no_text(levels))[0]

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the losses of each image and its own prompt: `loss_token`, `loss_box` and `loss_centerness`.

        Raises:
            ValueError: a sample without labeled objects, or with an object that no phrase of its prompt names.
        """
        tokens = known(text.tokens, "tokens of the texts")
        outputs = self.locations(self.decoded(features), tokens.embed, tokens.is_token)
        phrases, owners = known(tokens.phrases, "phrases of the texts"), known(tokens.owners, "owners of the phrases")
        return location_losses(outputs, samples, phrases, owners, tokens.is_token, self.box_weight)

    def postprocess(self, outputs: GLIPOutputs, samples: Sequence[Sample]) -> list[DetectionPrediction]:
        """Return the detections of each image, best first, in its original frame.

        Returns:
            For each image boxes (M, 4) x1 y1 x2 y2, scores (M,) in 0..1 and classes (M,) int64: up to `max_detections`
            of each prompt.
        """
        return [
            merge_detections(
                [choose_candidates(of_prompt, sample, self.choice) for of_prompt in of_prompts],
                len(of_prompts) * self.choice.max_detections,
            )
            for of_prompts, sample in zip(outputs.candidates, samples, strict=True)
        ]

    def locations(self, levels: Sequence[Tensor], embed: Tensor, is_token: Tensor) -> LocationOutputs:
        """Return the raw outputs of all locations.

        Args:
            levels: (B, C, h_i, w_i) of `decode`.
            embed: (B, T, D), the tokens of the text of each image.
            is_token: (B, T) bool, False for padding.
        """
        embed = embed.to(levels[0].dtype)
        if self.token_offset is not None:
            embed = embed + self.token_offset[: embed.shape[1]]
        if self.tower.fused:
            levels, embed = self.tower(levels, embed, is_token)
        rows = as_locations(levels)  # (B, N, C)
        offsets = [
            _float32_conv(level, self.box_offsets) * scale.float() for level, scale in zip(levels, self.level_scales)
        ]
        sizes = [size_of(level) for level in levels]
        return LocationOutputs(
            token_logits=self.alignment(rows, embed),
            offsets=torch.cat(offsets, dim=1),
            centerness=torch.cat([_float32_conv(level, self.centerness) for level in levels], dim=1)[..., 0],
            anchors=location_anchors(
                sizes, self.strides, [self.anchor_scale * stride for stride in self.strides], rows.device
            ),
            counts=[height * width for height, width in sizes],
        )

    def train(self, mode: bool = True) -> "GLIPHead":
        """Switch mode; a head that trains the prompt alone stays in eval mode, without dropout, as officially."""
        return super().train(mode and self.token_offset is None)

    def pack_linears(self) -> None:
        """See `Head.pack_linears`."""
        pack_linears(self.tower)

    def _find(self, levels: Sequence[Tensor], tokens: TextTokens, prompt: int) -> list[LocationCandidates]:
        """Return the candidates of each image for one prompt."""
        # the longest prompt sets the padding of all others, which none of them needs
        length = int(tokens.is_token[prompt].sum())
        count = len(levels[0])
        embed = tokens.embed[prompt, :length].expand(count, -1, -1)  # (B, T, D)
        outputs = self.locations(levels, embed, tokens.is_token[prompt, :length].expand(count, -1))
        phrases = known(tokens.phrases, "phrases of the texts")[prompt][:, :length]
        owners = known(tokens.owners, "owners of the phrases")[prompt]
        return [
            find_candidates(*of_image, outputs.anchors, outputs.counts, phrases, owners, self.choice)
            for of_image in zip(outputs.token_logits, outputs.offsets, outputs.centerness)
        ]

    def _freeze_others(self, trained_parts: TrainedParts) -> None:
        """Let only the given parts learn."""
        if trained_parts == "all":
            return
        kept = ("token_offset",) if trained_parts == "prompt" else LINEAR_PARTS
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith(kept))


def _no_text(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return a text of no tokens, (B, 0, 1), for a tower that does not read it."""
    return levels[0].new_zeros(len(levels[0]), 0, 1), levels[0].new_zeros(len(levels[0]), 0, dtype=torch.bool)


def _float32_conv(level: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return the outputs (B, h * w, c) float32 of a 1x1 convolution: bfloat16 would move a large box by pixels."""
    with torch.autocast(level.device.type, enabled=False):
        bias = None if conv.bias is None else conv.bias.float()
        return F.conv2d(level.float(), conv.weight.float(), bias).flatten(2).transpose(1, 2)
