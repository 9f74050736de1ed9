"""LSeg: every pixel is embedded in the space of the texts and takes the class of the nearest one."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import argument_group, check_choice, check_number, check_numbers
from openvocab.heads.base import Head, shared_vocabulary
from openvocab.heads.dpt import CLASS_TOKEN_READOUTS, DPTDecoder, Reassemble, is_factor
from openvocab.heads.joined_vocabulary import joined_vocabulary, positions_in_joined
from openvocab.heads.lseg_logits import LSegLogits, PixelEmbeddings
from openvocab.heads.spatial_block import SpatialBlock, check_spatial_block
from openvocab.logit_map import LogitMap, change_pixelwise
from openvocab.losses.pixel import check_labels, pixel_cross_entropy, sampled_cross_entropy, upsampled_cross_entropy
from openvocab.ops.upsampled_cosine import upsample, upsampled_cosine
from openvocab.postprocess import predictions_with_softmax
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures, known
from openvocab.vocabulary.vocabulary import Vocabulary

LOSS_SIZES = ("full", "sampled", "head")


@dataclass(frozen=True)
class DecoderArguments:
    """The dense prediction transformer (DPT) that turns hidden maps into one fine map."""

    factors: Sequence[float] | None = (4, 2, 1, 0.5)
    """Resolution of each level relative to the token grid, fine to coarse: `(4, 2, 1, 0.5)` for patch 16,
    `(8, 4, 2, 1)` for patch 32. None for a pyramid (ResNet), whose maps go straight into the decoder."""
    dims: Sequence[int] = (256, 512, 1024, 1024)
    """Channels of each reassembled level; unused with a pyramid."""
    features: int = 256
    """Width of the decoder."""
    readout: str = "project"
    """`project` mixes the class token into every patch, `ignore` drops it."""

    def __post_init__(self) -> None:
        check_number("decoder.features", self.features, 1, whole=True)
        check_choice("decoder.readout", self.readout, CLASS_TOKEN_READOUTS)
        if self.factors is None:
            return
        check_numbers("decoder.factors", self.factors)
        check_numbers("decoder.dims", self.dims, 1, whole=True)
        if not all(map(is_factor, self.factors)):
            raise ValueError(f"decoder.factors: expected whole numbers of at least 1, or 0.5, got {self.factors}")
        if len(self.factors) != len(self.dims):
            raise ValueError(
                f"decoder.factors and decoder.dims must have one entry per level, got {len(self.factors)} and "
                f"{len(self.dims)}"
            )


@dataclass(frozen=True)
class SpatialBlockArguments:
    """The optional regularization of the class maps, see `SpatialBlock`."""

    kind: str | None = None
    """`bottleneck` or `depthwise`; None for no block."""
    depth: int = 1
    """How often the block is applied."""
    activation: str = "lrelu"
    """Between two applications: `lrelu`, `tanh` or `relu`."""

    def __post_init__(self) -> None:
        check_spatial_block(self.kind, self.depth, self.activation)


@HEADS.register_module()
class LSegHead(Head):
    """DPT decoder, a 1x1 projection to the joint space, and the cosine of every pixel with every text.

    Args:
        backbone: description of the backbone, passed by the model; its `hidden_dims` are used.
        text_dim: D of the text embeddings, given by the model.
        layers: which `hidden` maps to read, shallow to deep.
        decoder: see `DecoderArguments`.
        spatial_block: see `SpatialBlockArguments`; default: no block.
        logit_scale: multiplier of the cosine; the official constant is 1 / 0.07.
        learn_scale: train the scale. The official code intends this, but its scale is never a parameter.
        half_product: compute the product of pixels and texts in float16, for parity with the official code.
        loss_size: where logits and labels are compared. `full` upsamples the logits to the label map (official). Our
            two alternatives cost less: `sampled` upsamples to as many pixels as there are logits, drawn anew at each
            step; `head` takes the label nearest to each logit.
        seen_penalty: subtracted from the logits of seen classes at test time if the vocabulary marks them, because a
            head trained on few classes hardly ever predicts another (calibrated stacking, arXiv 1605.04253).
            Official: 0.

    Raises:
        ValueError: `layers`, `decoder.factors` and `decoder.dims` differ in length, the backbone does not have one of
            the layers, or a choice is unknown.

    Reference: Li et al., Language-driven Semantic Segmentation (arXiv 2201.03546).
    """

    fixed_scale: Tensor

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        layers: Sequence[int],
        decoder: DecoderArguments | Mapping[str, Any] | None = None,
        spatial_block: SpatialBlockArguments | Mapping[str, Any] | None = None,
        logit_scale: float = 1 / 0.07,
        learn_scale: bool = False,
        half_product: bool = False,
        loss_size: str = "full",
        seen_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("loss_size", loss_size, LOSS_SIZES)
        decoder = argument_group("decoder", decoder, DecoderArguments)
        block = argument_group("spatial_block", spatial_block, SpatialBlockArguments)
        self.layers, self.embeddings = tuple(layers), False
        in_dims = _hidden_dims(backbone, self.layers)
        self.finest_factor = 1 if decoder.factors is None else decoder.factors[0]
        self.reassemble = _reassemble(in_dims, decoder)
        self.decoder = DPTDecoder(in_dims if decoder.factors is None else decoder.dims, decoder.features)
        self.embed = nn.Conv2d(decoder.features, text_dim, 1)
        self.block = SpatialBlock(block.kind, block.depth, block.activation) if block.kind is not None else None
        # its logarithm is trained, so that the scale stays positive
        scale = torch.tensor(float(logit_scale))
        self.log_scale = nn.Parameter(scale.log()) if learn_scale else None
        self.register_buffer("fixed_scale", None if learn_scale else scale, persistent=False)
        self.half_product = half_product
        self.loss_size = loss_size
        self.seen_penalty = seen_penalty

    @property
    def logit_scale(self) -> Tensor:
        """() multiplier of the cosine."""
        return self.fixed_scale if self.log_scale is None else self.log_scale.exp()

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return logits (B, K, 2h, 2w), where (h, w) is the finest level's grid: half the image's size for patch 16.

        Official LSeg ends with a bilinear resize (aligned corners) to the image; here the loss and the label map do
        it, so that (B, K, H, W) is never materialized.
        """
        embed = self.decoded(features)  # pixels in the space of the texts: (B, D, h, w)
        logits = self.pixel_logits(embed, text)  # upsample, normalize, cosine with the texts: (B, K, 2h, 2w)
        return self.regularize(logits)  # spatial block

    def decode(self, features: ImageFeatures) -> Tensor:
        """Return the embeddings of pixels in the space of the texts (B, D, h, w), any length."""
        levels = self.levels(features)  # reassemble: [(B, C_i, h_i, w_i)], fine to coarse
        fused = self.decoder(levels)  # fuse: (B, C, h, w)
        return self.embed(fused)

    def levels(self, features: ImageFeatures) -> list[Tensor]:
        """Return the decoder's inputs [(B, C_i, h_i, w_i)], fine to coarse: reassembled tokens, or a pyramid's maps."""
        maps = [features.hidden[layer] for layer in self.layers]
        if self.reassemble is None:
            return maps
        prefixes = [features.prefix.get(layer) for layer in self.layers]
        class_tokens = [None if prefix is None else prefix[:, 0] for prefix in prefixes]
        return [stage(level, token) for stage, level, token in zip(self.reassemble, maps, class_tokens)]

    def pixel_logits(self, embed: Tensor, text: TextFeatures) -> Tensor:
        """Return the scaled cosines of pixels with texts.

            pixels = F.normalize(upsample(embed), dim=1)  # (B, D, 2h, 2w)
            logits = logit_scale * text.pixel_similarity(pixels)  # (B, K, 2h, 2w)

        `upsampled_cosine` equals this at a fraction of the cost, unless synonyms compete (their maximum is not linear)
        or the parity switch requires the official order.

        Args:
            embed: (B, D, h, w), any length.
            text: features of K classes.

        Returns:
            (B, K, 2h, 2w) float32.
        """
        if text.row_class is None and not self.half_product:
            return self.logit_scale * upsampled_cosine(embed, text.embed)
        pixels = F.normalize(upsample(embed).float(), dim=1)  # (B, D, 2h, 2w)
        if self.half_product:
            return self._half_product(pixels, text)
        return self.logit_scale * text.pixel_similarity(pixels)

    def _half_product(self, pixels: Tensor, text: TextFeatures) -> Tensor:
        """Scale pixels (B, D, 2h, 2w) and compare them in float16, in the order of the official code."""
        # the scale before the product: in float16, another order would round differently
        scaled = self.logit_scale * pixels.half()
        half_text = dataclasses.replace(text, embed=text.embed.half())
        return half_text.pixel_similarity(scaled).float()

    def regularize(self, logits: Tensor) -> Tensor:
        """Apply the spatial block, if there is one, to logits (B, K, 2h, 2w), which keep their shape."""
        return logits if self.block is None else self.block(logits)

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the logits (K, 2h, 2w) of each image part by part; None with `half_product`: every bit counts."""
        if self.half_product:
            return None
        pixels = PixelEmbeddings(lambda: self.decoded(features))
        finest = features.hidden[self.layers[0]]
        height, width = (math.ceil(length * self.finest_factor) for length in finest.shape[-2:])
        logits = LSegLogits(pixels, text, self.logit_scale, self.block, self.classes_at_once)
        return [logits.of_image(index, (height, width)) for index in range(len(finest))]

    def training_texts(self, samples: Sequence[Sample]) -> Vocabulary:
        """Return the classes of a batch; its samples may have vocabularies of their own, of one length."""
        return joined_vocabulary(samples)

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the mean cross entropy over labeled pixels, {"loss_pixel": ()}, each image among its own classes.

        Raises:
            ValueError: a sample without a label map, or with a label that its vocabulary does not have.
        """
        classes = positions_in_joined(samples)  # (B, K), or None if all samples have the same vocabulary
        check_labels(samples, text.num_classes if classes is None else classes.shape[1])
        logits = self(features, text) if classes is None else self._logits_of_classes(features, text, classes)
        label_maps = [known(sample.label_map, f"label_map of sample {sample.sample_id!r}").long() for sample in samples]
        label_map = torch.stack(label_maps)  # (B, H, W)
        if self.loss_size == "head":
            nearest = _nearest_labels(label_map, logits.shape[-2:])
            return {"loss_pixel": pixel_cross_entropy(logits, nearest)}
        if self.loss_size == "sampled":
            return {"loss_pixel": sampled_cross_entropy(logits, label_map, align_corners=True)}
        return {"loss_pixel": upsampled_cross_entropy(logits, label_map, align_corners=True)}

    def _logits_of_classes(self, features: ImageFeatures, text: TextFeatures, classes: Tensor) -> Tensor:
        """Return the logits (B, K, 2h, 2w) of each image's own classes, at the positions `classes` (B, K) in `text`."""
        logits = self.pixel_logits(self.decoded(features), text)
        # before the spatial block, which would mix in the classes of other images
        return self.regularize(logits[torch.arange(len(classes))[:, None], classes])

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Turn logits (B, K, h, w) into label maps (H, W) of each `original_size`, upsampled as in the loss."""
        return [prediction for prediction, _ in self.predictions_with_scores(outputs, samples)]

    def predictions_with_scores(
        self, outputs: Any, samples: Sequence[Sample], *pixels: Any
    ) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
        """Return each prediction with its probabilities (K, H, W), see `Head.predictions_with_scores`."""
        outputs = self._penalized(outputs, samples)
        return predictions_with_softmax(outputs, samples, align_corners=True, rows_at_once=self.rows_at_once)

    def _penalized(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> Tensor | list[LogitMap]:
        """Return the outputs less the penalty of the classes that had labels."""
        seen = shared_vocabulary(samples).seen
        if not self.seen_penalty or seen is None:
            return outputs
        return change_pixelwise(outputs, partial(_less_penalty, self.seen_penalty, seen))


def _less_penalty(penalty: float, seen: tuple[bool, ...], logits: Tensor) -> Tensor:
    return logits - penalty * logits.new_tensor(seen)[:, None, None]


def _hidden_dims(backbone: BackboneSpec, layers: Sequence[int]) -> list[int]:
    """Return the channels of each layer, or raise `ValueError` for one that the backbone does not have."""
    count = len(backbone.hidden_dims)
    unknown = [layer for layer in layers if not 0 <= layer < count]
    if unknown or not layers:
        raise ValueError(f"layers: expected indices from 0 to {count - 1} of this backbone, got {list(layers)}")
    return [backbone.hidden_dims[layer] for layer in layers]


def _reassemble(in_dims: Sequence[int], decoder: DecoderArguments) -> nn.ModuleList | None:
    """Return one `Reassemble` per layer; None for a pyramid."""
    if decoder.factors is None:
        return None
    if len(in_dims) != len(decoder.factors):
        raise ValueError(
            f"layers, decoder.factors and decoder.dims must have one entry per level, got {len(in_dims)}, "
            f"{len(decoder.factors)} and {len(decoder.dims)}"
        )
    levels = zip(in_dims, decoder.dims, decoder.factors)
    return nn.ModuleList(Reassemble(*level, readout=decoder.readout) for level in levels)


def _nearest_labels(label_map: Tensor, size: Sequence[int]) -> Tensor:
    """Return the labels (B, h, w) under the logits of a map of `size` with the corners of label_map (B, H, W)."""
    # corners of both maps coincide, as in the other losses and in `postprocess`
    rows, columns = (
        torch.linspace(0, length - 1, count, device=label_map.device).round().long()
        for length, count in zip(label_map.shape[-2:], size)
    )
    return label_map[:, rows[:, None], columns]  # (B, h, w)
