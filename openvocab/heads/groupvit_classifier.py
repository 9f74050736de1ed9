"""GroupViT as a classifier of whole images: the mean of its segments is compared with the texts of the classes."""

from collections.abc import Sequence

from torch import Tensor

from openvocab.heads.base import Head
from openvocab.heads.groupvit import MAX_SCALE, GroupViTHead
from openvocab.postprocess import classification_predictions
from openvocab.registry import HEADS
from openvocab.structures import ClassificationPrediction, ImageFeatures, Sample, TextFeatures


@HEADS.register_module()
class GroupViTClassifierHead(GroupViTHead):
    """Zero-shot classification by the network of `GroupViTHead`, whose weights and training are the same.

    The segments of the last stage are averaged and projected; the logit of a class is the cosine with its text, times
    the scale that was learned from the captions. `scoring` has no effect.

    Reference: Xu et al., GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094), and its
    released evaluation on ImageNet.
    """

    # none: the outputs are those of a classifier
    predictions_with_scores = Head.predictions_with_scores  # type: ignore[assignment]

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return the logits of whole images, (B, K) float32."""
        return text.logit_scale.clamp(max=MAX_SCALE) * text.similarity(self.image_embed(self.decoded(features)))

    def logit_maps(self, features: ImageFeatures, text: TextFeatures) -> None:
        """Return None: there is one logit per class and image."""

    def postprocess(  # type: ignore[override]  # it has the network of a segmenter, and outputs of a classifier
        self, outputs: Tensor, samples: Sequence[Sample]
    ) -> list[ClassificationPrediction]:
        """Return the logits (K,) of each image, on the CPU."""
        return classification_predictions(outputs, samples)
