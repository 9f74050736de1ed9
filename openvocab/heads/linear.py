"""A linear classifier of whole images: the simplest head, for fine-tuning a tower or for probing a frozen one."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.heads.base import Head
from openvocab.postprocess import classification_predictions
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ClassificationPrediction, ImageFeatures, Sample, TextFeatures, known

SOURCES = ("image_embed", "class_token", "mean")


@HEADS.register_module()
class LinearHead(Head):
    """Pool the image, normalize, map linearly into the space of the texts, and compare with the row of each class.

    With `OneHotTextEncoder` the rows are unit vectors: this is the ordinary classifier of a fixed list of classes. With
    the rows of a CLIP text tower it is a linear classifier of rank at most D, which also has logits for classes without
    training labels.

    Args:
        backbone, text_dim: given by the model.
        source: features of the image: `image_embed` (the tower's own pooling), `class_token`, or the `mean` of a hidden
            map over its positions.
        layer: which hidden map or class token; default: the last. Unused with `image_embed`.
        norm: LayerNorm before the linear map, which the residual stream of a transformer needs. A pretrained
            classifier's final norm is not loaded: its scale and shift could be part of the map, which is new anyway.
        init_std: standard deviation of the map's initial weights. 0 as in the ViT paper: all classes start equal.
        label_smoothing: fraction of the target that is spread over all classes of the vocabulary.
        mixup: parameter of the Beta distribution with which pooled features and labels are mixed in pairs; 0 turns it
            off. Mixing after the tower instead of the images costs nothing and needs no soft labels in the data; it is
            manifold mixup at the last layer only.

    Raises:
        ValueError: an unknown source, a source that the backbone lacks, a layer that does not exist, a number out of
            range.

    Reference: An Image is Worth 16x16 Words (arXiv 2010.11929), section 3.2; label smoothing arXiv 1512.00567; mixup
    arXiv 1710.09412, manifold mixup arXiv 1806.05236.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        source: str = "class_token",
        layer: int | None = None,
        norm: bool = True,
        init_std: float = 0.01,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing: expected a fraction from 0 to below 1, got {label_smoothing}")
        if mixup < 0 or init_std < 0:
            raise ValueError(f"mixup and init_std: expected 0 or more, got {mixup} and {init_std}")
        width, self.layers = _source_width(backbone, source, layer)
        self.source, self.embeddings = source, source == "image_embed"
        self.norm = nn.LayerNorm(width, eps=1e-6) if norm else nn.Identity()
        self.project = nn.Linear(width, text_dim)
        nn.init.normal_(self.project.weight, std=init_std)
        nn.init.zeros_(self.project.bias)
        self.label_smoothing = label_smoothing
        self.mixup = mixup

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return the logits of whole images, (B, K) float32."""
        return self.logits(self.pooled(features), text)

    def pooled(self, features: ImageFeatures) -> Tensor:
        """Return the pooled features of each image, (B, C).

        The mean is over all positions of the padded batch: the images of a batch should have one size.

        Raises:
            ValueError: the class token of a backbone without one.
        """
        if self.source == "image_embed":
            return known(features.image_embed, "image_embed of the backbone")
        (layer,) = self.layers
        if self.source == "mean":
            return features.hidden[layer].mean(dim=(2, 3))  # (B, C)
        if layer not in features.prefix:
            raise ValueError("this backbone has no class token; use source='mean'")
        return features.prefix[layer][:, 0]  # (B, C), the class token

    def logits(self, pooled: Tensor, text: TextFeatures) -> Tensor:
        """Return the logits (B, K) float32 of pooled features (B, C)."""
        embed = self.project(self.norm(pooled))  # (B, D)
        with torch.autocast(embed.device.type, enabled=False):
            # float32 for the cross entropy: the embeddings have no unit norm, and logits may be large
            return text.similarity(embed.float())

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the mean cross entropy with the class of each image, {"loss_class": ()}.

        Raises:
            ValueError: a sample with no or several classes, or with one that its vocabulary does not have.
        """
        pooled = self.pooled(features)
        # (B, K) probabilities, which can be mixed; indices cannot
        target = F.one_hot(class_targets(samples, text.num_classes), text.num_classes).to(pooled.device).float()
        if self.mixup:
            pooled, target = mix_pairs(pooled, target, self.mixup)
        logits = self.logits(pooled, text)
        return {"loss_class": F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)}

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
        """Return the logits (K,) of each image, on the CPU."""
        return classification_predictions(outputs, samples)


def class_targets(samples: Sequence[Sample], num_classes: int) -> Tensor:
    """Return the class (B,) int64 of each sample.

    Raises:
        ValueError: a sample with no or several classes, or with one outside 0..num_classes - 1.
    """
    for sample in samples:
        if len(sample.class_ids) != 1:
            raise ValueError(
                f"sample {sample.sample_id!r}: a classifier learns one class per image, got {sample.class_ids}"
            )
        if not 0 <= sample.class_ids[0] < num_classes:
            raise ValueError(
                f"sample {sample.sample_id!r}: class {sample.class_ids[0]}, "
                f"but its vocabulary has {num_classes} classes"
            )
    return torch.tensor([sample.class_ids[0] for sample in samples])


def mix_pairs(features: Tensor, targets: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix every row of a batch with another one, with one weight drawn from Beta(alpha, alpha) for the batch.

    Args:
        features: (B, C).
        targets: (B, K), probability of each class.
        alpha: above 0.

    Returns:
        Features (B, C) and targets (B, K).
    """
    weight = torch.distributions.Beta(alpha, alpha).sample().item()
    # drawn on the CPU: the same pairs on every device
    order = torch.randperm(len(features)).to(features.device)
    return weight * features + (1 - weight) * features[order], weight * targets + (1 - weight) * targets[order]


def _source_width(backbone: BackboneSpec, source: str, layer: int | None) -> tuple[int, tuple[int, ...]]:
    """Return the width of the features, and the layers to ask the backbone for."""
    check_choice("source", source, SOURCES)
    if source == "image_embed":
        if backbone.embed_dim is None:
            raise ValueError("source='image_embed': this backbone has no joint space; use 'class_token' or 'mean'")
        return backbone.embed_dim, ()
    last = len(backbone.hidden_dims) - 1
    layer = last if layer is None else layer
    if not 0 <= layer <= last:
        raise ValueError(f"layer: expected 0 to {last} of this backbone, got {layer}")
    return backbone.hidden_dims[layer], (layer,)
