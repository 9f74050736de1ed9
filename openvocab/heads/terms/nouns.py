"""A term that matches images with the nouns of their captions."""

from typing import Literal

import torch
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.heads.terms.base import ContrastiveTerm, PairBatch, unit_norm
from openvocab.losses.multi_label import multi_label_info_nce
from openvocab.registry import CONTRASTIVE_TERMS
from openvocab.structures import BackboneSpec


@CONTRASTIVE_TERMS.register_module()
class NounContrast(ContrastiveTerm):
    """GroupViT's multi-label loss for any tower: images, or their patches, against the noun prompts of the batch.

    A caption can be told from others by its easiest words, such as colors. A noun prompt ("red circle") is compared
    with similar ones ("red square") in every batch, so that all of its words matter.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        count: K noun prompts per sample, its captions after the first; see `AddNounPrompts`.
        match: what a prompt is compared with: the whole `image` (official), or each `patch` (ours: some patch has to
            show what the prompt names; learns from far fewer pairs).
        positives_by_text: a prompt that several images have is a positive of all of them (ours), instead of only the
            image that it was drawn for (official).
        chunk_size: see `multi_label_info_nce`.

    Raises:
        ValueError: a count below 1, or an unknown `match`.

    Reference: arXiv 2202.11094 (GroupViT), section 3.2, where this loss has a temperature of its own; here it is the
    text encoder's, so that the head has no weights. Shared targets as in UniCL, arXiv 2204.03610.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "nouns",
        count: int = 3,
        match: Literal["image", "patch"] = "image",
        positives_by_text: bool = True,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        if count < 1:
            raise ValueError(f"{name}: count: expected at least 1 noun prompt, got {count}; remove the term instead")
        check_choice(f"{name}: match", match, ("image", "patch"))
        self.prompt_indices = range(1, 1 + count)
        self.num_texts = 1 + count
        self.match = match
        self.reads_text_ids = positives_by_text
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the multi-label loss () of the first view and the K noun prompts of every image."""
        # (B, D), or (B, h * w, D) with a patch per segment
        images = batch.image_embed(0) if self.match == "image" else unit_norm(batch.patches(0, None))
        prompts = torch.stack([batch.text_embed(index) for index in self.prompt_indices], dim=1)  # (B, K, D)
        ids = self._prompt_ids(batch) if self.reads_text_ids else None
        return multi_label_info_nce(images, prompts, batch.text.logit_scale, text_ids=ids, chunk_size=self.chunk_size)

    def _prompt_ids(self, batch: PairBatch) -> Tensor:
        """Return ids (B, K) int64 that are equal for equal prompts."""
        return torch.stack([batch.ids_of_text(index) for index in self.prompt_indices], dim=1)
