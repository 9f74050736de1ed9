"""The contract of a contrastive term, and the batch that it reads."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.structures import ImageFeatures, Sample, TextFeatures, TextTokens, known


@dataclass
class PairBatch:
    """B samples with V views of the image and W texts each.

    Rows of a tensor are the first views (or texts) of all samples, then the second ones, and so on.
    """

    features: ImageFeatures
    """Of V * B images."""
    text: TextFeatures
    """Of W * B captions; replaced texts (`Head.replaced_texts`) have no rows in `embed`."""
    samples: Sequence[Sample]
    text_ids: Tensor | None = None
    """(W * B,) int64, equal for equal texts; for terms with `reads_text_ids`."""
    masked: "MaskedTexts | None" = None
    """The first texts with hidden words, if all terms read these."""

    def image_embed(self, view: int) -> Tensor:
        """Return the unit-norm embedding of one view of every image, (B, D) float32."""
        return unit_norm(self._of_view(self._pooled(), view))

    def pooled(self, view: int, layer: int | None) -> Tensor:
        """Return one vector per image, (B, C): the pooled embedding, or the mean of hidden map `layer`."""
        if layer is None:
            return self._of_view(self._pooled(), view)
        return self.patches(view, layer).mean(1)  # (B, C)

    def patches(self, view: int, layer: int | None) -> Tensor:
        """Return the patches of one view, (B, h * w, C): embeddings in the joint space, or hidden map `layer`."""
        return self._of_view(self._maps(layer), view).flatten(2).transpose(1, 2)  # (B, h * w, C)

    def grid_size(self, layer: int | None) -> tuple[int, int]:
        """Return (h, w) of the patches."""
        height, width = self._maps(layer).shape[-2:]
        return height, width

    def view_boxes(self, view: int) -> Tensor:
        """Return the box (B, 4) of one view of every image; see `Sample.view_boxes`.

        Raises:
            ValueError: a sample without boxes, or views that the preprocessor had to pad.
        """
        boxes = []
        for sample in self.samples:
            if sample.view_boxes is None:
                raise ValueError(f"sample {sample.sample_id!r} has no view_boxes; use CropViews and PackViews")
            if sample.padded_size not in (None, sample.input_size):
                raise ValueError(
                    f"sample {sample.sample_id!r}: views of {sample.input_size} were padded to {sample.padded_size}; "
                    "make the size of the views divisible by the backbone's stride"
                )
            boxes.append(sample.view_boxes[view])
        return torch.stack(boxes).to(self.text.embed.device, non_blocking=True)  # (B, 4)

    def text_embed(self, text: int) -> Tensor:
        """Return the unit-norm embedding of one text of every sample, (B, D)."""
        if self.masked is not None and text == 0:
            return self.masked.embed
        return self._of_text(self.text.embed, text)

    def ids_of_text(self, text: int) -> Tensor:
        """Return ids (B,) int64 that are equal for equal texts."""
        return self._of_text(known(self.text_ids, "text_ids of the batch, for a term with reads_text_ids,"), text)

    def tokens(self, text: int) -> TextTokens:
        """Return one text of every sample token by token: ids and `is_word` (B, T), embeddings (B, T, D).

        Its `states_of` takes ids of any number of texts.
        """
        tokens = known(self.text.tokens, "tokens of the texts, for a term with text_tokens,")
        ids, is_word, embed = (self._of_text(part, text) for part in (tokens.ids, tokens.is_word, tokens.embed))
        return replace(tokens, ids=ids, is_word=is_word, embed=embed)

    def _pooled(self) -> Tensor:
        """Return the pooled embeddings (V * B, D)."""
        return known(self.features.image_embed, "image_embed of the backbone")

    def _maps(self, layer: int | None) -> Tensor:
        """Return the patch embeddings or a hidden map, (V * B, C, h, w)."""
        if layer is None:
            return known(self.features.patch_embed, "patch_embed of the backbone")
        return self.features.hidden[layer]

    def _of_view(self, rows: Tensor, view: int) -> Tensor:
        """Return the rows (B, ...) of one view, of rows (V * B, ...)."""
        batch = len(self.samples)
        if len(rows) < (view + 1) * batch:
            raise ValueError(
                f"view {view} of the image is needed, but samples have {len(rows) // batch}; add one to CropViews"
            )
        return rows[view * batch : (view + 1) * batch]

    def _of_text(self, rows: Tensor, text: int) -> Tensor:
        """Return the rows (B, ...) of one text; no rows if the text was replaced, and `rows` start after it."""
        batch = len(self.samples)
        missing = 0 if self.text.tokens is None else len(self.text.tokens.ids) - len(rows)
        start = text * batch - missing
        return rows[max(0, start) : max(0, start + batch)]


@dataclass
class MaskedTexts:
    """One text of every sample with some of its words hidden, encoded."""

    chosen: Tensor
    """(B, T) bool, the hidden words."""
    states: Tensor
    """(B, T, C) last states."""
    embed: Tensor
    """(B, D) float32 unit norm, of the entire text."""


class ContrastiveTerm(nn.Module):
    """One loss of a `ContrastiveHead`, built with `backbone` and `text_dim` in addition to the arguments of its config.

    Required: `forward`. Optional: the attributes, which are set on the class or in `__init__`, and `prepare`.

    Args:
        weight: factor of the loss in the sum.
        name: name of the loss in the log, `loss_<name>`.

    Raises:
        ValueError: a weight that is not positive.
    """

    layers: tuple[int, ...] = ()
    """Indices of the backbone's `hidden` maps that the term reads."""
    num_texts: int = 1
    """Number of captions per sample that the term reads."""
    text_tokens: bool = False
    """Whether the term reads captions token by token."""
    replaces_text: bool = False
    """Whether `prepare` replaces the first text of every sample for all terms; only ids of the original are read."""
    reads_text_ids: bool = False
    """Whether the term reads `PairBatch.text_ids`."""

    def __init__(self, weight: float, name: str) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"{name}: expected a weight above 0, got {weight}; remove the term instead")
        self.weight = weight
        self.name = name

    def prepare(self, batch: PairBatch) -> None:
        """Change the batch for all terms; called on every term before the first `forward`."""

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the loss (), without its weight."""
        raise NotImplementedError


def unit_norm(rows: Tensor) -> Tensor:
    """Normalize rows (..., D) to length one, in float32 (or above) even under autocast."""
    with torch.autocast(rows.device.type, enabled=False):
        # float32: the losses multiply these cosines by the logit scale, and rounding errors with them
        return F.normalize(rows.to(torch.promote_types(rows.dtype, torch.float32)), dim=-1)
