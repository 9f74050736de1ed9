"""Terms that match images with captions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from openvocab.former_names import PARTS, present_part
from openvocab.heads.terms.base import ContrastiveTerm, PairBatch, unit_norm
from openvocab.losses.contrastive import decoupled_info_nce, info_nce
from openvocab.losses.nearest_neighbor import TextQueue
from openvocab.losses.one_directional import one_directional_info_nce
from openvocab.losses.siglip import siglip
from openvocab.losses.similarity_regularization import similarity_regularization
from openvocab.registry import CONTRASTIVE_TERMS
from openvocab.structures import BackboneSpec

Pairs = Sequence[tuple[int, int]]
"""[(view of the image, text)]."""


@CONTRASTIVE_TERMS.register_module()
class CaptionContrast(ContrastiveTerm):
    """InfoNCE between images and captions, averaged over the given pairs of views and texts.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        pairs: which view is compared with which text. DeCLIP: all four pairs of two views and two texts.
        decoupled: exclude the positive pair from the denominator (DCL).
        positives_by_text: images with the same caption are positives of one another.
        chunk_size: see `info_nce`.

    Raises:
        ValueError: no pairs, or `decoupled` with `positives_by_text`.

    Reference: arXiv 2103.00020 (CLIP), 2110.06848 (DCL), 2110.05208 (DeCLIP: several views).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "contrastive",
        pairs: Pairs = ((0, 0),),
        decoupled: bool = False,
        positives_by_text: bool = False,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        if decoupled and positives_by_text:
            raise ValueError("decoupled and positives_by_text exclude each other: DCL has one positive text per image")
        self.pairs = check_pairs(pairs)
        self.num_texts = 1 + max(text for _, text in self.pairs)
        self.decoupled = decoupled
        self.reads_text_ids = positives_by_text
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return InfoNCE () over the images of all ranks, averaged over the pairs of views and texts."""
        return torch.stack([self._of_pair(batch, *pair) for pair in self.pairs]).mean()

    def _of_pair(self, batch: PairBatch, view: int, text: int) -> Tensor:
        """Return the loss () of one view and one text."""
        embeds = batch.image_embed(view), batch.text_embed(text), batch.text.logit_scale
        if self.decoupled:
            return decoupled_info_nce(*embeds, chunk_size=self.chunk_size)
        ids = batch.ids_of_text(text) if self.reads_text_ids else None
        return info_nce(*embeds, text_ids=ids, chunk_size=self.chunk_size)


@CONTRASTIVE_TERMS.register_module()
class TwoProjectionContrast(ContrastiveTerm):
    """InfoNCE whose two directions compare different embeddings: x-clip's extra latent projection, after CLOOB.

    Captions retrieve images in the joint space of the zero-shot classifier, images retrieve captions in a second one.
    The second projections are initialized as the identity (x-clip: as a copy of the first).

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        decoupled: exclude the positive pair from the denominators.
        similarity: weight of the similarity regularization (arXiv 2309.08773), averaged over both spaces; 0 turns it
            off.
        chunk_size: rows scored at a time.

    Reference: arXiv 2110.11316 (CLOOB).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "contrastive",
        decoupled: bool = False,
        similarity: float = 0.0,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.decoupled = decoupled
        self.similarity = similarity
        self.chunk_size = chunk_size
        self.image_projection = _identity(text_dim)
        self.text_projection = _identity(text_dim)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the loss (): the mean of both directions, plus the weighted regularization."""
        images, texts = batch.image_embed(0), batch.text_embed(0)
        second_images = unit_norm(self.image_projection(images))  # (B, D)
        second_texts = unit_norm(self.text_projection(texts))  # (B, D)
        to_image = self._one_direction(texts, images, batch.text.logit_scale)
        to_text = self._one_direction(second_images, second_texts, batch.text.logit_scale)
        loss = (to_image + to_text) / 2
        if not self.similarity:
            return loss
        first = similarity_regularization(images, texts, chunk_size=self.chunk_size)
        second = similarity_regularization(second_images, second_texts, chunk_size=self.chunk_size)
        return loss + self.similarity * (first + second) / 2

    def _one_direction(self, rows: Tensor, columns: Tensor, logit_scale: Tensor) -> Tensor:
        return one_directional_info_nce(
            rows, columns, logit_scale, decoupled=self.decoupled, chunk_size=self.chunk_size
        )


@CONTRASTIVE_TERMS.register_module()
class SimilarityRegularization(ContrastiveTerm):
    """Images should be as similar to each other as their captions; used in addition to a loss that matches them.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        chunk_size: rows compared at a time.

    Reference: arXiv 2309.08773.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "similarity",
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the mean square difference () of the cosines of the first views and of the first texts."""
        return similarity_regularization(batch.image_embed(0), batch.text_embed(0), chunk_size=self.chunk_size)


@CONTRASTIVE_TERMS.register_module()
class SigmoidContrast(ContrastiveTerm):
    """SigLIP: a binary classification of every pair, with a learned bias.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        bias: initial bias of the logits. The scale is the text encoder's (the paper starts at 10, CLIP at 14.3).
        chunk_size: images scored at a time.

    Reference: arXiv 2303.15343.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "sigmoid",
        bias: float = -10.0,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.logit_bias = nn.Parameter(torch.tensor(bias))
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the binary cross entropy () of all pairs of a first view and a first text."""
        embeds = batch.image_embed(0), batch.text_embed(0)
        return siglip(*embeds, batch.text.logit_scale, self.logit_bias, chunk_size=self.chunk_size)


@CONTRASTIVE_TERMS.register_module()
class NeighborContrast(ContrastiveTerm):
    """DeCLIP's nearest neighbors: an image is matched with the past caption that is most similar to its own.

    One direction only, as in the official code. Departures: all ranks share one queue (official: one per rank), so that
    a run does not depend on their number; and the queue starts empty (official: with random rows), so that the first
    batch has a loss of zero.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        pairs: which view is matched with the neighbor of which text.
        queue: number of past texts, of all texts in `pairs`; they are saved with the weights.
        chunk_size: images scored at a time.

    Reference: arXiv 2110.05208.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "neighbor",
        pairs: Pairs = ((0, 0),),
        queue: int = 65_536,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.pairs = check_pairs(pairs)
        self.num_texts = 1 + max(text for _, text in self.pairs)
        self.chunk_size = chunk_size
        self.queue = TextQueue(queue, text_dim)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the mean loss () over the pairs; then add the texts to the queue, edited ones before the captions."""
        if len(self.queue):
            loss = torch.stack([self._of_pair(batch, *pair) for pair in self.pairs]).mean()
        else:
            loss = batch.image_embed(0).sum() * 0  # zero, but with a graph for the backward pass
        # after the search, in which a text must not find itself; and not for the texts of a validation
        if self.training:
            for text in sorted({text for _, text in self.pairs}, reverse=True):
                self.queue.push(batch.text_embed(text))
        return loss

    def _of_pair(self, batch: PairBatch, view: int, text: int) -> Tensor:
        """Return the loss () of one view and the neighbors of one text."""
        neighbors = self.queue.nearest(batch.text_embed(text), self.chunk_size)
        return one_directional_info_nce(
            batch.image_embed(view), neighbors, batch.text.logit_scale, chunk_size=self.chunk_size
        )


def check_pairs(pairs: Pairs) -> tuple[tuple[int, int], ...]:
    """Return the pairs as tuples.

    Raises:
        ValueError: no pair, or a negative number.
    """
    pairs = tuple((int(view), int(text)) for view, text in pairs)
    if not pairs or min(min(pair) for pair in pairs) < 0:
        raise ValueError(f"pairs: expected at least one (view, text), numbered from 0, got {pairs}")
    return pairs


def _identity(dim: int) -> nn.Linear:
    """Return a linear layer (dim, dim) without a bias, initialized as the identity."""
    linear = nn.Linear(dim, dim, bias=False)
    nn.init.eye_(linear.weight)
    return linear


def __getattr__(name: str) -> type:
    """Return a class of this module under its former name, with a warning."""
    if name in PARTS:
        return globals()[present_part(name)]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
