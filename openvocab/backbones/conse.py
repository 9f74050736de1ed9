"""ConSE: an image classifier as a backbone with a joint space, without training."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from openvocab.backbones.base import Backbone
from openvocab.backbones.timm_backbone import create_timm_model, pixel_statistics, read_timm_weights, step_counters
from openvocab.checkpoint.start_weights import reads_start_weights, start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.registry import BACKBONES, TEXT_ENCODERS, build_part
from openvocab.structures import BackboneSpec, ImageFeatures, size_of
from openvocab.vocabulary.class_lists import class_names_path
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

logger = logging.getLogger(__name__)


@BACKBONES.register_module()
class ConSEBackbone(Backbone):
    """A frozen convolutional classifier of timm that embeds every cell of its map as a mean of text embeddings.

    A cell that is classified as 0.6 tiger and 0.4 cat gets 0.6 text("tiger") + 0.4 text("cat"): the text embeddings of
    the classifier's classes span the space, in which any other name can be compared. Classes without a text embedding
    are skipped.

    Args:
        model: a convolutional network of `timm.list_models()`.
        text_encoder: config (or built part) that embeds the classifier's class names; must be the same as the model's,
            so that cells and names are in one space.
        class_names: names of the classifier's outputs, in order: a class list of the package or a names file.
        pretrained: see `TimmBackbone`.
        top: number of classes that are averaged per cell; the paper's T.
        mean, std, model_args: see `TimmBackbone`.

    Raises:
        ValueError: no class of the classifier has a text embedding; the numbers of names and outputs differ; in
            `forward`, the network's features are not a map; else see `TimmBackbone`.

    Reference: arXiv 1312.5650, equation 2.
    """

    visual: Any  # a classifier of timm: these have no common type
    known: Tensor
    """(K',) int64 outputs of the classifier whose class has a text embedding."""
    known_embed: Tensor
    """(K', D) text embeddings of these classes, unit norm."""

    def __init__(
        self,
        model: str,
        text_encoder: Any,
        class_names: str | Path = "imagenet_1k",
        pretrained: str | Path | bool | None = None,
        top: int = 10,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        model_args: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.visual = create_classifier(model, pretrained, model_args).requires_grad_(False)
        names = read_class_names(class_names_path(class_names, "class_names"))
        with start_weights(load=True):  # its embeddings are computed here and not stored in checkpoints
            encoder = build_part(TEXT_ENCODERS, text_encoder)
        known, embed = embed_known(encoder, names)
        if len(names) != self.visual.num_classes:
            raise ValueError(f"{model} has {self.visual.num_classes} outputs, but {class_names} has {len(names)} names")
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("known_embed", embed, persistent=False)
        self.top = min(top, len(known))
        self.spec = BackboneSpec(embed.shape[1], self.visual.feature_info[-1]["reduction"], (), ())
        self.mean, self.std = pixel_statistics(self.visual, mean, std)
        self.train(False)
        logger.info(f"{len(known)} of the {len(names)} classes of {model} have a text embedding")

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W) as mean text embeddings, (B, D) and (B, D, h, w); see `Backbone.forward`."""
        self.check_input(images, layers)
        maps = self.visual.forward_features(images)  # (B, C, h, w)
        if maps.ndim != 4:
            raise ValueError(f"{type(self.visual).__name__} returns no map; ConSE needs a convolutional network")
        batch, channels, height, width = maps.shape
        # A map of one cell is unchanged by the classifier's pooling.
        cells = maps.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)  # (B * h * w, C, 1, 1)
        patch_embed = self.embed(cells).view(batch, height, width, -1).permute(0, 3, 1, 2)  # (B, D, h, w)
        return ImageFeatures(size_of(images), image_embed=self.embed(maps), patch_embed=patch_embed)

    def embed(self, maps: Tensor) -> Tensor:
        """Classify pooled maps (N, C, h, w), and return the mean text embedding of their top classes, (N, D)."""
        # The softmax is over the K' known classes: a class without a text embedding takes no share.
        probabilities = self.visual.forward_head(maps)[:, self.known].softmax(1)  # (N, K')
        weights, classes = probabilities.topk(self.top, dim=1)  # (N, T)
        # Equation 2 divides by the sum of the T probabilities: an average over the top classes only.
        weights = weights / weights.sum(1, keepdim=True)
        # As one product with mostly zero weights: gathering the embeddings would take (N, T, D).
        return torch.zeros_like(probabilities).scatter_(1, classes, weights) @ self.known_embed

    def train(self, mode: bool = True) -> "ConSEBackbone":
        """Stay in eval mode: the backbone is frozen."""
        return super().train(False)


def create_classifier(
    model: str, pretrained: str | Path | bool | None, model_args: Mapping[str, Any] | None
) -> nn.Module:
    """Build a classifier of timm with its weights; see `TimmBackbone` for the arguments and errors."""
    if not reads_start_weights():
        pretrained = None
    classifier = create_timm_model(model, pretrained is True, **dict(model_args or {}))
    if isinstance(pretrained, (str, Path)):
        state = step_counters(classifier.state_dict()) | read_timm_weights(Path(pretrained))
        load_strictly(classifier, state, f"{pretrained} does not fit {model}")
    return classifier


@torch.no_grad()
def embed_known(text_encoder: Any, names: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Embed those of K classes that the text encoder knows.

    Returns:
        their indices (K',) int64 and embeddings (K', D), unit norm.

    Raises:
        ValueError: it knows none of them.
    """
    known = [index for index, synonyms in enumerate(names) if text_encoder.knows(synonyms)]
    if not known:
        raise ValueError(f"the text encoder knows none of {len(names)} classes, such as {names[0][0]!r}")
    vocabulary = Vocabulary(tuple(tuple(names[index]) for index in known), synonym_merge="mean")
    return torch.tensor(known), text_encoder(vocabulary).embed
