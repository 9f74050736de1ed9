"""OWL-ViT and OWLv2 of transformers."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from openvocab.foreign.family import FamilySettings, ForeignDetector, ForeignParts, corners
from openvocab.foreign.text_rows import text_rows, tokenize
from openvocab.structures import Sample, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary


class OWLFamily(ForeignDetector):
    """One pass over the image serves all names, which are scored independently of each other.

    `OWLHead` computes the same on this library's own tower, faster; this is for OWL-ViT, and to compare.

    Reference: arXiv 2205.06230 (OWL-ViT), arXiv 2306.09683 (OWLv2).
    """

    architecture = {"owlvit": "OwlViTForObjectDetection", "owlv2": "Owlv2ForObjectDetection"}

    def __init__(self, parts: ForeignParts, settings: FamilySettings) -> None:
        super().__init__(parts, settings)
        self.kind = self.network.config.model_type
        self.towers: Any = getattr(self.network, self.kind)
        self.context = self.network.config.text_config.max_position_embeddings

    def encode_texts(self, vocabulary: Vocabulary) -> TextFeatures:
        """Return one row per class, or per name, unit norm."""
        return text_rows(vocabulary, self.settings.templates, self._encode)

    def _encode(self, prompts: list[str]) -> Tensor:
        pooled = self.towers.text_model(**tokenize(self.tokenizer, prompts, self.context, self.device)).pooler_output
        return self.towers.text_projection(pooled)  # (P, D)

    def scored_boxes(
        self, image: Tensor, sample: Sample, texts: TextFeatures
    ) -> Iterator[tuple[Tensor, Tensor, list[int]]]:
        """Yield all patches as candidates of all classes; see `ForeignDetector`."""
        feature_map = self.network.image_embedder(self.pixels(image)["pixel_values"])[0]  # (1, h, w, C)
        tokens = feature_map.flatten(1, 2)  # (1, N, C)
        rows, _ = self.network.class_predictor(tokens, texts.embed[None].to(tokens.dtype))  # (1, N, R)
        boxes = corners(self.network.box_predictor(tokens, feature_map)[0].float())  # (N, 4)
        if self.kind == "owlv2":  # the network sees a square, with the image at the upper left
            height, width = image.shape[-2:]
            boxes = boxes * boxes.new_tensor([max(height, width) / width, max(height, width) / height] * 2)
        scores = texts.merge(rows[0].float().sigmoid(), dim=-1)  # (N, K)
        yield boxes, scores, list(range(texts.num_classes))
