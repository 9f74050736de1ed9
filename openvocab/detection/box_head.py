"""From the features of a region to one vector."""

from collections.abc import Callable, Iterator

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from openvocab.argument_checks import check_flags, check_number
from openvocab.detection.norms import GROUPS, norm_layer


class BoxHead(nn.Module):
    """Convolutions, then fully connected layers, each followed by a ReLU.

    Args:
        in_dim: channels of the region features.
        region_size: their cells per side.
        convs, conv_dim: number and width of the convolutions; Mask R-CNN has none.
        layers, dim: number and width of the fully connected layers.
        norm: after every convolution, see `norm_layer`.
        norm_linears: whether there is one after every fully connected layer too, as in official ViLD and F-VLM.

    Raises:
        ValueError: a number of layers or channels that cannot be, an unknown norm, or group norms of one number per
            group after the fully connected layers.

    Reference: 4conv1fc of arXiv 1803.08494; ViLD (arXiv 2104.13921) ends with two fully connected layers.
    """

    def __init__(
        self,
        in_dim: int,
        region_size: int,
        convs: int = 4,
        conv_dim: int = 256,
        layers: int = 2,
        dim: int = 1024,
        norm: str | None = None,
        norm_linears: bool = False,
    ) -> None:
        super().__init__()
        check_number("convs", convs, 0, whole=True)
        check_number("conv_dim", conv_dim, 1, whole=True)
        check_number("layers", layers, 1, whole=True)
        check_number("dim", dim, 1, whole=True)
        check_flags({"norm_linears": norm_linears})
        self.out_dim = dim
        size = (in_dim, region_size, region_size)
        make_norm = norm_layer(norm)
        self.layers = FastRCNNConvFCHead(size, [conv_dim] * convs, [dim] * layers, make_norm)
        if norm_linears and make_norm is not None:
            # on a vector, a group of one channel is a single number, whose normalized value is always 0
            if norm == "group" and dim <= GROUPS:
                raise ValueError(f"norm_linears: expected dim above {GROUPS} for norm='group', got {dim}; take 'layer'")
            self.layers = nn.Sequential(*_with_norms(self.layers, make_norm))

    def forward(self, regions: Tensor) -> Tensor:
        """Map region features (N, C, s, s) to vectors (N, dim)."""
        return self.layers(regions)


def _with_norms(layers: nn.Sequential, make_norm: Callable[[int], nn.Module]) -> Iterator[nn.Module]:
    """Yield the layers, each linear one followed by a norm; norms take maps (N, C, h, w), so vectors become maps."""
    for layer in layers:
        yield layer
        if isinstance(layer, nn.Linear):
            norm = make_norm(layer.out_features)
            # (N, F) to (N, F, 1, 1) and back
            yield nn.Sequential(nn.Unflatten(1, (layer.out_features, 1, 1)), norm, nn.Flatten())
