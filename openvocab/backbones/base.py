"""The contract of an image backbone."""

from collections.abc import Collection

from torch import Tensor, nn

from openvocab.structures import BackboneSpec, ImageFeatures


class Backbone(nn.Module):
    """Images in, `ImageFeatures` out. Subclasses set these facts in their constructor."""

    spec: BackboneSpec
    mean: tuple[float, float, float]
    """RGB, of pixel values in 0..255."""
    std: tuple[float, float, float]
    quick_gelu: bool | None = None
    """Whether a CLIP computes with QuickGELU, to which its weights are bound; None of others."""

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode a batch.

        Args:
            images: (B, 3, H, W) normalized RGB; H and W divisible by `spec.stride`.
            layers: which `hidden` maps to keep.
            embed: give the embeddings in the joint space too, where there is one; without them a tower runs no further
                than the deepest of `layers`.

        Raises:
            ValueError: a size that is not divisible by the stride, or a layer that does not exist.
        """
        raise NotImplementedError

    def fold_batch_norms(self) -> None:
        """Make batch norms part of the convolutions before them, for prediction; towers that have them override this.

        The backbone is in eval mode, and cannot be trained or loaded afterwards.
        """

    def pack_linears(self) -> None:
        """Bring linear layers into the form that is fast for prediction here; see `packed_linear.pack_linears`.

        Towers that have many override this. The backbone cannot be trained, saved or loaded afterwards.
        """

    def check_input(self, images: Tensor, layers: Collection[int]) -> None:
        """Raise `ValueError` for a size or a layer that this backbone cannot serve."""
        height, width = images.shape[-2:]
        stride = self.spec.stride
        if height % stride or width % stride:
            raise ValueError(f"input size {height}x{width} is not divisible by the stride {stride}; pad the image")
        unknown = [layer for layer in layers if not 0 <= layer < len(self.spec.hidden_dims)]
        if unknown:
            raise ValueError(f"layers {unknown} do not exist; this backbone has 0 to {len(self.spec.hidden_dims) - 1}")
