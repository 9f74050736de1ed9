"""Conversion of MobileNetV2 weights from torchvision's layout to timm's."""

from collections.abc import Mapping

from torch import Tensor

STAGE_BLOCKS = (1, 2, 3, 4, 3, 3, 1)
"""Inverted residuals per stage (arXiv 1801.04381, table 2)."""
FIRST_BLOCK = {"conv.0.0": "conv_dw", "conv.0.1": "bn1", "conv.1": "conv_pw", "conv.2": "bn2"}
OTHER_BLOCKS = {
    "conv.0.0": "conv_pw",
    "conv.0.1": "bn1",
    "conv.1.0": "conv_dw",
    "conv.1.1": "bn2",
    "conv.2": "conv_pwl",
    "conv.3": "bn3",
}


def is_torchvision_layout(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether these are MobileNetV2 weights in torchvision's layout."""
    return "features.1.conv.0.0.weight" in state_dict and "features.18.0.weight" in state_dict


def torchvision_to_timm(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename all entries; values do not change.

    Raises:
        ValueError: there is an entry that torchvision's MobileNetV2 does not have.
    """
    names = _names()
    renamed = {}
    for key, value in state_dict.items():
        part, _, field = key.rpartition(".")
        if part not in names:
            raise ValueError(f"{key!r} is not an entry of torchvision's mobilenet_v2")
        renamed[f"{names[part]}.{field}"] = value
    return renamed


def _names() -> dict[str, str]:
    """Map torchvision's module names to timm's."""
    names = {"features.0.0": "conv_stem", "features.0.1": "bn1", "features.18.0": "conv_head", "features.18.1": "bn2"}
    names["classifier.1"] = "classifier"
    index = 1
    for stage, count in enumerate(STAGE_BLOCKS):
        for block in range(count):
            inner = FIRST_BLOCK if stage == 0 else OTHER_BLOCKS
            for theirs, ours in inner.items():
                names[f"features.{index}.{theirs}"] = f"blocks.{stage}.{block}.{ours}"
            index += 1
    return names
