"""One training step of `configs/lseg_ade.py`: forward, loss, backward; no optimizer."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import largest_relative_error
from benchmarks.lseg_inference import ade_vocabulary, random_model
from benchmarks.plain_lseg import full_size_logits, lseg_head
from openvocab.model import OpenVocabModel
from openvocab.structures import Sample, known


def prepare(
    autocast: bool,
    config: str = "lseg_ade.py",
    size: int = 480,
    num_classes: int = 150,
    batch: int = 1,
    overrides: Mapping[str, Any] | None = None,
    device: str = "cpu",
) -> Sides:
    """Compare the model's loss with the same network in the plain order of its layers, whose logits have full size.

    Args:
        autocast: whether our side runs under bfloat16 autocast, as with `tools/train.py --amp`.
        config: file below `configs/`, of LSeg.
        size: side of the images in pixels.
        num_classes: number of class names.
        batch: number of images.
        overrides: changes of the config.
        device: where both sides run.
    """
    model = random_model(config, overrides).to(device).train()
    plain = copy.deepcopy(model)
    inputs = model.data_preprocessor(random_batch(size, num_classes, batch), training=True)
    label_map = torch.stack([sample.label_map for sample in inputs["samples"]]).long()
    text = model.text_encoder(inputs["samples"][0].vocabulary).embed

    def peer_loss() -> Tensor:
        return F.cross_entropy(full_size_logits(plain, inputs["images"], text), label_map)

    def our_loss() -> Tensor:
        with _autocast(device, autocast):
            losses = model(**inputs, mode="loss")
        return sum(losses.values())

    return Sides(partial(_step, plain, peer_loss), partial(_step, model, our_loss), largest_relative_error)


def random_batch(size: int, num_classes: int, batch: int) -> dict[str, list]:
    """Return noise images (3, H, W) and random label maps (H, W), as a loader does."""
    vocabulary = ade_vocabulary(num_classes)
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(batch)]
    labels = [torch.randint(0, num_classes, (size, size), dtype=torch.uint8) for _ in range(batch)]
    samples = [
        Sample(str(index), vocabulary, (size, size), (size, size), label_map=label_map)
        for index, label_map in enumerate(labels)
    ]
    return {"image": images, "sample": samples}


def _step(model: OpenVocabModel, loss_of: Callable[[], Tensor]) -> list[Tensor]:
    """Return the loss () and the gradient of the last projection."""
    model.zero_grad(set_to_none=True)
    loss = loss_of()
    loss.backward()
    return [loss.detach(), known(lseg_head(model).embed.weight.grad, "gradient of the last projection")]


def _autocast(device: str, enabled: bool) -> AbstractContextManager:
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


_NOTE = "batch 1, as in the config per GPU; error of the loss and of the gradient of the last projection"
ROWS = (
    Row(
        "lseg_training_step_fp32", 1.0, partial(prepare, False),
        products="float32", repeats=3, memory=True, note=_NOTE, on_cuda=True,
    ),
    Row(
        "lseg_training_step_bf16", 1.0, partial(prepare, True),
        products="bfloat16", repeats=3, memory=True, note=_NOTE, on_cuda=True,
    ),
)  # fmt: skip
