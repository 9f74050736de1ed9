"""Older variants of ResNet, for weights that were trained with them."""

from typing import Literal, get_args

from torch import nn

from openvocab.argument_checks import check_choice

ResNetStyle = Literal["caffe", "tensorflow"]
TENSORFLOW_BATCH_NORM = {"eps": 1e-4, "momentum": 0.003}
"""Of official ViLD and F-VLM; TensorFlow's momentum of 0.997 is 0.003 in torch, statistics over some 300 steps."""


def set_resnet_style(tower: nn.Module, style: ResNetStyle) -> None:
    """Change strides and paddings of a ResNet in place; the shapes of its weights stay the same.

    Args:
        tower: a ResNet of bottlenecks, from timm or torchvision.
        style: "caffe" halves the resolution in the first convolution of a stage (1x1) instead of the second (3x3), as
            Detectron and mmdetection's `style="caffe"` do. "tensorflow" pads the max pool of the stem on the right and
            at the bottom, and sets `TENSORFLOW_BATCH_NORM` on the batch norms.

    Raises:
        ValueError: the style is unknown, or the tower has no such layers.
    """
    check_choice("resnet_style", style, get_args(ResNetStyle))
    if style == "caffe":
        changed = _move_strides(tower)
    else:
        changed = _pad_right_and_bottom(tower)
        for norm in (part for part in tower.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.eps, norm.momentum = TENSORFLOW_BATCH_NORM["eps"], TENSORFLOW_BATCH_NORM["momentum"]
    if not changed:
        raise ValueError(f"resnet_style={style!r} is for ResNets of bottlenecks, got {type(tower).__name__}")


def _move_strides(tower: nn.Module) -> int:
    """Move the stride of bottlenecks from the 3x3 to the 1x1 convolution; return how many were changed."""
    count = 0
    for part in tower.modules():
        conv1, conv2 = getattr(part, "conv1", None), getattr(part, "conv2", None)
        if hasattr(part, "conv3") and isinstance(conv1, nn.Conv2d) and isinstance(conv2, nn.Conv2d):
            if conv2.stride == (2, 2):
                conv1.stride, conv2.stride = (2, 2), (1, 1)
                count += 1
    return count


def _pad_right_and_bottom(tower: nn.Module) -> int:
    """Let max pools pad on the right and at the bottom only; return how many were changed."""
    pools = [part for part in tower.modules() if isinstance(part, nn.MaxPool2d)]
    for pool in pools:
        # Rounding up lets the last window extend over the right and bottom edge, which torch fills with -inf.
        pool.padding, pool.ceil_mode = 0, True
    return len(pools)
