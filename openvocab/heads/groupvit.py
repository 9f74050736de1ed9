"""GroupViT: segments emerge because a transformer must describe an image by few tokens; only captions supervise it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import argument_group, check_choice, check_flags, check_number
from openvocab.heads.base import Head
from openvocab.heads.group_segmentation import (
    class_affinity,
    group_label_maps,
    group_share_maps,
    score_maps,
    shared_score_maps,
    with_background,
)
from openvocab.heads.group_stages import GroupedTokens, GroupingTransformer, LevelSum, TransformerArguments
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.projector import ProjectMLP
from openvocab.logit_map import ComputedLogits, LogitMap
from openvocab.losses.contrastive import info_nce
from openvocab.losses.multi_label import multi_label_info_nce
from openvocab.postprocess import original_frame, semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, Size, TextFeatures, known
from openvocab.text.text_ids import text_ids

logger = logging.getLogger(__name__)

MAX_SCALE = 100.0
MATCHES = ("image", "segment")


@dataclass(frozen=True)
class MultiLabelArguments:
    """The multi-label contrastive loss between images and noun prompts."""

    num_prompts: int = 3
    """K noun prompts per image, the captions after the first. An image with fewer repeats its first caption, as in the
    official code. 0 turns the loss off."""
    weight: float = 1.0
    """Factor of the loss."""
    match: str = "image"
    """What noun prompts are compared with: the whole `image` (official), or each `segment` (ours: some segment has to
    show what a prompt names; learns from far fewer pairs)."""
    positives_by_text: bool = False
    """Whether a prompt that several images have is a positive of all of them, instead of only the image that it was
    drawn for."""

    def __post_init__(self) -> None:
        check_choice("multi_label.match", self.match, MATCHES)
        check_number("multi_label.num_prompts", self.num_prompts, 0, whole=True)
        check_number("multi_label.weight", self.weight, 0)
        check_flags({"multi_label.positives_by_text": self.positives_by_text})


@dataclass(frozen=True)
class ScoringArguments:
    """How groups are classified at test time."""

    background_threshold: float | None = None
    """In 0..1, for vocabularies that name a background class: groups whose best class scores less are background.
    Default: the background competes as a name like any other."""
    logit_scale: float | None = None
    """Multiplier of the cosines of segments and classes. A smaller one leaves more room for segments that look like no
    class. Default: the scale that was learned from the captions."""
    top_k: int | None = 5
    """Number of classes that an image may show; None for all."""
    output_stride: int = 1
    """Input pixels between two scores. 1 as in the official code; more saves memory for large vocabularies."""

    def __post_init__(self) -> None:
        threshold, scale = self.background_threshold, self.logit_scale
        check_number("scoring.background_threshold", threshold, optional=True)
        check_number("scoring.logit_scale", scale, optional=True)
        check_number("scoring.top_k", self.top_k, 1, whole=True, optional=True)
        check_number("scoring.output_stride", self.output_stride, 1, whole=True)
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"scoring.background_threshold: expected a score in 0..1, got {threshold}")
        if scale is not None and scale <= 0:
            raise ValueError(
                f"scoring.logit_scale: expected a positive number, or None for the learned one, got {scale}"
            )


@HEADS.register_module()
class GroupViTHead(Head):
    """Grouping transformer, projector, contrastive losses, and segmentation by the classes of the groups.

    On `hidden[0]` of `PatchEmbedding` with the defaults it is the official network. On a layer of CLIP, or on several
    maps of a pyramid, it is our own variant on a shared backbone.

    The scores of a pixel are those of its group, or with `soft_scale` of all groups, weighted by its shares. A group's
    scores are a product of two softmaxes over the classes, one of them limited to the classes that fit the whole image
    best; groups below a threshold are background. See `group_segmentation.py`.

    Args:
        backbone, text_dim: description of the backbone and width of the text embeddings, passed by the model.
        layers: which `hidden` maps to read. Several are projected, resized to the grid of the first and added.
        width: C of the transformer; default: that of the map.
        transformer: see `TransformerArguments`.
        projector_dim: hidden width of the projector.
        multi_label: see `MultiLabelArguments`.
        scoring: see `ScoringArguments`.

    Raises:
        ValueError: layers that the backbone does not have, several without `width`, stages that do not fit together, a
            threshold outside 0..1, a negative number.

    Reference: Xu et al., GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094). Written
    from the paper and the layout of its weights.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        layers: Sequence[int] = (0,),
        width: int | None = None,
        transformer: TransformerArguments | Mapping[str, Any] | None = None,
        projector_dim: int = 4096,
        multi_label: MultiLabelArguments | Mapping[str, Any] | None = None,
        scoring: ScoringArguments | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        stages = argument_group("transformer", transformer, TransformerArguments)
        multi_label = argument_group("multi_label", multi_label, MultiLabelArguments)
        scoring = argument_group("scoring", scoring, ScoringArguments)
        self.layers, self.embeddings = tuple(layers), False
        dims = _hidden_dims(backbone, self.layers, width)
        self.inputs = None if width is None else LevelSum(dims, width)
        dim = width or dims[0]
        self.transformer = GroupingTransformer(dim, stages)
        self.is_shared = stages.soft_scale is not None
        self.numbers_per_pixel = [count for count in stages.num_groups if count][-1] if self.is_shared else 1
        self._pixel_groups = group_share_maps if self.is_shared else group_label_maps
        self._score_maps = shared_score_maps if self.is_shared else score_maps
        self.projector = ProjectMLP(dim, projector_dim, text_dim)
        self.num_prompts = multi_label.num_prompts
        self.multi_label_weight = multi_label.weight
        self.match = multi_label.match
        self.positives_by_text = multi_label.positives_by_text
        scale = torch.tensor(1 / 0.07).log()
        self.multi_label_logit_scale = nn.Parameter(scale) if self.num_prompts else None
        self.background_threshold = scoring.background_threshold
        self.logit_scale = scoring.logit_scale
        self.top_k = scoring.top_k
        self.output_stride = scoring.output_stride
        self._warned: set[str] = set()

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return scores (B, K, H / output_stride, W / output_stride) float32, each in 0..1."""
        return self._score_maps(*self._grouping(features, text))

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the scores (K, h, w) of each image part by part; the transformer runs with the first part."""
        # cached: all images and all of their parts share one run of the transformer
        grouping = cache(partial(self._grouping, features, text))
        size, tokens = self._output_size(features), features.hidden[self.layers[0]]
        num_kept = prod(size) * self.numbers_per_pixel

        def compute(index: int, classes: slice, rows: slice, columns: slice) -> Tensor:
            affinity, groups = grouping()
            return self._score_maps(affinity[index, None, :, classes], groups[index, None, ..., rows, columns])[0]

        return [
            ComputedLogits(
                (text.num_classes, *size), tokens.device, partial(compute, index), self.classes_at_once, num_kept
            )
            for index in range(len(tokens))
        ]

    def _grouping(self, features: ImageFeatures, text: TextFeatures) -> tuple[Tensor, Tensor]:
        """Return the scores of each group (B, G, K), and each pixel's group (B, h, w) or shares (B, G, h, w)."""
        grouped = self.decoded(features)
        affinity = self._affinity(grouped, text)  # (B, G, K)
        maps = grouped.soft_maps()[-1].unflatten(2, self._grid_size(features))  # (B, G, h, w)
        return affinity, self._pixel_groups(maps, self._output_size(features))

    def _output_size(self, features: ImageFeatures) -> Size:
        height, width = features.input_size
        return height // self.output_stride, width // self.output_stride

    def decode(self, features: ImageFeatures) -> GroupedTokens:
        """Return the groups, which do not depend on texts."""
        return self.group(features)

    def group(self, features: ImageFeatures) -> GroupedTokens:
        """Group the N patches of the hidden maps into segments (B, S, C), with the assignments [(B, G_i, N_i)]."""
        maps = [features.hidden[layer] for layer in self.layers]
        tokens = maps[0] if self.inputs is None else self.inputs(maps)  # (B, C, h, w)
        return self.transformer(tokens.flatten(2).transpose(1, 2))

    def group_maps(self, features: ImageFeatures) -> list[Tensor]:
        """Return how far each patch belongs to each group, after each grouping block: [(B, G_i, h, w)] float32."""
        grid_size = self._grid_size(features)
        return [maps.unflatten(2, grid_size) for maps in self.group(features).soft_maps()]

    def embed_images(self, features: ImageFeatures) -> Tensor:
        """Return the mean of the segments, projected, (B, D), not normalized."""
        return self.projector(self.group(features).tokens.mean(dim=1))

    def image_embed(self, grouped: GroupedTokens) -> Tensor:
        """Return (B, D) float32 unit norm: the mean of the segments, projected."""
        return self._project(grouped.tokens.mean(dim=1))

    def segment_embed(self, grouped: GroupedTokens) -> Tensor:
        """Return (B, G, D) float32 unit norm: each segment, projected."""
        return self._project(grouped.tokens)

    def training_texts(self, samples: Sequence[Sample]) -> list[str]:
        """Return the captions of all samples, then the K noun prompts of the first, of the second, and so on.

        Raises:
            ValueError: a sample without a caption.
        """
        for sample in samples:
            if not sample.captions:
                raise ValueError(f"sample {sample.sample_id!r} has no caption; GroupViT learns from image-text pairs")
        if self.num_prompts and all(len(sample.captions) == 1 for sample in samples):
            self._warn_once(
                f"no sample carries noun prompts: the multi-label loss repeats the caption {self.num_prompts} times; "
                "add AddNounPrompts to the pipeline, or set multi_label.num_prompts=0"
            )
        prompts = [prompt for sample in samples for prompt in self._prompts(sample)]
        return [sample.captions[0] for sample in samples] + prompts

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the losses of images with captions and with noun prompts.

        They are {"loss_contrastive": (), "loss_multi_label": ()}, the second one unless `num_prompts` is 0. Both
        compare the pairs of all ranks.
        """
        grouped = self.group(features)
        image_embed = self.image_embed(grouped)
        captions, prompts = text.embed[: len(samples)], text.embed[len(samples) :]  # (B, D), (B * K, D)
        # a scale above 100 makes training unstable (CLIP, arXiv 2103.00020, section 2.5)
        losses = {"loss_contrastive": info_nce(image_embed, captions, text.logit_scale.clamp(max=MAX_SCALE))}
        if self.num_prompts:
            embed = image_embed if self.match == "image" else self.segment_embed(grouped)
            losses["loss_multi_label"] = self.multi_label_weight * self._prompt_loss(embed, prompts, samples)
        return losses

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map (H, W) for each image, of its `original_size`."""
        return semantic_predictions(outputs, samples, rows_at_once=self.rows_at_once)

    def predictions_with_scores(
        self, outputs: Any, samples: Sequence[Sample], *pixels: Any
    ) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
        """Return each prediction with the scores (K, H, W) of `forward`, see `Head.predictions_with_scores`."""
        return zip(self.postprocess(outputs, samples), original_frame(outputs, samples), strict=True)

    def pack_linears(self) -> None:
        """See `Head.pack_linears`."""
        pack_linears(self.transformer)

    def _affinity(self, grouped: GroupedTokens, text: TextFeatures) -> Tensor:
        """Return (B, G, K) scores of the classes for each group."""
        groups, images = text.similarity(self.segment_embed(grouped)), text.similarity(self.image_embed(grouped))
        scale = text.logit_scale.clamp(max=MAX_SCALE) if self.logit_scale is None else self.logit_scale
        groups = scale * groups
        index = None if self.background_threshold is None else self._background(text)
        if index is None:
            return class_affinity(groups, images, self.top_k)
        # the background wins by the threshold, not by its text, which must not take part in a softmax
        foreground = [i for i in range(groups.shape[-1]) if i != index]
        affinity = class_affinity(groups[..., foreground], images[..., foreground], self.top_k)
        threshold = known(self.background_threshold, "background_threshold of GroupViTHead")
        return with_background(affinity, index, threshold, self.is_shared)

    def _background(self, text: TextFeatures) -> int | None:
        """Return the index of the background class; None, with a warning, if the vocabulary names none."""
        if text.background is None:
            self._warn_once(
                f"background_threshold={self.background_threshold} has no effect: the vocabulary names no background "
                "class, so every pixel gets one of its classes; Vocabulary.from_names(background=...) names one, or "
                "--background of `openvocab predict`"
            )
        elif text.num_classes == 1:
            raise ValueError("a vocabulary of the background alone leaves GroupViT nothing to find; add class names")
        return text.background

    def _project(self, tokens: Tensor) -> Tensor:
        """Map tokens (..., C) to the joint space, (..., D) float32 unit norm."""
        embed = self.projector(tokens)
        with torch.autocast(embed.device.type, enabled=False):
            # float32: near 1, bfloat16 would round a cosine to 1/256
            return F.normalize(embed.float(), dim=-1)

    def _prompt_loss(self, embed: Tensor, prompts: Tensor, samples: Sequence[Sample]) -> Tensor:
        """Return the multi-label loss () of embed (B, D) or (B, G, D) and prompts (B * K, D)."""
        shape = (len(samples), self.num_prompts)
        log_scale = known(self.multi_label_logit_scale, "multi_label_logit_scale of GroupViTHead")
        scale = log_scale.exp().clamp(max=MAX_SCALE)
        names = [name for sample in samples for name in self._prompts(sample)]
        ids = text_ids(names, embed.device).view(shape) if self.positives_by_text else None
        return multi_label_info_nce(embed, prompts.unflatten(0, shape), scale, text_ids=ids)

    def _prompts(self, sample: Sample) -> list[str]:
        """Return the K noun prompts of a sample, filled up with its first caption."""
        prompts = sample.captions[1 : 1 + self.num_prompts]
        return [*prompts, *[sample.captions[0]] * (self.num_prompts - len(prompts))]

    def _grid_size(self, features: ImageFeatures) -> Size:
        height, width = features.hidden[self.layers[0]].shape[-2:]
        return height, width

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message)


def _hidden_dims(backbone: BackboneSpec, layers: Sequence[int], width: int | None) -> list[int]:
    """Return the channels of each layer, or raise `ValueError` for layers that cannot be read together."""
    count = len(backbone.hidden_dims)
    if not layers or any(not 0 <= layer < count for layer in layers):
        raise ValueError(f"layers: expected indices from 0 to {count - 1} of this backbone, got {list(layers)}")
    if width is None and len(layers) > 1:
        raise ValueError(f"several layers {list(layers)} need a width to which they are projected")
    return [backbone.hidden_dims[layer] for layer in layers]
