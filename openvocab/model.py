"""The composition: backbone + text encoder + head."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel
from torch import Tensor

from openvocab.backbones.quick_gelu_folding import fold_quick_gelu
from openvocab.engine.finite_guard import check_losses
from openvocab.heads.base import shared_vocabulary
from openvocab.inference.whole_image import WholeImage
from openvocab.preprocessor import BatchPreprocessor
from openvocab.registry import BACKBONES, HEADS, INFERENCERS, MODELS, TEXT_ENCODERS, build_part
from openvocab.structures import ImageFeatures, Prediction, Sample


@MODELS.register_module()
class OpenVocabModel(BaseModel):
    """Any backbone, any text encoder, any head.

    Args:
        backbone, text_encoder, head: config dicts (or built parts). The head is also given the backbone's `spec` and
            the width of the text embeddings; a mismatch fails here.
        inference: how an image becomes network inputs at test time: whole (default), sliding window, multi-scale.
    """

    def __init__(self, backbone: Any, text_encoder: Any, head: Any, inference: Any = None) -> None:
        super().__init__()
        self.backbone = build_part(BACKBONES, backbone)
        self.text_encoder = build_part(TEXT_ENCODERS, text_encoder)
        self.head = build_part(HEADS, head, backbone=self.backbone.spec, text_dim=self.text_encoder.embed_dim)
        self.inference = build_part(INFERENCERS, inference) if inference else WholeImage()
        self.data_preprocessor = BatchPreprocessor(self.backbone.mean, self.backbone.std, self.backbone.spec.stride)
        print_log(self.summary(), logger="current")

    def forward(self, images: Tensor, samples: Sequence[Sample], mode: str = "tensor") -> Any:
        """Run one mode of mmengine's protocol on what the preprocessor made: `loss`, `predict` or `tensor`."""
        if mode == "loss":
            return self.loss(images, samples)
        if mode == "predict":
            return self.predict(images, samples)
        return self.head(self.encode(images), self.text_encoder(shared_vocabulary(samples)))

    def encode(self, images: Tensor) -> ImageFeatures:
        """Return what the backbone says of normalised images (B, 3, H, W), as much of it as the head reads."""
        return self.backbone(images, self.head.layers, self.head.embeddings)

    def loss(self, images: Tensor, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """Return the head's losses on a batch."""
        features = self.encode(images)
        texts = self.head.training_texts(samples)
        text = self.text_encoder.with_tokens(texts) if self.head.text_tokens else self.text_encoder(texts)
        return self.head.loss(features, text, samples)

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum the losses (mmengine's protocol), refusing NaN and infinity by name."""
        check_losses(losses)
        return super().parse_losses(losses)

    def predict(self, images: Tensor, samples: Sequence[Sample]) -> list[Prediction]:
        """Return one prediction an image, in its original frame."""
        text = self.text_encoder(shared_vocabulary(samples))

        def network(inputs: Tensor) -> Any:
            return self.head(self.encode(inputs), text)

        outputs = self.inference(network, images, samples, self.data_preprocessor.shift)
        return self.head.postprocess(outputs, samples)

    def compute_in(self, dtype: torch.dtype) -> "OpenVocabModel":
        """Get ready to predict, and only that: cast backbone and head, and bring their layers into their fastest form.

        Batch norms go into the convolutions before them, QuickGELU into the linear layers around it, and linear layers
        are packed for the processor. Texts and pixel statistics stay float32: their rounding would cost labels and save
        nothing.
        """
        self.eval()
        self.backbone.fold_batch_norms()
        for part in (self.backbone, self.head):
            fold_quick_gelu(part)
            part.to(dtype)
            part.pack_linears()
        return self

    def summary(self) -> str:
        """Return the parts with their parameter counts, for the log."""
        rows = []
        for name in ("backbone", "text_encoder", "head"):
            part = getattr(self, name)
            total = sum(p.numel() for p in part.parameters())
            trained = sum(p.numel() for p in part.parameters() if p.requires_grad)
            rows.append(f"{name}: {type(part).__name__}, {total / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained")
        return "\n".join(rows)
