"""Base class of image backbones."""

from collections.abc import Collection, Iterable

from torch import Tensor, nn

from openvocab.structures import BackboneSpec, ImageFeatures

RGB = tuple[float, float, float]


class Backbone(nn.Module):
    """Maps images to `ImageFeatures`. Subclasses set these attributes in their constructor."""

    spec: BackboneSpec
    mean: RGB
    """Mean of pixel values in 0..255."""
    std: RGB
    """Standard deviation of pixel values in 0..255."""
    quick_gelu: bool | None = None
    """Whether a CLIP was trained with QuickGELU, as its weights require; None for other backbones."""

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode a batch.

        Args:
            images: (B, 3, H, W) normalized RGB; H and W divisible by `spec.stride`.
            layers: indices of the `hidden` maps to return.
            embed: also return the embeddings in the joint space, if there is one; without them the tower runs only up
                to the deepest of `layers`.

        Returns:
            `hidden[i]` (B, C_i, h_i, w_i) for every i of `layers`; with `embed`, `image_embed` (B, D) and `patch_embed`
            (B, D, h, w), not normalized, if the backbone has a joint space.

        Raises:
            ValueError: a size is not divisible by the stride, or a layer does not exist.
        """
        raise NotImplementedError

    def fold_batch_norms(self) -> None:
        """Fold batch norms into the convolutions before them, for prediction; overridden by towers with batch norms.

        Call it in eval mode. The backbone cannot be trained or loaded afterwards.
        """

    def pack_linears(self) -> None:
        """Pack linear layers for fast prediction on a CPU; see `packed_linear.pack_linears`.

        Overridden by towers with many linear layers. The backbone cannot be trained, saved or loaded afterwards.
        """

    def check_input(self, images: Tensor, layers: Collection[int]) -> None:
        """Raise `ValueError` if the size of images (B, 3, H, W) does not fit the stride, or a layer does not exist."""
        height, width = images.shape[-2:]
        stride = self.spec.stride
        if height % stride or width % stride:
            raise ValueError(f"input size {height}x{width} is not divisible by the stride {stride}; pad the image")
        unknown = [layer for layer in layers if not 0 <= layer < len(self.spec.hidden_dims)]
        if unknown:
            raise ValueError(f"layers {unknown} do not exist; this backbone has 0 to {len(self.spec.hidden_dims) - 1}")


def rgb(values: Iterable[float], name: str) -> RGB:
    """Return `values` as one number per channel.

    Raises:
        ValueError: there are not three of them; the message starts with `name`.
    """
    channels = tuple(values)
    if len(channels) != 3:
        raise ValueError(f"{name}: expected three values (red, green, blue), got {len(channels)}: {channels}")
    return channels
