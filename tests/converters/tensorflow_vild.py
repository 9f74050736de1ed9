"""A small ViLD in TensorFlow's conventions, written from the official code's facts: the reference of the converter.

Maps are (B, H, W, C), kernels (h, w, in, out), boxes y1 x1 y2 x2, variables under TensorFlow's names.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}
BOX_HEAD = "frcnn_layer_0/fast_rcnn_head"
Layout = dict[str, tuple[int, ...]]


def dense(name: str, *shape: int) -> Layout:
    """Kernel and bias of a dense layer or convolution; the last axis of `shape` is the output."""
    return {f"{name}/kernel": shape, f"{name}/bias": shape[-1:]}


def norm(name: str, dim: int) -> Layout:
    return {f"{name}/{part}": (dim,) for part in ("gamma", "beta", "moving_mean", "moving_variance")}


def numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name


def resnet_layout(depth: int) -> Layout:
    shapes = [(7, 7, 3, 64)]
    width = 64
    for stage, count in enumerate(BLOCKS[depth]):
        inner = 64 * 2**stage
        for block in range(count):
            shapes += [(1, 1, width, 4 * inner)] if block == 0 else []
            shapes += [(1, 1, width, inner), (3, 3, inner, inner), (1, 1, inner, 4 * inner)]
            width = 4 * inner
    layout: Layout = {}
    for index, shape in enumerate(shapes):
        layout[f"resnet{depth}/{numbered('conv2d', index)}/kernel"] = shape
        layout |= norm(f"resnet{depth}/{numbered('batch_normalization', index)}", shape[-1])
    return layout


def official_layout(
    depth: int = 50, dim: int = 256, hidden: int = 1024, embed: int = 512, double_branch: bool = True
) -> Layout:
    """Return the shape of every variable of a training checkpoint."""
    layout = resnet_layout(depth)
    for level in (2, 3, 4, 5):
        layout |= dense(f"fpn/l{level}", 1, 1, 64 * 2**level, dim) | dense(f"fpn/post_hoc_d{level}", 3, 3, dim, dim)
    layout |= dense("fpn/p6", 3, 3, dim, dim)
    layout |= dense("rpn_head/rpn", 3, 3, dim, dim) | dense("rpn_head/rpn-1", 3, 3, dim, dim)
    layout |= dense("rpn_head/rpn-class", 1, 1, dim, 3) | dense("rpn_head/rpn-box", 1, 1, dim, 12)
    for level in (2, 3, 4, 5, 6):
        layout |= norm(f"fpn/p{level}-bn", dim)
        layout |= norm(f"rpn_head/rpn-l{level}-bn", dim) | norm(f"rpn_head/rpn-l{level}-bn-1", dim)
    for branch in range(1 + double_branch):
        part = "distill_" if branch else ""
        for i in range(4):
            layout |= dense(f"{BOX_HEAD}/{part}conv_{i}", 3, 3, dim, dim)
        layout |= dense(f"{BOX_HEAD}/{part}fc6", 49 * dim, hidden) | dense(f"{BOX_HEAD}/{part}fc7", hidden, hidden)
        for i in range(6):
            name = numbered("batch_normalization", 6 * branch + i)
            layout |= norm(f"{BOX_HEAD}/{name}", dim if i < 4 else hidden)
        layout |= dense(f"{BOX_HEAD}/{'distill-' if branch else ''}project-to-clip", hidden, embed)
    layout |= {
        f"{BOX_HEAD}/class-predict/kernel": (embed, 7),
        f"{BOX_HEAD}/background-class-predict/kernel": (embed, 1),
    }
    layout |= dense(f"{BOX_HEAD}/box-predict", hidden, 4)
    for i in range(4):
        layout |= dense(f"mask_head/mask-conv-l{i}", 3, 3, dim, dim)
    layout |= {"mask_head/conv5-mask/kernel": (2, 2, dim, dim), "mask_head/conv5-mask/bias": (dim,)}
    for i in range(5):
        layout |= norm(f"mask_head/{numbered('batch_normalization', i)}", dim)
    layout |= dense("mask_head/mask_fcn_logits", 1, 1, dim, 1)
    slots = {f"{name}/Momentum": shape for name, shape in layout.items() if "moving_" not in name}
    return layout | slots | {"global_step": ()}


def random_variables(layout: Layout) -> dict[str, Tensor]:
    """Draw values of a sane size, so that signals neither vanish nor explode; norms far from the identity."""
    generator = torch.Generator().manual_seed(0)
    variables = {}
    for name, shape in layout.items():
        value = torch.randn(shape, generator=generator)
        if name.endswith("kernel"):
            fan_in = value[..., 0].numel() if value.ndim > 1 else 1
            value = value * (2 / fan_in) ** 0.5
        elif name.endswith(("gamma", "moving_variance")):
            value = 0.5 + torch.rand(shape, generator=generator)
        elif not name.endswith("Momentum"):
            value = 0.2 * value
        variables[name] = value
    return variables


class TensorFlowViLD:
    """The official network at test time."""

    def __init__(self, variables: dict[str, Tensor], depth: int) -> None:
        self.variables, self.depth = variables, depth

    def convolve(self, maps: Tensor, name: str, stride: int = 1) -> Tensor:
        """Convolve (B, H, W, C); stride 1 pads "SAME", larger ones half the kernel on either side."""
        kernel = self.variables[f"{name}/kernel"]
        side = kernel.shape[0]
        before = (side - 1) // 2
        padded = F.pad(maps, (0, 0, before, side - 1 - before, before, side - 1 - before))
        return self._slide(padded, kernel, stride) + self.variables.get(f"{name}/bias", 0)

    def _slide(self, padded: Tensor, kernel: Tensor, stride: int) -> Tensor:
        """Sum, over the cells of the kernel, shifted maps times the cell's (in, out) matrix."""
        side = kernel.shape[0]
        height, width = ((length - side) // stride + 1 for length in padded.shape[1:3])
        result = 0
        for y in range(side):
            for x in range(side):
                rows = slice(y, y + (height - 1) * stride + 1, stride)
                columns = slice(x, x + (width - 1) * stride + 1, stride)
                result = result + padded[:, rows, columns] @ kernel[y, x]
        return result

    def normalize(self, values: Tensor, name: str) -> Tensor:
        gamma, beta, mean, variance = (
            self.variables[f"{name}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return gamma * (values - mean) / (variance + 1e-4).sqrt() + beta

    def dense(self, values: Tensor, name: str) -> Tensor:
        return values @ self.variables[f"{name}/kernel"] + self.variables[f"{name}/bias"]

    def backbone(self, images: Tensor) -> list[Tensor]:
        """Map (B, H, W, 3) to the ends of the four stages."""
        scope, count = f"resnet{self.depth}", -1

        def layer(maps: Tensor, stride: int = 1) -> Tensor:
            nonlocal count
            count += 1
            maps = self.convolve(maps, f"{scope}/{numbered('conv2d', count)}", stride)
            return self.normalize(maps, f"{scope}/{numbered('batch_normalization', count)}")

        maps = layer(images, stride=2).relu()
        padded = F.pad(maps, (0, 0, 0, 1, 0, 1), value=-torch.inf)
        windows = padded.unfold(1, 3, 2).unfold(2, 3, 2)  # (B, h, w, C, 3, 3)
        maps = windows.amax(dim=(-1, -2))
        ends = []
        for stage, blocks in enumerate(BLOCKS[self.depth]):
            for block in range(blocks):
                stride = 2 if stage and block == 0 else 1
                shortcut = layer(maps, stride) if block == 0 else maps
                inner = layer(layer(maps).relu(), stride).relu()
                maps = (shortcut + layer(inner)).relu()
            ends.append(maps)
        return ends

    def pyramid(self, ends: list[Tensor]) -> list[Tensor]:
        """Return levels 2 to 6, (B, h, w, D) each."""
        lateral = [self.convolve(end, f"fpn/l{level}") for level, end in enumerate(ends, start=2)]
        for i in (2, 1, 0):
            lateral[i] = lateral[i] + lateral[i + 1].repeat_interleave(2, 1).repeat_interleave(2, 2)
        levels = [self.convolve(maps, f"fpn/post_hoc_d{level}") for level, maps in enumerate(lateral, start=2)]
        coarsest = F.pad(levels[-1], (0, 0, 0, 1, 0, 1))  # "SAME" at stride 2 and an even size
        levels.append(self._slide(coarsest, self.variables["fpn/p6/kernel"], 2) + self.variables["fpn/p6/bias"])
        return [self.normalize(maps, f"fpn/p{level}-bn") for level, maps in enumerate(levels, start=2)]

    def proposals(self, maps: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return logits (h, w, 3) and boxes (h, w, 3, 4) y1 x1 y2 x2 of the first image: square, wide and tall anchors.

        Boxes are decoded without the official code's last pixel.
        """
        hidden = self.normalize(self.convolve(maps, "rpn_head/rpn"), f"rpn_head/rpn-l{level}-bn").relu()
        hidden = self.normalize(self.convolve(hidden, "rpn_head/rpn-1"), f"rpn_head/rpn-l{level}-bn-1").relu()
        logits = self.convolve(hidden, "rpn_head/rpn-class")[0]  # (h, w, 3)
        dy, dx, dh, dw = self.convolve(hidden, "rpn_head/rpn-box")[0].unflatten(-1, (3, 4)).unbind(-1)
        stride = 2**level
        ratio = torch.tensor([1.0, 2.0, 0.5])  # width / height
        width, height = 8 * stride * ratio**0.5, 8 * stride * ratio**-0.5
        y, x = (torch.arange(length) * stride + stride / 2 for length in logits.shape[:2])
        center_y, center_x = y[:, None, None] + dy * height, x[None, :, None] + dx * width
        limit = math.log(1000 / 16)
        half_height, half_width = dh.clamp(max=limit).exp() * height / 2, dw.clamp(max=limit).exp() * width / 2
        first, last = (center_y - half_height, center_x - half_width), (center_y + half_height, center_x + half_width)
        return logits, torch.stack([*first, *last], dim=-1)

    def embed(self, regions: Tensor, distill: bool = False) -> tuple[Tensor, Tensor]:
        """Map regions (N, 7, 7, D) to what is behind the last dense layer (N, F), and to CLIP's space (N, E)."""
        part, first = ("distill_", 6) if distill else ("", 0)
        for i in range(4):
            regions = self.convolve(regions, f"{BOX_HEAD}/{part}conv_{i}")
            regions = self.normalize(regions, f"{BOX_HEAD}/{numbered('batch_normalization', first + i)}").relu()
        flat = regions.flatten(1)
        for i in (0, 1):
            flat = self.dense(flat, f"{BOX_HEAD}/{part}fc{6 + i}")
            flat = self.normalize(flat, f"{BOX_HEAD}/{numbered('batch_normalization', first + 4 + i)}").relu()
        return flat, self.dense(flat, f"{BOX_HEAD}/{'distill-' if distill else ''}project-to-clip")

    def masks(self, regions: Tensor) -> Tensor:
        """Map regions (N, 14, 14, D) to mask logits (N, 28, 28)."""
        for i in range(4):
            regions = self.convolve(regions, f"mask_head/mask-conv-l{i}")
            regions = self.normalize(regions, f"mask_head/{numbered('batch_normalization', i)}").relu()
        kernel = self.variables["mask_head/conv5-mask/kernel"]  # (2, 2, out, in)
        doubled = regions.new_zeros(len(regions), 28, 28, kernel.shape[2])
        for y in (0, 1):
            for x in (0, 1):
                doubled[:, y::2, x::2] = regions @ kernel[y, x].T
        doubled = self.normalize(
            doubled + self.variables["mask_head/conv5-mask/bias"], "mask_head/batch_normalization_4"
        )
        return self.convolve(doubled.relu(), "mask_head/mask_fcn_logits")[..., 0]
