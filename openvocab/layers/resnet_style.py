"""Older ways to build a ResNet, for weights that were trained that way."""

from typing import Literal, get_args

from torch import nn

from openvocab.argument_checks import check_choice

ResNetStyle = Literal["caffe", "tensorflow"]
TENSORFLOW_BATCH_NORM = {"eps": 1e-4, "momentum": 0.003}
"""Of official ViLD and F-VLM, whose momentum of 0.997 is what torch calls 0.003: statistics of some 300 steps."""


def set_resnet_style(tower: nn.Module, style: ResNetStyle) -> None:
    """Change where a timm ResNet looks, in place; its weights keep their shapes.

    Args:
        tower: a ResNet of bottlenecks, as timm or torchvision builds it.
        style: "caffe" halves the resolution in the first convolution of a stage (1x1) instead of the second (3x3), as
            Detectron and mmdetection's `style="caffe"` do. "tensorflow" pads the max pool of the stem right and bottom,
            and its batch norms have `TENSORFLOW_BATCH_NORM`.

    Raises:
        ValueError: an unknown style, or a tower without such parts.
    """
    check_choice("resnet_style", style, get_args(ResNetStyle))
    if style == "caffe":
        parts = [part for part in tower.modules() if hasattr(part, "conv3") and part.conv2.stride == (2, 2)]
        for block in parts:
            block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
    else:
        parts = [part for part in tower.modules() if isinstance(part, nn.MaxPool2d)]
        for pool in parts:
            pool.padding, pool.ceil_mode = 0, True
        for norm in (part for part in tower.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.eps, norm.momentum = TENSORFLOW_BATCH_NORM["eps"], TENSORFLOW_BATCH_NORM["momentum"]
    if not parts:
        raise ValueError(f"resnet_style={style!r} is for ResNets of bottlenecks, got {type(tower).__name__}")
