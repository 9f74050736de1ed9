"""GroupViT: segments emerge where a transformer must describe an image by few tokens; only captions teach it."""

import logging
from collections.abc import Sequence
from functools import cache, partial
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.heads.base import Head
from openvocab.heads.group_segmentation import (
    class_affinity,
    group_label_maps,
    group_share_maps,
    score_maps,
    shared_score_maps,
    with_background,
)
from openvocab.heads.group_stages import GroupedTokens, GroupingTransformer, LevelSum
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.projector import ProjectMLP
from openvocab.logit_map import ComputedLogits, LogitMap
from openvocab.losses.contrastive import info_nce
from openvocab.losses.multi_label import multi_label_info_nce
from openvocab.postprocess import semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, Size, TextFeatures
from openvocab.text.text_ids import text_ids

logger = logging.getLogger(__name__)

MAX_SCALE = 100.0
MATCHES = ("image", "segment")


@HEADS.register_module()
class GroupViTHead(Head):
    """Grouping transformer, projector, contrastive losses, and segmentation by the classes of the groups.

    On `hidden[0]` of `PatchEmbedding` with the defaults it is the official network. On a layer of CLIP, or on several
    maps of a pyramid, it is our own variant on a shared backbone.

    Scores of a pixel are those of its group (with `soft_scale`, of all groups, by its shares): a product of two
    softmaxes over the classes, one of them limited to the classes that fit the whole image best; what stays below a
    threshold is background. See `group_segmentation.py`.

    Args:
        backbone, text_dim: facts of the neighbors, given by the model.
        layers: which `hidden` maps to read. Several are projected, brought to the grid of the first and added.
        width: C of the transformer; None takes the map as it is.
        depths: blocks of each stage.
        num_groups: group tokens of each stage, 0 for stages that do not group.
        num_heads, mlp_ratio, drop_path: of the blocks; see `GroupingTransformer`.
        projector_dim: hidden width of the projector.
        num_prompts: K noun prompts of each image, the captions after the first, in the multi-label loss; an image with
            fewer is filled up with its first caption, as in the official code. 0 leaves the loss out.
        multi_label_weight: of that loss.
        match: what noun prompts are compared with: the whole `image` (official), or each `segment` (ours: asks that
            some segment shows what a prompt names; it learns from far fewer pairs).
        positives_by_text: a prompt that several images have is right for all of them, instead of for the image alone
            that it was drawn for.
        soft_scale: None assigns each token to one group (official); a number shares it among the groups by a softmax of
            cosines times this, and the scores of the groups among the pixels (ours: learns from far fewer pairs; on
            most pixels of small objects the largest share is the background's, though their own group has one too).
        background_threshold: in 0..1, for vocabularies that name a background class: groups whose best class scores
            less are background. None lets the background compete as a name like any other.
        logit_scale: multiplier of the cosines of segments and classes in the scores; None takes the one that the
            captions taught. A smaller one leaves more room for segments that look like no class.
        top_k: classes that an image may show; None for all.
        output_stride: input pixels between two scores. 1 as in the official code; more saves memory where the
            vocabulary is large.

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
        depths: Sequence[int] = (6, 3, 3),
        num_groups: Sequence[int] = (64, 8, 0),
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.1,
        projector_dim: int = 4096,
        num_prompts: int = 3,
        multi_label_weight: float = 1.0,
        match: str = "image",
        positives_by_text: bool = False,
        soft_scale: float | None = None,
        background_threshold: float | None = None,
        logit_scale: float | None = None,
        top_k: int | None = 5,
        output_stride: int = 1,
    ) -> None:
        super().__init__()
        _check_protocol(background_threshold, logit_scale, top_k, num_prompts, output_stride)
        check_choice("match", match, MATCHES)
        self.layers, self.embeddings = tuple(layers), False
        dims = _hidden_dims(backbone, self.layers, width)
        self.inputs = None if width is None else LevelSum(dims, width)
        dim = width or dims[0]
        self.transformer = GroupingTransformer(dim, depths, num_groups, num_heads, mlp_ratio, drop_path, soft_scale)
        self.is_shared = soft_scale is not None
        self.numbers_per_pixel = [count for count in num_groups if count][-1] if self.is_shared else 1
        self._pixel_groups = group_share_maps if self.is_shared else group_label_maps
        self._score_maps = shared_score_maps if self.is_shared else score_maps
        self.projector = ProjectMLP(dim, projector_dim, text_dim)
        self.num_prompts = num_prompts
        self.multi_label_weight = multi_label_weight
        self.match = match
        self.positives_by_text = positives_by_text
        scale = torch.tensor(1 / 0.07).log()
        self.multi_label_logit_scale = nn.Parameter(scale) if num_prompts else None
        self.background_threshold = background_threshold
        self.logit_scale = logit_scale
        self.top_k = top_k
        self.output_stride = output_stride
        self._warned: set[str] = set()

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return scores (B, K, H / output_stride, W / output_stride) float32, each in 0..1."""
        return self._score_maps(*self._grouping(features, text))

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap]:
        """Return the scores of each image part by part; the images are grouped at the first look at one."""
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
        grouped = self.group(features)
        affinity = self._affinity(grouped, text)  # (B, G, K)
        maps = grouped.soft_maps()[-1].unflatten(2, self._grid_size(features))  # (B, G, h, w)
        return affinity, self._pixel_groups(maps, self._output_size(features))

    def _output_size(self, features: ImageFeatures) -> Size:
        return tuple(length // self.output_stride for length in features.input_size)

    def group(self, features: ImageFeatures) -> GroupedTokens:
        """Run the grouping transformer."""
        maps = [features.hidden[layer] for layer in self.layers]
        tokens = maps[0] if self.inputs is None else self.inputs(maps)  # (B, C, h, w)
        return self.transformer(tokens.flatten(2).transpose(1, 2))

    def group_maps(self, features: ImageFeatures) -> list[Tensor]:
        """Return how far each place belongs to each group, after each grouping block: [(B, G_i, h, w)] float32."""
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
                "add AddNounPrompts to the pipeline, or set num_prompts=0"
            )
        prompts = [prompt for sample in samples for prompt in self._prompts(sample)]
        return [sample.captions[0] for sample in samples] + prompts

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return `loss_contrastive` (image and caption) and `loss_multi_label` (image and noun prompts), over ranks."""
        grouped = self.group(features)
        image_embed = self.image_embed(grouped)
        captions, prompts = text.embed[: len(samples)], text.embed[len(samples) :]
        losses = {"loss_contrastive": info_nce(image_embed, captions, text.logit_scale.clamp(max=MAX_SCALE))}
        if self.num_prompts:
            embed = image_embed if self.match == "image" else self.segment_embed(grouped)
            losses["loss_multi_label"] = self.multi_label_weight * self._prompt_loss(embed, prompts, samples)
        return losses

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Return a label map for each image, in its original frame."""
        return semantic_predictions(outputs, samples, rows_at_once=self.rows_at_once)

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
        named = [i for i in range(groups.shape[-1]) if i != index]
        affinity = class_affinity(groups[..., named], images[..., named], self.top_k)
        return with_background(affinity, index, self.background_threshold, self.is_shared)

    def _background(self, text: TextFeatures) -> int | None:
        if text.background is None:
            self._warn_once(
                f"background_threshold={self.background_threshold} has no effect: the vocabulary names no background "
                "class, so every pixel gets one of its classes; Vocabulary.from_names(background=...) names one, or "
                "--background of tools/demo.py"
            )
        elif text.num_classes == 1:
            raise ValueError("a vocabulary of the background alone leaves GroupViT nothing to find; add class names")
        return text.background

    def _project(self, tokens: Tensor) -> Tensor:
        embed = self.projector(tokens)
        with torch.autocast(embed.device.type, enabled=False):
            return F.normalize(embed.float(), dim=-1)

    def _prompt_loss(self, embed: Tensor, prompts: Tensor, samples: Sequence[Sample]) -> Tensor:
        shape = (len(samples), self.num_prompts)
        scale = self.multi_label_logit_scale.exp().clamp(max=MAX_SCALE)
        names = [name for sample in samples for name in self._prompts(sample)]
        ids = text_ids(names, embed.device).view(shape) if self.positives_by_text else None
        return multi_label_info_nce(embed, prompts.unflatten(0, shape), scale, text_ids=ids)

    def _prompts(self, sample: Sample) -> list[str]:
        prompts = sample.captions[1 : 1 + self.num_prompts]
        return [*prompts, *[sample.captions[0]] * (self.num_prompts - len(prompts))]

    def _grid_size(self, features: ImageFeatures) -> Size:
        return tuple(features.hidden[self.layers[0]].shape[-2:])

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            logger.warning(message)


def _hidden_dims(backbone: BackboneSpec, layers: Sequence[int], width: int | None) -> list[int]:
    count = len(backbone.hidden_dims)
    if not layers or any(not 0 <= layer < count for layer in layers):
        raise ValueError(f"layers: expected indices from 0 to {count - 1} of this backbone, got {list(layers)}")
    if width is None and len(layers) > 1:
        raise ValueError(f"several layers {list(layers)} need a width that they are projected to")
    return [backbone.hidden_dims[layer] for layer in layers]


def _check_protocol(
    threshold: float | None, logit_scale: float | None, top_k: int | None, num_prompts: int, output_stride: int
) -> None:
    if threshold is not None and not 0 <= threshold <= 1:
        raise ValueError(f"background_threshold: expected a score in 0..1, got {threshold}")
    if logit_scale is not None and logit_scale <= 0:
        raise ValueError(f"logit_scale: expected a positive number, or None for the learned one, got {logit_scale}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected at least 1, or None for all classes, got {top_k}")
    if num_prompts < 0:
        raise ValueError(f"num_prompts: expected 0 or more, got {num_prompts}")
    if output_stride < 1:
        raise ValueError(f"output_stride: expected at least 1, got {output_stride}")
