"""Terms that read captions word by word."""

import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.terms.base import ContrastiveTerm, PairBatch, unit_norm
from openvocab.losses.filip import filip
from openvocab.losses.masked_language import corrupt_tokens, masked_language
from openvocab.registry import CONTRASTIVE_TERMS
from openvocab.structures import BackboneSpec


@CONTRASTIVE_TERMS.register_module()
class TokenContrast(ContrastiveTerm):
    """FILIP: patches find words and words find patches, in the joint space. Start, end and padding take no part.

    The zero-shot classifier reads pooled embeddings: train them too, with a `CaptionContrast` beside this term.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        pool: patches are averaged over squares of this many places along each side first; time falls with its square.
        chunk_size: images compared at a time; see `filip`.

    Raises:
        ValueError: a pool below 1.

    Reference: arXiv 2111.07783.
    """

    text_tokens = True

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "tokens",
        pool: int = 1,
        chunk_size: int = 16,
    ) -> None:
        super().__init__(weight, name)
        if pool < 1:
            raise ValueError(f"pool: expected at least 1, got {pool}")
        self.pool = pool
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Compare the patches of the first view with the words of the first text."""
        tokens = batch.tokens(0)
        patches, words = unit_norm(self._pooled(batch)), unit_norm(tokens.embed)
        return filip(patches, words, tokens.is_word, batch.text.logit_scale, chunk_size=self.chunk_size)

    def _pooled(self, batch: PairBatch) -> Tensor:
        """Return the patches of the first view, (B, I, D)."""
        patches = batch.patches(0, None)
        if self.pool == 1:
            return patches
        maps = patches.transpose(1, 2).unflatten(2, batch.grid_size(None))  # (B, D, h, w)
        return F.avg_pool2d(maps, self.pool, ceil_mode=True).flatten(2).transpose(1, 2)


@CONTRASTIVE_TERMS.register_module()
class MaskedLanguage(ContrastiveTerm):
    """Masked language modelling on the text tower; in CLIP's causal one a hidden word is guessed from those before it.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        probability: of each word to be chosen.
        chunk_size: hidden words scored at a time.

    Reference: arXiv 1810.04805 (BERT); on the text tower of CLIP in arXiv 2110.05208 (DeCLIP).
    """

    text_tokens = True

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "masked_language",
        probability: float = 0.15,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.probability = probability
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Hide words of the first text and name them."""
        tokens = batch.tokens(0)
        corrupted, chosen = corrupt_tokens(
            tokens.ids,
            tokens.is_word,
            mask_id=tokens.mask_id,
            vocabulary_size=len(tokens.table),
            special_ids=tokens.special_ids,
            probability=self.probability,
        )
        states = tokens.states_of(corrupted)  # (B, T, C)
        return masked_language(states[chosen], tokens.table, tokens.ids[chosen], self.chunk_size)
