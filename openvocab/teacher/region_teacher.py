"""The teacher of ViLD: a frozen CLIP that embeds crops of an image."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from PIL import Image
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.checkpoint.weights_digest import weights_digest
from openvocab.clip.open_clip_model import clip_config, create_image_tower, pixel_statistics
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.quick_gelu_folding import fold_quick_gelu
from openvocab.process.bfloat16_probe import dtype_name, faster_dtype
from openvocab.teacher.region_crops import CropRule, check_crop_rule, crop_picture, crop_windows

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class RegionTeacher:
    """CLIP embeddings of regions: each box is cropped at several scales, raw embeddings are summed, then normalized.

    It is not an `nn.Module`, so that it never becomes part of a trained model, of its checkpoints or of its device
    moves.

    Args:
        model, pretrained: see `create_clip`.
        crop: "center" or "squash"; see `crop_picture`.
        scales: S factors by which a box is scaled about its center.
        dtype: dtype of weights and activations; "bfloat16" takes about half the time on processors that support it, and
            changes an embedding by an angle of 0.007. "auto" uses it if a probe shows it to be faster on the device.
        batch_size: number of crops.
        device: default: CUDA if available, else the CPU.

    Raises:
        ValueError: an unknown crop rule or dtype, scales or a batch size that are not positive, a CLIP whose input is
            not square.

    Reference:
        ViLD, arXiv 2104.13921, section 3.3. Its extraction was never released; windows are DetPro's (arXiv 2203.14940).
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        crop: CropRule = "center",
        scales: Sequence[float] = (1.0, 1.5),
        dtype: Literal["auto", "float32", "bfloat16"] = "float32",
        batch_size: int = 64,
        device: str | torch.device | None = None,
    ) -> None:
        check_crop_rule(crop)
        check_choice("dtype", dtype, ("auto", *DTYPES))
        if not scales or min(scales) <= 0 or batch_size < 1:
            raise ValueError(f"expected positive scales and batch_size, got {tuple(scales)} and {batch_size}")
        self.model, self.crop, self.scales = model, crop, tuple(map(float, scales))
        self.batch_size = batch_size
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.dtype = dtype_name(faster_dtype(self.device, "regions are embedded")) if dtype == "auto" else dtype
        visual: Any = create_image_tower(model, pretrained).requires_grad_(False)
        self.side = _square_side(model, visual.image_size)
        self.embed_dim = clip_config(model)["embed_dim"]
        self.weights = weights_digest(visual.state_dict(), json.dumps(clip_config(model), sort_keys=True))
        # After the digest: folding changes the weights, which must be identified as they were published.
        fold_quick_gelu(visual)
        self._visual = visual.to(self.device, DTYPES[self.dtype], memory_format=torch.channels_last)
        _pack_feed_forwards(self._visual)
        mean, std = (torch.tensor(values, device=self.device) for values in pixel_statistics(model, pretrained))
        self._scale, self._shift = (1 / std).view(3, 1, 1), (-mean / std).view(3, 1, 1)

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that an embedding depends on, except for image and box, as plain values."""
        shift, scale = ([round(value, 6) for value in t.flatten().tolist()] for t in (self._shift, self._scale))
        return {
            "model": self.model,
            "weights": self.weights,
            "crop": self.crop,
            "scales": list(self.scales),
            "image_size": self.side,
            "pixel_shift": shift,
            "pixel_scale": scale,
            "dtype": self.dtype,
        }

    def __call__(self, images: Iterable[tuple[np.ndarray, Tensor]]) -> list[Tensor]:
        """Embed the boxes of several images, in batches that span images.

        Args:
            images: pairs of an image (H, W, 3) uint8 RGB and its boxes (N_i, 4) x1 y1 x2 y2 in pixels; they are
                consumed one by one, so that an iterator need not hold them all.

        Returns:
            (N_i, D) float32 of each image, unit norm, on the CPU.
        """
        counts: list[int] = []
        encoded = [self._encode(batch) for batch in self._batches(images, counts)]
        raw = torch.cat([torch.empty(0, self.embed_dim), *encoded])  # (sum of N_i * S, D), all scales of a box in a row
        # Summed before the norm, as in ViLD: the scale with the longer embedding counts more.
        summed = raw.view(sum(counts), len(self.scales), self.embed_dim).sum(1)  # (sum of N_i, D)
        return list(F.normalize(summed, dim=-1).split(counts))

    def _batches(self, images: Iterable[tuple[np.ndarray, Tensor]], counts: list[int]) -> Iterator[np.ndarray]:
        """Yield crops (n, side, side, 3), all scales of a box in a row; append the number of boxes of each image."""
        pending: list[np.ndarray] = []
        for image, boxes in images:
            counts.append(len(boxes))
            picture = Image.fromarray(image)
            for window in crop_windows(boxes, image.shape[:2], self.scales).reshape(-1, 4).tolist():
                pending.append(crop_picture(picture, window, self.side, self.crop))
                if len(pending) == self.batch_size:
                    yield np.stack(pending)
                    pending.clear()
        if pending:
            yield np.stack(pending)

    @torch.inference_mode()
    def _encode(self, crops: np.ndarray) -> Tensor:
        """Return the embeddings (n, D) of crops (n, side, side, 3), not normalized, float32 on the CPU."""
        pixels = torch.from_numpy(crops).to(self.device).permute(0, 3, 1, 2)  # (n, 3, side, side), channels last
        pixels = torch.addcmul(self._shift, pixels.float(), self._scale)
        with torch.autocast(self.device.type, enabled=False):  # the training that calls this may use another dtype
            output = self._visual(pixels.to(DTYPES[self.dtype]))
        return (output[0] if isinstance(output, tuple) else output).float().cpu()


def _pack_feed_forwards(visual: nn.Module) -> None:
    """Pack the linear layers of all feed-forward networks, but not of attentions, whose weights open_clip reads
    directly."""
    for block in visual.modules():
        if isinstance(block, ResidualAttentionBlock):
            pack_linears(block.mlp)


def _square_side(model: str, image_size: int | Sequence[int]) -> int:
    """Return the side of the square input of a CLIP, in pixels."""
    if isinstance(image_size, int):
        return image_size
    if len(set(image_size)) > 1:
        raise ValueError(f"{model}: crops of regions are square, but its input is {tuple(image_size)}")
    return image_size[0]
