"""From a photo to boxes and masks: ViLD's detector on a ResNet-50 with a feature pyramid."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import maskrcnn_resnet50_fpn

from benchmarks.comparison import Row, Sides
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.predictor import Predictor
from openvocab.structures import DetectionPrediction, Size, TextFeatures, known
from openvocab.text.base import TextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary

PEER_CLASSES = 91
DETECTIONS = 100


class RandomRows(TextEncoder):
    """One random embedding per class: encoding texts is another row of the benchmark."""

    rows: Tensor

    def __init__(self, num_classes: int, embed_dim: int = 512) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        rows = torch.randn(num_classes, embed_dim, generator=torch.Generator().manual_seed(0))
        self.register_buffer("rows", torch.nn.functional.normalize(rows, dim=1))

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Return the first embeddings (K, D)."""
        return TextFeatures(self.rows[: len(texts)], torch.ones(()))


def prepare(dtype: torch.dtype, size: Size = (800, 1333), num_classes: int = 1203, device: str = "cpu") -> Sides:
    """Compare with torchvision's Mask R-CNN, which has the same layers and 91 classes; weights are random."""
    torch.manual_seed(0)
    peer_model = (
        maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=PEER_CLASSES,
            box_score_thresh=0.0,
            box_detections_per_img=DETECTIONS,
            min_size=min(size),
            max_size=max(size),
        )
        .eval()
        .to(device)
    )
    vocabulary = Vocabulary.from_names([f"class {number}" for number in range(num_classes)])
    predictor = Predictor(resnet50_detector(num_classes).to(device).compute_in(dtype))
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255  # (3, H, W)

    @torch.inference_mode()
    def peer() -> dict[str, Tensor]:
        return peer_model([pixels.to(device)])[0]

    def ours() -> DetectionPrediction:
        prediction = predictor(image, vocabulary)
        if not isinstance(prediction, DetectionPrediction):
            raise TypeError(f"expected a detector, got a model that returns a {type(prediction).__name__}")
        return prediction

    return Sides(peer, ours, _missing_detections)


def resnet50_detector(num_classes: int) -> OpenVocabModel:
    """Build ViLD-text with the layers of torchvision's Mask R-CNN."""
    return OpenVocabModel(
        backbone=TimmBackbone("resnet50"),
        text_encoder=RandomRows(num_classes),
        head=dict(
            type=ViLDHead,
            variant="text",
            detector=dict(
                pyramid=dict(layers=(1, 2, 3, 4)),
                box_head=dict(convs=0),
                masks=dict(),
                detections=dict(max_detections=DETECTIONS),
            ),
        ),
    )


def _missing_detections(expected: dict[str, Tensor], got: DetectionPrediction) -> float:
    """Return the difference in the number of objects, plus the masks of other sizes, as a fraction of the expected."""
    masks = known(got.masks, "masks of our prediction")
    of_other_size = sum(tuple(mask["size"]) != tuple(expected["masks"].shape[-2:]) for mask in masks)
    return (abs(len(expected["boxes"]) - len(got.boxes)) + of_other_size) / max(1, len(expected["boxes"]))


_NOTE = "1203 classes, the peer 91; 100 masks; the weights differ, so that the error compares numbers of objects"
ROWS = (
    Row(
        "mask_rcnn_fp32", 1.0, partial(prepare, torch.float32), products="float32", repeats=3, note=_NOTE, on_cuda=True
    ),
    Row(
        "mask_rcnn_bf16",
        1.0,
        partial(prepare, torch.bfloat16),
        products="bfloat16",
        repeats=3,
        note=_NOTE,
        on_cuda=True,
    ),
)
