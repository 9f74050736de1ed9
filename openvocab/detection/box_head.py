"""One vector for what a region shows."""

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead

from openvocab.detection.norms import norm_layer


class BoxHead(nn.Module):
    """Convolutions, then fully connected layers, each followed by a ReLU.

    Args:
        in_dim: channels of the regions.
        region_size: their cells a side.
        convs, conv_dim: number and width of the convolutions; Mask R-CNN has none.
        layers, dim: number and width of the fully connected layers.
        norm: after every convolution, see `norm_layer`.

    Reference: 4conv1fc of arXiv 1803.08494; ViLD (arXiv 2104.13921) has two fully connected layers behind.
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
    ) -> None:
        super().__init__()
        self.out_dim = dim
        size = (in_dim, region_size, region_size)
        self.layers = FastRCNNConvFCHead(size, [conv_dim] * convs, [dim] * layers, norm_layer(norm))

    def forward(self, regions: Tensor) -> Tensor:
        """Map (N, C, s, s) to (N, dim)."""
        return self.layers(regions)
