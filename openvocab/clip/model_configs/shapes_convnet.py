"""The image tower of the tiny CLIP for Shapes: a residual network with an output stride of 8.

Convolutions learn to tell forms of 10 to 40 pixels apart within a few thousand images; a transformer of the same cost
had not started to after a hundred thousand. It is registered with timm, so that open_clip can build it by name from
`model_configs`.
"""

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg

ARCHITECTURE = ByoModelCfg(
    blocks=(
        ByoBlockCfg(type="basic", d=1, c=32, s=1),
        ByoBlockCfg(type="basic", d=1, c=64, s=2),
        ByoBlockCfg(type="basic", d=2, c=128, s=2),
    ),
    stem_chs=32,
    stem_type="3x3",
    stem_pool="",
)


default_cfgs = generate_default_cfgs({"shapes_convnet": {"pool_size": (8, 8)}})
"""timm looks this variable up; there are no published weights."""


@register_model
def shapes_convnet(pretrained: bool = False, **options: Any) -> ByobNet:
    """Build the tower: stages at strides 2, 4 and 8 with 32, 64 and 128 channels, 0.6 M parameters.

    Args:
        pretrained: required by timm's interface; there are no weights.
        options: arguments of timm's factory that open_clip passes (class count, pool).
    """
    return build_model_with_cfg(ByobNet, "shapes_convnet", pretrained, model_cfg=ARCHITECTURE, **options)
