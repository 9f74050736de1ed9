"""Terms that match two views of an image, without texts."""

from typing import Literal

import torch
from torch import Tensor, nn

from openvocab.heads.terms.base import ContrastiveTerm, PairBatch
from openvocab.losses.nt_xent import Parity, nt_xent
from openvocab.losses.patch_correspondence import matching_patches
from openvocab.losses.simsiam import simsiam
from openvocab.registry import CONTRASTIVE_TERMS
from openvocab.structures import BackboneSpec, known


@CONTRASTIVE_TERMS.register_module()
class ViewContrast(ContrastiveTerm):
    """SimCLR on whole images, which SLIP adds to CLIP.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        views: the two views that are compared.
        layer: hidden map whose mean is projected; default: the pooled embedding (SLIP: the features before it).
        hidden_dim, out_dim: widths of the three-layer projector (SLIP: 4096 and 256).
        temperature: divides the cosine.
        chunk_size: rows scored at a time.

    Reference: arXiv 2112.12750 (SLIP), 2002.05709 (SimCLR).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "views",
        views: tuple[int, int] = (0, 1),
        layer: int | None = None,
        hidden_dim: int = 4096,
        out_dim: int = 256,
        temperature: float = 0.1,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        self.views = tuple(views)
        self.layer, self.layers = layer, _layers(layer)
        self.projector = projector(_width(backbone, layer), hidden_dim, out_dim, depth=3)
        self.temperature = temperature
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return NT-Xent () of the projections (B, C) of both views."""
        first, second = (project_rows(self.projector, batch.pooled(view, self.layer)) for view in self.views)
        return nt_xent(first, second, self.temperature, chunk_size=self.chunk_size)


@CONTRASTIVE_TERMS.register_module()
class PatchContrast(ContrastiveTerm):
    """SimCLR on patches: positives are patches of the two views that cover the same part of the image, by their boxes.

    Each rank compares its own patches, since their number differs from batch to batch. A batch with fewer than two
    pairs adds zero.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        views: the two views that are compared.
        layer: hidden map whose patches are projected; default: the patch embeddings in the joint space.
        hidden_dim, out_dim: widths of the two-layer projector, applied to each patch.
        temperature: divides the cosine.
        max_pairs: maximum per batch, drawn at random if there are more; the time grows with its square.
        parity: "xclip" compares the rows that x-clip does, for comparison with that code: the pooled row and all
            patches of both views, without normalization. Positives have the same index, although the patches of
            independent crops at one index do not correspond.
        chunk_size: rows scored at a time.

    Raises:
        ValueError: an unknown `parity`, or `max_pairs` below 2.

    Reference: arXiv 2002.05709 (SimCLR).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "patches",
        views: tuple[int, int] = (0, 1),
        layer: int | None = None,
        hidden_dim: int = 4096,
        out_dim: int = 128,
        temperature: float = 0.1,
        max_pairs: int = 4096,
        parity: Parity | None = None,
        chunk_size: int = 256,
    ) -> None:
        super().__init__(weight, name)
        if max_pairs < 2:
            raise ValueError(f"max_pairs: expected at least 2, got {max_pairs}")
        if parity not in (None, "xclip"):
            raise ValueError(f"parity: expected None or 'xclip', got {parity!r}")
        self.views = tuple(views)
        self.layer, self.layers = layer, _layers(layer)
        self.projector = projector(_width(backbone, layer), hidden_dim, out_dim, depth=2)
        self.temperature = temperature
        self.max_pairs = max_pairs
        self.parity = parity
        self.chunk_size = chunk_size

    def forward(self, batch: PairBatch) -> Tensor:
        """Return NT-Xent () of the projected patches (M, C) of both views, on this rank alone."""
        first, second = self._xclip_rows(batch) if self.parity else self._matched_rows(batch)
        if len(first) < 2:
            # with a graph, so that every parameter has a gradient on every rank
            return (first.sum() + second.sum()) * 0
        return nt_xent(first, second, self.temperature, parity=self.parity, chunk_size=self.chunk_size, gather=False)

    def _matched_rows(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Return the projections (M, C) and (M, C) of patches that cover the same part of an image."""
        first_boxes, second_boxes = (batch.view_boxes(view) for view in self.views)
        image, *patch_indices = matching_patches(first_boxes, second_boxes, batch.grid_size(self.layer))
        drawn = torch.randperm(len(image), device=image.device)[: self.max_pairs]
        rows = []
        for view, index in zip(self.views, patch_indices, strict=True):
            patches = batch.patches(view, self.layer)  # (B, h * w, C)
            # all patches, so that the batch norm sees equally many in every batch
            projected = project_rows(self.projector, patches.flatten(0, 1)).unflatten(0, patches.shape[:2])
            rows.append(projected[image[drawn], index[drawn]])  # (M, C)
        return rows[0], rows[1]

    def _xclip_rows(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """Return the projections (B * (1 + h * w), C) of the pooled row and all patches, for each of the two views."""
        rows = []
        for view in self.views:
            pooled = batch.pooled(view, self.layer)[:, None]  # (B, 1, C)
            tokens = torch.cat([pooled, batch.patches(view, self.layer)], dim=1)  # (B, 1 + h * w, C)
            rows.append(project_rows(self.projector, tokens.flatten(0, 1)))
        return rows[0], rows[1]


@CONTRASTIVE_TERMS.register_module()
class SimSiam(ContrastiveTerm):
    """SimSiam on whole images: each view predicts the other, without negatives.

    Args:
        backbone, text_dim: given by the head.
        weight, name: see `ContrastiveTerm`.
        views: the two views that are compared.
        layer: hidden map whose mean is projected; default: the pooled embedding.
        hidden_dim: width of the projector and of the predictions (DeCLIP: 1024).
        predictor_dim: width of the predictor's bottleneck (DeCLIP: 512).
        scaled_targets: whether the projector's last batch norm has a scale and a shift (as in DeCLIP, unlike SimSiam).

    Reference: arXiv 2011.10566; added to CLIP in arXiv 2110.05208 (DeCLIP).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        text_dim: int,
        weight: float = 1.0,
        name: str = "simsiam",
        views: tuple[int, int] = (0, 1),
        layer: int | None = None,
        hidden_dim: int = 1024,
        predictor_dim: int = 512,
        scaled_targets: bool = False,
    ) -> None:
        super().__init__(weight, name)
        self.views = tuple(views)
        self.layer, self.layers = layer, _layers(layer)
        last_norm = nn.BatchNorm1d(hidden_dim, affine=scaled_targets)
        self.projector = projector(_width(backbone, layer), hidden_dim, hidden_dim, depth=3, last_norm=last_norm)
        self.predictor = projector(hidden_dim, predictor_dim, hidden_dim, depth=2)

    def forward(self, batch: PairBatch) -> Tensor:
        """Return the negative cosine (), in -1..1, of each view's prediction (B, C) and the other's projection."""
        targets = [project_rows(self.projector, batch.pooled(view, self.layer)) for view in self.views]
        predictions = [project_rows(self.predictor, target) for target in targets]
        return simsiam(*predictions, *targets)


def projector(
    in_dim: int, hidden_dim: int, out_dim: int, depth: Literal[2, 3], last_norm: nn.Module | None = None
) -> nn.Module:
    """Return `depth` linear layers with batch norms and ReLUs in between, followed by `last_norm` if given."""
    parts: list[nn.Module] = []
    for layer in range(depth - 1):
        width = in_dim if layer == 0 else hidden_dim
        parts += [nn.Linear(width, hidden_dim, bias=False), nn.BatchNorm1d(hidden_dim), nn.ReLU()]
    parts.append(nn.Linear(hidden_dim, out_dim, bias=last_norm is None))
    if last_norm is not None:
        parts.append(last_norm)
    return nn.Sequential(*parts)


def project_rows(module: nn.Module, rows: Tensor) -> Tensor:
    """Apply a projector with batch norms to rows (N, C); returns (N, C').

    Raises:
        ValueError: a single row in training.
    """
    if module.training and len(rows) < 2:
        raise ValueError(
            "the projector's batch norm needs at least two images in training, got a batch of one; raise batch_size "
            "(and drop_last the remainder)"
        )
    return module(rows)


def _layers(layer: int | None) -> tuple[int, ...]:
    return () if layer is None else (layer,)


def _width(backbone: BackboneSpec, layer: int | None) -> int:
    """Return the width of the features that are projected.

    Raises:
        ValueError: the backbone has no such layer, or no joint space.
    """
    if layer is None:
        return known(backbone.embed_dim, "embed_dim of the backbone")
    if not 0 <= layer < len(backbone.hidden_dims):
        raise ValueError(f"layer {layer} does not exist; this backbone has 0 to {len(backbone.hidden_dims) - 1}")
    return backbone.hidden_dims[layer]
