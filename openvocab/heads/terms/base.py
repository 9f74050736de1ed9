"""The contract of a contrastive term, and the batch that terms read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.structures import ImageFeatures, Sample, TextFeatures, TextTokens


@dataclass
class PairBatch:
    """B samples with V views of the image and W texts each; rows of a tensor are view by view, text by text."""

    features: ImageFeatures
    """Of V * B images."""
    text: TextFeatures
    """Of W * B captions; embeddings begin behind those of texts that are replaced (`Head.replaced_texts`)."""
    samples: Sequence[Sample]
    text_ids: Tensor | None = None
    """(W * B,) int64, equal for equal texts; for terms with `reads_text_ids`."""
    masked: "MaskedTexts | None" = None
    """The first texts with hidden words, where all terms read those."""

    def image_embed(self, view: int) -> Tensor:
        """Return the unit-norm embedding of one view of every image, (B, D) float32."""
        return unit_norm(self._of_view(self.features.image_embed, view))

    def pooled(self, view: int, layer: int | None) -> Tensor:
        """Return one vector an image, (B, C): the pooled embedding, or the mean of hidden map `layer`."""
        if layer is None:
            return self._of_view(self.features.image_embed, view)
        return self.patches(view, layer).mean(1)

    def patches(self, view: int, layer: int | None) -> Tensor:
        """Return the patches of one view, (B, h * w, C): joint-space embeddings, or hidden map `layer`."""
        return self._of_view(self._maps(layer), view).flatten(2).transpose(1, 2)

    def grid_size(self, layer: int | None) -> tuple[int, int]:
        """Return (h, w) of the patches."""
        return tuple(self._maps(layer).shape[-2:])

    def view_boxes(self, view: int) -> Tensor:
        """Return what one view of every image shows, (B, 4); see `Sample.view_boxes`.

        Raises:
            ValueError: a sample without boxes, or views that the preprocessor had to pad.
        """
        for sample in self.samples:
            if sample.view_boxes is None:
                raise ValueError(f"sample {sample.sample_id!r} has no view_boxes; use CropViews and PackViews")
            if sample.padded_size not in (None, sample.input_size):
                raise ValueError(
                    f"sample {sample.sample_id!r}: views of {sample.input_size} were padded to {sample.padded_size}; "
                    "make the size of the views divisible by the backbone's stride"
                )
        boxes = torch.stack([sample.view_boxes[view] for sample in self.samples])
        return boxes.to(self.text.embed.device, non_blocking=True)

    def text_embed(self, text: int) -> Tensor:
        """Return the unit-norm embedding of one text of every sample, (B, D)."""
        if self.masked is not None and text == 0:
            return self.masked.embed
        return self._of_text(self.text.embed, text)

    def ids_of_text(self, text: int) -> Tensor:
        """Return numbers (B,) that are equal for equal texts."""
        return self._of_text(self.text_ids, text)

    def tokens(self, text: int) -> TextTokens:
        """Return one text of every sample token by token.

        `states_of` still takes ids of any number of texts.
        """
        tokens = self.text.tokens
        ids, is_word, embed = (self._of_text(part, text) for part in (tokens.ids, tokens.is_word, tokens.embed))
        return replace(tokens, ids=ids, is_word=is_word, embed=embed)

    def _maps(self, layer: int | None) -> Tensor:
        return self.features.patch_embed if layer is None else self.features.hidden[layer]

    def _of_view(self, rows: Tensor, view: int) -> Tensor:
        batch = len(self.samples)
        if len(rows) < (view + 1) * batch:
            raise ValueError(
                f"view {view} of the image is needed, but samples have {len(rows) // batch}; add one to CropViews"
            )
        return rows[view * batch : (view + 1) * batch]

    def _of_text(self, rows: Tensor, text: int) -> Tensor:
        """Return the rows of one text, none where `rows` begin behind it."""
        batch = len(self.samples)
        missing = 0 if self.text.tokens is None else len(self.text.tokens.ids) - len(rows)
        start = text * batch - missing
        return rows[max(0, start) : max(0, start + batch)]


@dataclass
class MaskedTexts:
    """One text of every sample with some of its words hidden, after the tower."""

    chosen: Tensor
    """(B, T) bool, the hidden words."""
    states: Tensor
    """(B, T, C) last states."""
    embed: Tensor
    """(B, D) float32 unit norm, of the text as a whole."""


class ContrastiveTerm(nn.Module):
    """One loss of a `ContrastiveHead`. Built with the facts `backbone` and `text_dim` beside its config's arguments.

    Args:
        weight: factor of the loss in the sum.
        name: of the loss in the log, `loss_<name>`.

    Raises:
        ValueError: a weight that is not positive.
    """

    layers: tuple[int, ...] = ()
    """The backbone's `hidden` maps that it reads."""
    num_texts: int = 1
    """Captions that it needs of each sample."""
    text_tokens: bool = False
    """Whether it reads captions token by token."""
    replaces_text: bool = False
    """Whether it replaces the first text of every sample for all terms (`prepare`), and reads only its ids itself."""
    reads_text_ids: bool = False

    def __init__(self, weight: float, name: str) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"{name}: expected a weight above 0, got {weight}; remove the term instead")
        self.weight = weight
        self.name = name

    def prepare(self, batch: PairBatch) -> None:
        """Change what the terms of a batch read; called on every term before the first `forward`."""

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the loss, (), before its weight."""
        raise NotImplementedError


def unit_norm(rows: Tensor) -> Tensor:
    """Return rows (..., D) of length one, in float32 (or above) under autocast too."""
    with torch.autocast(rows.device.type, enabled=False):
        return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
