"""CLIP and its variants: images matched with captions in the joint space; zero-shot classification of images."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.heads.base import Head
from openvocab.heads.terms.base import ContrastiveTerm, PairBatch
from openvocab.heads.terms.captions import CaptionContrast
from openvocab.postprocess import classification_predictions
from openvocab.registry import CONTRASTIVE_TERMS, HEADS, build_part
from openvocab.structures import BackboneSpec, ClassificationPrediction, ImageFeatures, Sample, TextFeatures, known
from openvocab.text.text_ids import text_ids


@HEADS.register_module()
class ContrastiveHead(Head):
    """Contrastive language-image pretraining as a sum of terms, and the resulting zero-shot classifier.

    The default is CLIP's term alone, and the head has no weights. The terms in `heads/terms` make up the variants:
    SLIP, DeCLIP, FILIP, SigLIP, x-clip. With any terms, the classifier compares the pooled embeddings.

    Args:
        backbone, text_dim: given by the model.
        chunk_size: images scored at a time in the default term; see `info_nce`.
        positives_by_text: in the default term, images with the same caption are positives of each other instead of
            negatives. For data with few distinct captions.
        terms: configs of `ContrastiveTerm`s, instead of the default term. Their weighted losses are added.

    Raises:
        ValueError: a backbone without a joint space, or with another width than the text encoder; no terms, two with
            the same name, or `positives_by_text` in addition to `terms`.

    Reference:
        Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        chunk_size: int = 256,
        positives_by_text: bool = False,
        terms: Sequence[Any] | None = None,
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"image embeddings have width {backbone.embed_dim}, text embeddings {text_dim}; "
                "take both towers from the same model"
            )
        if terms is None:
            default = CaptionContrast(backbone, text_dim, positives_by_text=positives_by_text, chunk_size=chunk_size)
            terms = [default]
        elif positives_by_text:
            raise ValueError("positives_by_text belongs to the default term; set it in a CaptionContrast of terms")
        built = [build_part(CONTRASTIVE_TERMS, term, backbone=backbone, text_dim=text_dim) for term in terms]
        self.terms = nn.ModuleDict(_by_name(built))
        self.layers = tuple(sorted({layer for term in built for layer in term.layers}))
        word_readers = [term for term in built if term.text_tokens]
        self.text_tokens = bool(word_readers)
        self.replaced_texts = int(self.text_tokens and all(term.replaces_text for term in word_readers))
        self.num_texts = max(term.num_texts for term in built)

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return the logits of whole images, (B, K) float32."""
        image_embed = known(features.image_embed, "image_embed of the backbone")
        with torch.autocast(image_embed.device.type, enabled=False):
            # float32: near 1, bfloat16 rounds a cosine to 1/256, which the scale multiplies
            embed = F.normalize(image_embed.float(), dim=-1)
            return text.logit_scale * text.similarity(embed)

    def training_texts(self, samples: Sequence[Sample]) -> list[str]:
        """Return the first caption of each sample, then the second of each, up to the number that the terms compare.

        If an image has more captions, the dataset chooses among them.

        Raises:
            ValueError: a sample with too few captions.
        """
        for sample in samples:
            if not sample.captions:
                raise ValueError(
                    f"sample {sample.sample_id!r} has no caption; contrastive training needs image-text pairs"
                )
            if len(sample.captions) < self.num_texts:
                raise ValueError(
                    f"sample {sample.sample_id!r} carries {len(sample.captions)} captions, the terms compare "
                    f"{self.num_texts}; raise num_captions of the dataset, or add AddEditedCaption to its pipeline"
                )
        return [sample.captions[number] for number in range(self.num_texts) for sample in samples]

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the weighted loss of each term, {"loss_<name>": ()}, over all ranks.

        Args:
            features: features of B samples with V views each, such as (V * B, D): the first views of all samples, then
                the second ones.
            text: the captions in the order of `training_texts`.
            samples: B.
        """
        batch = PairBatch(features, text, samples)
        terms = {name: term for name, term in self.terms.items() if isinstance(term, ContrastiveTerm)}
        if any(term.reads_text_ids for term in terms.values()):
            device = known(features.image_embed, "image_embed of the backbone").device
            batch.text_ids = text_ids(self.training_texts(samples), device)
        # all terms before the first loss: one may replace texts that others read
        for term in terms.values():
            term.prepare(batch)
        return {f"loss_{name}": term.weight * term(batch) for name, term in terms.items()}

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
        """Return the logits (K,) of each image, on the CPU."""
        return classification_predictions(outputs, samples)


def _by_name(terms: Sequence[ContrastiveTerm]) -> dict[str, ContrastiveTerm]:
    named = {term.name: term for term in terms}
    if not terms or len(named) < len(terms):
        raise ValueError(
            f"terms: expected at least one, each with a unique name, got {[term.name for term in terms]}; "
            "set `name` of terms of the same class"
        )
    return named
