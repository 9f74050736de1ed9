"""LSeg: every pixel is embedded next to the texts and takes the class of the nearest one."""

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.heads.base import Head, shared_vocabulary
from openvocab.heads.dpt import DPTDecoder, Reassemble
from openvocab.heads.joined_vocabulary import joined_vocabulary, own_classes
from openvocab.heads.lseg_logits import LSegLogits, PixelEmbeddings
from openvocab.heads.spatial_block import SpatialBlock
from openvocab.logit_map import LogitMap, change_places
from openvocab.losses.pixel import check_labels, pixel_cross_entropy, sampled_cross_entropy, upsampled_cross_entropy
from openvocab.ops.upsampled_cosine import upsample, upsampled_cosine
from openvocab.postprocess import semantic_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ImageFeatures, Sample, SemanticPrediction, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

LOSS_SIZES = ("full", "sampled", "head")


@HEADS.register_module()
class LSegHead(Head):
    """DPT decoder, a 1x1 projection to the joint space, and the cosine of every pixel with every text.

    Args:
        backbone: facts of the backbone; `hidden_dims` are read.
        text_dim: D of the text embeddings.
        layers: which `hidden` maps to read, shallow to deep.
        factors: resolution of each level over the token grid, fine to coarse; `(4, 2, 1, 0.5)` for patch 16,
            `(8, 4, 2, 1)` for patch 32. None for a pyramid (ResNet): its maps go straight into the decoder.
        dims: channels of the reassembled levels; unused with a pyramid.
        features: width of the decoder.
        readout: `project` mixes the class token into the patches, `ignore` drops it.
        block: optional spatial block on the class maps: None, `bottleneck` or `depthwise`.
        block_depth, block_activation: see `SpatialBlock`.
        logit_scale: multiplier of the cosine; the official constant is 1 / 0.07.
        learn_scale: train the scale. Official code means to, but its scale is never a parameter.
        half_product: compute the pixel-text product in float16, for parity with the official code.
        loss_size: `full` upsamples the logits to the label map (official); our departures cost less: `sampled` does it
            for as many pixels as there are logits, others each time, `head` takes the labels that are nearest to the
            logits.
        seen_penalty: taken off the logits of seen classes at test time, where the vocabulary says which ones those are;
            a head trained on few classes hardly ever answers with another (calibrated stacking, arXiv 1605.04253).
            Official: 0.

    Raises:
        ValueError: lengths of `layers`, `factors` and `dims` differ, layers that the backbone does not have, an
            unknown choice.

    Reference: Li et al., Language-driven Semantic Segmentation (arXiv 2201.03546).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        layers: Sequence[int],
        factors: Sequence[float] | None = (4, 2, 1, 0.5),
        dims: Sequence[int] = (256, 512, 1024, 1024),
        features: int = 256,
        readout: str = "project",
        block: str | None = None,
        block_depth: int = 1,
        block_activation: str = "lrelu",
        logit_scale: float = 1 / 0.07,
        learn_scale: bool = False,
        half_product: bool = False,
        loss_size: str = "full",
        seen_penalty: float = 0.0,
    ) -> None:
        super().__init__()
        check_choice("loss_size", loss_size, LOSS_SIZES)
        self.layers, self.embeddings = tuple(layers), False
        in_dims = _hidden_dims(backbone, self.layers)
        self.finest_factor = 1 if factors is None else factors[0]
        self.reassemble = _reassemble(in_dims, factors, dims, readout)
        self.decoder = DPTDecoder(in_dims if factors is None else dims, features)
        self.embed = nn.Conv2d(features, text_dim, 1)
        self.block = SpatialBlock(block, block_depth, block_activation) if block else None
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
        """Return logits (B, K, h, w) at twice the resolution of the finest level (half the image for patch 16).

        Official LSeg ends with a bilinear resize (aligned corners) to the image; here the loss and the label map do
        it, so that nobody need hold (B, K, H, W).
        """
        return self._mix(self.pixel_logits(self.decoder(self.levels(features)), text))

    def _mix(self, logits: Tensor) -> Tensor:
        """Run the spatial block, if there is one, on logits (B, K, h, w)."""
        return logits if self.block is None else self.block(logits)

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> list[LogitMap] | None:
        """Return the logits of each image part by part; not for `half_product`, whose labels depend on every bit."""
        if self.half_product:
            return None
        pixels = PixelEmbeddings(lambda: self.embed(self.decoder(self.levels(features))))
        finest = features.hidden[self.layers[0]]
        size = tuple(math.ceil(length * self.finest_factor) for length in finest.shape[-2:])
        logits = LSegLogits(pixels, text, self.logit_scale, self.block, self.classes_at_once)
        return [logits.of_image(index, size) for index in range(len(finest))]

    def levels(self, features: ImageFeatures) -> list[Tensor]:
        """Return the decoder's inputs [(B, C_i, h_i, w_i)], fine to coarse."""
        maps = [features.hidden[layer] for layer in self.layers]
        if self.reassemble is None:
            return maps
        tokens = [features.prefix.get(layer) for layer in self.layers]
        class_tokens = [None if token is None else token[:, 0] for token in tokens]
        return [stage(level, token) for stage, level, token in zip(self.reassemble, maps, class_tokens)]

    def pixel_logits(self, decoded: Tensor, text: TextFeatures) -> Tensor:
        """Return logits (B, K, 2h, 2w) of the decoder's output (B, features, h, w).

        The plain order is: upsample, project, normalize, multiply. Where nothing between is non-linear the upsampling
        comes last. Competing synonyms (a maximum) and the parity switch need the plain order.
        """
        embed = self.embed(decoded)  # (B, D, h, w)
        if text.row_class is None and not self.half_product:
            return self.logit_scale * upsampled_cosine(embed, text.embed)
        pixels = F.normalize(upsample(embed).float(), dim=1)  # (B, D, 2h, 2w)
        if self.half_product:
            return self._half_product(pixels, text)
        return self.logit_scale * text.pixel_similarity(pixels)

    def _half_product(self, pixels: Tensor, text: TextFeatures) -> Tensor:
        """Scale the pixels and multiply in float16, in the order of the official code."""
        scaled = self.logit_scale * pixels.half()
        half_text = dataclasses.replace(text, embed=text.embed.half())
        return half_text.pixel_similarity(scaled).float()

    def training_texts(self, samples: Sequence[Sample]) -> Vocabulary:
        """Return the classes of a batch; its samples may have vocabularies of their own, of one length."""
        return joined_vocabulary(samples)

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the cross entropy over labeled pixels as `loss_pixel`, each image among its own classes.

        Raises:
            ValueError: a sample without label map, or with a label that its vocabulary does not have.
        """
        own = own_classes(samples)
        check_labels(samples, text.num_classes if own is None else own.shape[1])
        logits = self(features, text) if own is None else self._own_logits(features, text, own)
        label_map = torch.stack([sample.label_map.long() for sample in samples])  # (B, H, W)
        if self.loss_size == "head":
            nearest = _nearest_labels(label_map, logits.shape[-2:])
            return {"loss_pixel": pixel_cross_entropy(logits, nearest)}
        if self.loss_size == "sampled":
            return {"loss_pixel": sampled_cross_entropy(logits, label_map, align_corners=True)}
        return {"loss_pixel": upsampled_cross_entropy(logits, label_map, align_corners=True)}

    def _own_logits(self, features: ImageFeatures, text: TextFeatures, own: Tensor) -> Tensor:
        """Return the logits (B, K, h, w) of each image's own classes, at the positions `own` (B, K) in `text`."""
        logits = self.pixel_logits(self.decoder(self.levels(features)), text)
        return self._mix(logits[torch.arange(len(own))[:, None], own])

    def postprocess(self, outputs: Tensor | list[LogitMap], samples: Sequence[Sample]) -> list[SemanticPrediction]:
        """Turn logits (B, K, h, w) into label maps in the original frame, by the same upsampling as the loss."""
        seen = shared_vocabulary(samples).seen
        if self.seen_penalty and seen is not None:
            outputs = change_places(
                outputs, lambda logits: logits - self.seen_penalty * logits.new_tensor(seen)[:, None, None]
            )
        return semantic_predictions(outputs, samples, align_corners=True, rows_at_once=self.rows_at_once)


def _hidden_dims(backbone: BackboneSpec, layers: Sequence[int]) -> list[int]:
    count = len(backbone.hidden_dims)
    unknown = [layer for layer in layers if not 0 <= layer < count]
    if unknown or not layers:
        raise ValueError(f"layers: expected indices from 0 to {count - 1} of this backbone, got {list(layers)}")
    return [backbone.hidden_dims[layer] for layer in layers]


def _reassemble(
    in_dims: Sequence[int], factors: Sequence[float] | None, dims: Sequence[int], readout: str
) -> nn.ModuleList | None:
    if factors is None:
        return None
    if not len(in_dims) == len(factors) == len(dims):
        raise ValueError(
            f"layers, factors and dims must have one entry a level, got {len(in_dims)}, {len(factors)} and {len(dims)}"
        )
    return nn.ModuleList(Reassemble(*level, readout=readout) for level in zip(in_dims, dims, factors))


def _nearest_labels(label_map: Tensor, size: Sequence[int]) -> Tensor:
    """Pick the label under each logit of a map of `size` whose corners are aligned with the label map's."""
    axes = zip(label_map.shape[-2:], size)
    rows, columns = (torch.linspace(0, full - 1, few, device=label_map.device).round().long() for full, few in axes)
    return label_map[:, rows[:, None], columns]  # (B, h, w)
