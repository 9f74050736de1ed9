"""CLIP itself: images and captions matched in the joint space; zero-shot classification of whole images."""

import hashlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.base import Head
from openvocab.losses.contrastive import info_nce
from openvocab.registry import HEADS
from openvocab.structures import BackboneSpec, ClassificationPrediction, ImageFeatures, Sample, TextFeatures


@HEADS.register_module()
class ContrastiveHead(Head):
    """Contrastive language-image pretraining, and the zero-shot classifier that comes of it. It has no weights.

    Args:
        backbone, text_dim: given by the model.
        chunk_size: images scored at a time in the loss; see `info_nce`.
        positives_by_text: images of the batch that were given the same caption are positives of one another, instead of
            each being told that the others' caption is wrong. For data with few distinct captions.

    Raises:
        ValueError: a backbone without a joint space, or of another width than the text encoder.

    Reference:
        Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
    """

    def __init__(
        self, backbone: BackboneSpec, text_dim: int, chunk_size: int = 256, positives_by_text: bool = False
    ) -> None:
        super().__init__()
        if backbone.embed_dim != text_dim:
            raise ValueError(
                f"image embeddings have width {backbone.embed_dim}, text embeddings {text_dim}; "
                "take both towers from the same model"
            )
        self.chunk_size = chunk_size
        self.positives_by_text = positives_by_text

    def forward(self, features: ImageFeatures, text: TextFeatures) -> Tensor:
        """Return the logits of whole images, (B, K) float32."""
        with torch.autocast(features.image_embed.device.type, enabled=False):
            embed = F.normalize(features.image_embed.float(), dim=-1)
            return text.logit_scale * text.similarity(embed)

    def training_texts(self, samples: Sequence[Sample]) -> list[str]:
        """Return the caption of each sample; the data set picks one where an image has several.

        Raises:
            ValueError: a sample without a caption.
        """
        for sample in samples:
            if not sample.captions:
                raise ValueError(
                    f"sample {sample.sample_id!r} has no caption; contrastive training needs image-text pairs"
                )
        return [sample.captions[0] for sample in samples]

    def loss(self, features: ImageFeatures, text: TextFeatures, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the symmetric InfoNCE between the images (B, D) and their captions (B, D), over all ranks."""
        embed = features.image_embed
        with torch.autocast(embed.device.type, enabled=False):
            embed = F.normalize(embed.float(), dim=-1)
        ids = _text_ids(self.training_texts(samples), embed.device) if self.positives_by_text else None
        loss = info_nce(embed, text.embed, text.logit_scale, text_ids=ids, chunk_size=self.chunk_size)
        return {"loss_contrastive": loss}

    def postprocess(self, outputs: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
        """Return the logits (K,) of each image, on the CPU."""
        rows = outputs.float().cpu()
        return [
            ClassificationPrediction(row, sample.vocabulary, sample.sample_id)
            for row, sample in zip(rows, samples, strict=True)
        ]


def _text_ids(texts: Sequence[str], device: torch.device) -> Tensor:
    """Return (B,) int64 that are equal for equal texts, on every rank (Python's own hash differs between processes)."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], device=device)
