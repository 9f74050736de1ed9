"""Conversion of official ViLD checkpoints (tensorflow/tpu, models/official/detection).

The weights become those of a timm ResNet and a `ViLDHead`. The official files are in TensorFlow 1's own format. With
TensorFlow installed, this code writes a file that the converter can read:

    reader = tf.train.load_checkpoint("resnet50_vild_ensemble/model.ckpt-180000")
    names = reader.get_variable_to_shape_map()
    safetensors.numpy.save_file({name: reader.get_tensor(name) for name in names}, "vild.safetensors")

Three differences remain, each of about a pixel or less: the official box coder includes the last pixel (sizes are
x2 - x1 + 1), its anchors are not rounded to whole pixels, and points outside a map get the value at its edge.
"""

import re
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3), 200: (3, 24, 36, 3)}
OWN_LEVELS, LEVELS = range(2, 6), range(2, 7)
CONVS, PROPOSAL_CONVS = 4, 2
ANCHORS = (1, 0, 2)
"""Index of the official anchor (square, wide, tall) for each of ours (wide, square, tall)."""
ANCHOR_WIDTHS = (2.0**0.5, 1.0, 0.5**0.5)
"""Widths of our anchors, in units of the square root of their area; heights are the reciprocals."""
HALF_STRIDE = 1 / 16
"""Offset of half a stride, as a fraction of the anchors' side of 8 strides.

Official anchors are centered at the centers of cells, ours at their corners.
"""
OFFSETS = (1, 0, 3, 2)
"""Index of the official offset (y, x, h, w) for each of ours (x, y, w, h)."""
DROPPED = (
    r"global_step",
    r".+/Momentum",
    r".+/class-predict/kernel",  # text embeddings
)
BOX_HEAD = "frcnn_layer_0/fast_rcnn_head"

Entries = dict[str, Tensor]


def convert(state_dict: Mapping[str, Tensor]) -> Entries:
    """Rename, transpose and reorder the variables of an official checkpoint.

    Args:
        state_dict: TensorFlow's variables by name; slots of the optimizer and the text classifier are dropped.

    Returns:
        A state dict for the model of `configs/vild_lvis_r50.py` that loads strictly, except for the text encoder, which
        official files do not include (see `text_tower`); with `head.variant="vild"` for checkpoints without an image
        branch.

    Raises:
        ValueError: there are unknown variables, or required ones are missing; the message lists the first few.
    """
    variables = {
        name: value for name, value in state_dict.items() if not any(re.fullmatch(rule, name) for rule in DROPPED)
    }
    try:
        converted = _backbone(variables) | _detector(variables)
        converted |= _branch(variables, "", "head.detector.box_head", "head.classifier")
        if f"{BOX_HEAD}/distill_conv_0/kernel" in variables:
            converted |= _branch(variables, "distill", "head.image_box_head", "head.image_classifier")
    except KeyError as error:
        raise ValueError(f"not an official ViLD checkpoint: it lacks the variable {error}") from error
    if variables:
        first = ", ".join(list(variables)[:4])
        raise ValueError(
            f"not an official ViLD checkpoint: {len(variables)} of {len(state_dict)} variables are unknown: {first}"
        )
    return {key: value.contiguous() for key, value in converted.items()}


def _backbone(variables: Entries) -> Entries:
    """Convert the ResNet, whose depth is part of the names of its variables."""
    matches = (re.match(r"resnet(\d+)/", name) for name in variables)
    depths = {int(match[1]) for match in matches if match}
    depth = next(iter(depths & BLOCKS.keys()), 50)
    converted: Entries = {}
    for index, (convolution, norm) in enumerate(_resnet_layers(BLOCKS[depth])):
        number = f"_{index}" if index else ""
        converted |= _named(f"backbone.visual.{convolution}", _layer(variables, f"resnet{depth}/conv2d{number}"))
        norm_name = f"resnet{depth}/batch_normalization{number}"
        converted |= _named(f"backbone.visual.{norm}", _norm(variables, norm_name))
    return converted


def _resnet_layers(blocks: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    """Yield our names of convolutions and their norms in the official order, with the shortcut of a block first."""
    yield "conv1", "bn1"
    for stage, count in enumerate(blocks, start=1):
        for block in range(count):
            name = f"layer{stage}.{block}"
            if block == 0:
                yield f"{name}.downsample.0", f"{name}.downsample.1"
            for number in (1, 2, 3):
                yield f"{name}.conv{number}", f"{name}.bn{number}"


def _detector(variables: Entries) -> Entries:
    """Convert the feature pyramid, proposal network, box offsets and mask head."""
    converted: Entries = {}
    for i, level in enumerate(LEVELS):
        if level in OWN_LEVELS:
            converted |= _named(f"pyramid.network.inner_blocks.{i}.0", _layer(variables, f"fpn/l{level}"))
            converted |= _named(f"pyramid.network.layer_blocks.{i}.0", _layer(variables, f"fpn/post_hoc_d{level}"))
        else:
            extra = i - len(OWN_LEVELS)
            converted |= _named(f"pyramid.extra_convs.{extra}", _layer(variables, f"fpn/p{level}"))
        converted |= _named(f"pyramid.output_norms.{i}", _norm(variables, f"fpn/p{level}-bn"))
    converted |= _named("proposal_network.head", _proposals(variables))
    offsets = _layer(variables, f"{BOX_HEAD}/box-predict")
    converted |= _named("box_offsets", {key: value[list(OFFSETS)] for key, value in offsets.items()})
    converted |= _named("masks", _masks(variables))
    return _named("head.detector", converted)


def _proposals(variables: Entries) -> Entries:
    """Convert the convolutions that all levels share, the norms of each level, and the two output layers."""
    converted: Entries = {}
    for conv in range(PROPOSAL_CONVS):
        number = f"-{conv}" if conv else ""
        converted |= _named(f"conv.{conv}.0", _layer(variables, f"rpn_head/rpn{number}"))
        for i, level in enumerate(LEVELS):
            converted |= _named(f"norms.{i}.{conv}", _norm(variables, f"rpn_head/rpn-l{level}-bn{number}"))
    anchors, offsets = list(ANCHORS), list(OFFSETS)
    objectness = _layer(variables, "rpn_head/rpn-class")
    boxes = _layer(variables, "rpn_head/rpn-box")
    boxes = {key: value.unflatten(0, (-1, 4))[anchors][:, offsets] for key, value in boxes.items()}  # (A, 4, ...)
    # The bias moves the predicted boxes by the distance between official anchors and ours.
    for anchor, width in enumerate(ANCHOR_WIDTHS):
        boxes["bias"][anchor, :2] += HALF_STRIDE * boxes["bias"].new_tensor([1 / width, width])
    converted |= _named("cls_logits", {key: value[anchors] for key, value in objectness.items()})
    return converted | _named("bbox_pred", {key: value.flatten(0, 1) for key, value in boxes.items()})


def _masks(variables: Entries) -> Entries:
    converted: Entries = {}
    for i in range(CONVS):
        layer, norm = _layer(variables, f"mask_head/mask-conv-l{i}"), _unnamed_norm(variables, "mask_head", i)
        converted |= _without_bias(f"head.{i}", layer, norm)
    converted |= _named("predictor.conv5_mask.0", _layer(variables, "mask_head/conv5-mask"))
    converted |= _named("predictor.conv5_mask.1", _unnamed_norm(variables, "mask_head", CONVS))
    return converted | _named("predictor.mask_fcn_logits", _layer(variables, "mask_head/mask_fcn_logits"))


def _branch(variables: Entries, prefix: str, box_head: str, classifier: str) -> Entries:
    """Convert the layers from region features to embeddings, of the text ("") or the image branch ("distill")."""
    part, first = (f"{prefix}_", CONVS + 2) if prefix else ("", 0)
    converted: Entries = {}
    for i in range(CONVS):
        layer, norm = _layer(variables, f"{BOX_HEAD}/{part}conv_{i}"), _unnamed_norm(variables, BOX_HEAD, first + i)
        converted |= _without_bias(f"{box_head}.layers.{i}", layer, norm)
    channels = len(converted[f"{box_head}.layers.{CONVS - 1}.0.weight"])
    for i in (0, 1):
        layer = _layer(variables, f"{BOX_HEAD}/{part}fc{6 + i}")
        if i == 0:
            layer["weight"] = _channels_first(layer["weight"], channels)
        index = CONVS + 1 + 3 * i  # after the flattening: linear, norm, ReLU
        converted |= _named(f"{box_head}.layers.{index}", layer)
        norm = _unnamed_norm(variables, BOX_HEAD, first + CONVS + i)
        converted |= _named(f"{box_head}.layers.{index + 1}.1", norm)
    project = "distill-project-to-clip" if prefix else "project-to-clip"
    converted |= _named(f"{classifier}.project", _layer(variables, f"{BOX_HEAD}/{project}"))
    if not prefix:
        background = variables.pop(f"{BOX_HEAD}/background-class-predict/kernel")  # (D, 1)
        converted[f"{classifier}.background"] = background[:, 0]
    return converted


def _layer(variables: Entries, name: str) -> Entries:
    """Take a layer's kernel, transposed to torch's layout, and bias.

    HWIO becomes OIHW, HWOI of transposed convolutions IOHW, and IO of dense layers OI.
    """
    kernel = variables.pop(f"{name}/kernel")
    layer = {"weight": kernel.permute(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T}
    if f"{name}/bias" in variables:
        layer["bias"] = variables.pop(f"{name}/bias").clone()
    return layer


def _norm(variables: Entries, name: str) -> Entries:
    return {
        "weight": variables.pop(f"{name}/gamma"),
        "bias": variables.pop(f"{name}/beta"),
        "running_mean": variables.pop(f"{name}/moving_mean"),
        "running_var": variables.pop(f"{name}/moving_variance"),
        "num_batches_tracked": torch.zeros((), dtype=torch.int64),
    }


def _unnamed_norm(variables: Entries, scope: str, index: int) -> Entries:
    return _norm(variables, f"{scope}/batch_normalization_{index}" if index else f"{scope}/batch_normalization")


def _without_bias(name: str, layer: Entries, norm: Entries) -> Entries:
    """Name a convolution and its norm; our convolution has no bias, so the running mean absorbs it."""
    shifted = norm | {"running_mean": norm["running_mean"] - layer["bias"]}
    return {f"{name}.0.weight": layer["weight"]} | _named(f"{name}.1", shifted)


def _channels_first(weight: Tensor, channels: int) -> Tensor:
    """Reorder the inputs of a linear layer on flattened square regions from (out, h * w * C) to (out, C * h * w)."""
    side = round((weight.shape[1] / channels) ** 0.5)
    return weight.unflatten(1, (side, side, channels)).permute(0, 3, 1, 2).flatten(1)  # (out, C * h * w)


def _named(prefix: str, entries: Entries) -> Entries:
    return {f"{prefix}.{key}": value for key, value in entries.items()}
