"""Features of an image-text vision transformer at any image size, whichever library its tower comes from."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvocab.backbones.readouts import ForwardPass, Plain, Readout
from openvocab.layers.attention import attend
from openvocab.layers.attention_block import AttentionBlock
from openvocab.layers.attention_pool import AttentionPool
from openvocab.layers.positions import PositionResize
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures, Size, size_of


class TransformerReader:
    """Computes pooled, dense and hidden features of a vision transformer without changing it.

    Subclasses know the parts of one kind of tower: the patch embedding, the blocks, and the layers after them.

    Args:
        visual: the tower; owned by the module that holds this reader.
        width: C of its tokens.
        num_prefix: P, the number of tokens before the patches.
        readout: how patch embeddings are computed.
        position_resize: see `resize_positions`.
        checkpointing: recompute the blocks in the backward pass.

    Raises:
        ValueError: the tower does not suit the readout.
    """

    tail: tuple[str, ...]
    """Name prefixes of the parameters after the last block."""
    pools_class_token: bool
    """Whether the pooled embedding is that of the class token, so that the last block need not run for the patches."""
    pool: AttentionPool | None = None
    """The tower's attention pool, if it has one."""

    def __init__(
        self,
        visual: Any,
        width: int,
        num_prefix: int,
        readout: Readout,
        position_resize: PositionResize,
        checkpointing: bool,
    ) -> None:
        self.visual = visual
        self.width, self.num_prefix = width, num_prefix
        self.readout = readout
        self.position_resize = position_resize
        self.checkpointing = checkpointing
        readout.check_tower(width, len(self.blocks))
        if readout.needs_class_token and num_prefix != 1:
            raise ValueError(
                f"readout: {type(readout).__name__} needs a class token, but this tower has {num_prefix} tokens before "
                "its patches; use 'clip', 'value', 'maskclip', 'sclip', 'clearclip' or 'naclip'"
            )

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        raise NotImplementedError

    def views(self, grid_size: Size) -> Sequence[AttentionBlock]:
        """Return the blocks by their parts, for patches on a grid (h, w)."""
        raise NotImplementedError

    def embed_patches(self, images: Tensor) -> tuple[Tensor, Size]:
        """Return the tokens (B, P + h * w, C) that enter block 1, and the grid (h, w), of images (B, 3, H, W)."""
        raise NotImplementedError

    def project(self, tokens: Tensor) -> Tensor:
        """Project tokens (B, N, C) to the joint space, (B, N, D), each as if it were the only one that is pooled."""
        raise NotImplementedError

    def project_pooled(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, P + h * w, C) as the tower does and project them to the joint space, (B, D)."""
        raise NotImplementedError

    def project_unchanged(self, tokens: Tensor) -> Tensor:
        """Project the last block's own tokens (B, P + h * w, C), (B, P + h * w, D), or their shares in a pool."""
        return self.project(tokens) if self.pool is None else self.pool.shares(self.pool_input(tokens))

    def pool_input(self, tokens: Tensor) -> Tensor:
        """Return what is pooled of the last block's tokens (B, P + h * w, C), after the norm before the pool."""
        return tokens

    def stride(self) -> int:
        """Return the side of a patch in pixels."""
        raise NotImplementedError

    def embed_dim(self) -> int:
        """Return D, the width of the joint space."""
        raise NotImplementedError

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[0]` is the input of block 1, `hidden[i]` the output of block i."""
        num_hidden = len(self.blocks) + 1
        return BackboneSpec(self.embed_dim(), self.stride(), (self.width,) * num_hidden, (self.stride(),) * num_hidden)

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        tokens, grid_size = self.embed_patches(images)
        views = self.views(grid_size)
        features = ImageFeatures(input_size=size_of(images))
        # With embeddings, the last block is left to _embed_last: many readouts replace its attention.
        body = views[:-1] if embed else views[: max(layers, default=0)]
        required = self.readout.reads(len(views)) if embed else ()
        states = {0: tokens} if 0 in required else {}
        self._store(features, 0, tokens, grid_size, layers)
        for i, view in enumerate(body, start=1):
            tokens = self.readout.after_block(self._run(view, tokens), grid_size)
            if i in required:
                states[i] = tokens
            self._store(features, i, tokens, grid_size, layers)
        if embed:
            self._embed_last(features, ForwardPass(views, {**states, len(body): tokens}, grid_size), layers)
        return features

    def _embed_last(self, features: ImageFeatures, tower: ForwardPass, layers: Collection[int]) -> None:
        """Run the last block, and add the embeddings of the image and of the patches.

        `tower` has the required states (B, P + h * w, C) and the one that enters the last block.
        """
        count, last = len(tower.blocks), tower.blocks[-1]
        if count in layers or count in self.readout.reads(count) or not self.pools_class_token:
            output = self.readout.after_block(self._run(last, tower.entering), tower.grid_size)
            tower.states[count] = output
            self._store(features, count, output, tower.grid_size, layers)
            features.image_embed = self.project_pooled(output)
        else:  # only the class token of the last block is used, so the other tokens need not be computed
            features.image_embed = self.project_pooled(_class_token(tower))
        if type(self.readout) is Plain:  # a subclass has patches of its own
            patches = tower.patches_of(self.project_unchanged(tower.states[count]))
        else:
            patches = self.project(self.readout.patches(tower))
        features.patch_embed = to_map(patches, self.readout.output_size(tower.grid_size))  # (B, D, h, w)
        if self.readout.gives_keys:
            keys = last.output(tower.projections[1])  # (B, P + h * w, C)
            features.patch_keys = to_map(tower.patches_of(keys), tower.grid_size)

    def _run(self, view: AttentionBlock, tokens: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(view, tokens, use_reentrant=False)
        return view(tokens)

    def _store(self, features: ImageFeatures, i: int, tokens: Tensor, grid_size: Size, layers: Collection[int]) -> None:
        """Store tokens (B, P + h * w, C) as `hidden[i]` and `prefix[i]`, if i is among `layers`."""
        if i in layers:
            features.hidden[i] = to_map(tokens[:, self.num_prefix :], grid_size)
            if self.num_prefix:
                features.prefix[i] = tokens[:, : self.num_prefix]


def _class_token(tower: ForwardPass) -> Tensor:
    """Return the output (B, 1, C) of the last block for the class token only."""
    last, (q, k, v) = tower.blocks[-1], tower.projections  # (B, heads, P + h * w, d) each
    # One query instead of P + h * w: the score matrix has one row.
    return last.finish(tower.entering[:, :1], last.output(attend(q[:, :, :1], k, v)))
