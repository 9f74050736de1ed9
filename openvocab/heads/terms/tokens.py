"""Terms that read captions word by word."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.terms.base import ContrastiveTerm, MaskedTexts, PairBatch, unit_norm
from openvocab.losses.filip import filip
from openvocab.losses.masked_language import check_shares, corrupt_tokens, masked_language
from openvocab.registry import CONTRASTIVE_TERMS
from openvocab.structures import BackboneSpec, TextTokens, known


@CONTRASTIVE_TERMS.register_module()
class TokenContrast(ContrastiveTerm):
    """FILIP: patches are matched with words and words with patches, in the joint space; special tokens are ignored.

    The zero-shot classifier reads pooled embeddings: train them, too, with a `CaptionContrast` next to this term.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        pool: side of the squares over which patches are averaged first; the time falls with its square.
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
        """Return the loss () of the patches of the first view and the words of the first text."""
        tokens = batch.tokens(0)
        patches, words = unit_norm(self._pooled(batch)), unit_norm(tokens.embed)
        return filip(patches, words, tokens.is_word, batch.text.logit_scale, chunk_size=self.chunk_size)

    def _pooled(self, batch: PairBatch) -> Tensor:
        """Return the patches of the first view, (B, I, D)."""
        patches = batch.patches(0, None)
        if self.pool == 1:
            return patches
        maps = patches.transpose(1, 2).unflatten(2, batch.grid_size(None))  # (B, D, h, w)
        return F.avg_pool2d(maps, self.pool, ceil_mode=True).flatten(2).transpose(1, 2)  # (B, I, D)


@CONTRASTIVE_TERMS.register_module()
class MaskedLanguage(ContrastiveTerm):
    """Masked language modeling on the text tower.

    In CLIP's causal tower a hidden word is predicted from the words before it, as in DeCLIP; in a bidirectional one
    (such as that of `ConvNet-8-shapes-bidirectional`) from both sides, as in BERT and x-clip.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        probability: probability that a word is hidden.
        mask_share, random_share: see `corrupt_tokens`.
        match_masked: let the other terms match images with the corrupted caption instead of the original. Official
            DeCLIP does: it runs its tower once, on the corrupted caption, as happens here unless another term reads
            the words of the original.
        chunk_size: hidden words scored at a time.

    Raises:
        ValueError: fractions that `corrupt_tokens` rejects.

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
        mask_share: float = 0.8,
        random_share: float = 0.1,
        match_masked: bool = False,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        check_shares(mask_share, random_share)
        self.probability, self.mask_share, self.random_share = probability, mask_share, random_share
        self.match_masked = self.replaces_text = match_masked
        self.chunk_size = chunk_size

    def prepare(self, batch: PairBatch) -> None:
        """Hide words of the first text for all terms, with `match_masked`: `batch.masked`, of tokens (B, T)."""
        if self.match_masked:
            batch.masked = self._hide_words(batch.tokens(0))

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the mean cross entropy () of the hidden words of the first text."""
        tokens = batch.tokens(0)
        masked = known(batch.masked, "PairBatch.masked") if self.match_masked else self._hide_words(tokens)
        states = masked.states[masked.chosen]  # (M, C)
        return masked_language(states, tokens.table, tokens.ids[masked.chosen], self.chunk_size)

    def _hide_words(self, tokens: TextTokens) -> MaskedTexts:
        """Corrupt the texts and encode them."""
        corrupted, chosen = corrupt_tokens(
            tokens.ids,
            tokens.is_word,
            mask_id=tokens.mask_id,
            vocabulary_size=len(tokens.table),
            special_ids=tokens.special_ids,
            probability=self.probability,
            mask_share=self.mask_share,
            random_share=self.random_share,
        )
        states = tokens.states_of(corrupted)  # (B, T, C)
        ends = tokens.is_word.sum(dim=1) + 1  # words are between the start and the end token
        pooled = states[torch.arange(len(states), device=states.device), ends]  # (B, C)
        return MaskedTexts(chosen, states, unit_norm(tokens.project(pooled)))
