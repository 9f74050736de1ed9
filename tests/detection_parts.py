"""Small detectors and batches for the tests of detection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.structures import BackboneSpec, ImageFeatures, Instances, Regions, Sample, Size, TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

SPEC = BackboneSpec(None, 16, (6, 8, 10), (4, 8, 16))
TEXT_DIM = 12
NAMES = ("cat", "dog", "lamp", "sofa", "bus")
VOCABULARY = Vocabulary.from_names(NAMES)
WITH_UNSEEN = Vocabulary.from_names(NAMES, unseen=["lamp", "bus"])
DETECTOR = dict(
    pyramid=dict(layers=(0, 1, 2), dim=8),
    proposals=dict(
        anchor_sizes=(16, 24, 32, 48), pre_nms_top_n=(60, 50), post_nms_top_n=(40, 30), batch_size_per_image=32
    ),
    align=dict(canonical_size=32, canonical_stride=8),
    box_head=dict(convs=1, conv_dim=8, layers=2, dim=20),
    masks=dict(dim=8, convs=1),
    sampling=dict(batch_size_per_image=24),
    detections=dict(max_detections=15),
)


def detector_args(**changes) -> dict:
    return {**DETECTOR, **changes}


def enliven(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every weight a size at which its part matters; detectors start from almost zero."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 25
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.5 / fan_in) ** 0.5)
    return module


def make_features(size: Size = (64, 96), batch: int = 2, seed: int = 0, spec: BackboneSpec = SPEC) -> ImageFeatures:
    generator = torch.Generator().manual_seed(seed)
    grids = [(size[0] // stride, size[1] // stride) for stride in spec.hidden_strides]
    maps = [torch.randn(batch, dim, *grid, generator=generator) for dim, grid in zip(spec.hidden_dims, grids)]
    return ImageFeatures(size, hidden=dict(enumerate(maps)))


def make_text(count: int = len(NAMES), dim: int = TEXT_DIM, seed: int = 0) -> TextFeatures:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    empty = torch.randn(dim, generator=torch.Generator().manual_seed(1000))
    return TextFeatures(F.normalize(rows, dim=1), torch.tensor(100.0), empty=F.normalize(empty, dim=0))


def make_boxes(count: int, size: Size, seed: int = 0, sides: tuple[int, int] = (10, 40)) -> Tensor:
    """Return boxes (count, 4) with whole corners inside `size` (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(*sides, (count, 2), generator=generator)
    corners = (torch.rand(count, 2, generator=generator) * (torch.tensor(size[::-1]) - lengths)).floor()
    return torch.cat([corners, corners + lengths], dim=1).float()


def box_masks(boxes: Tensor, size: Size) -> Tensor:
    """Return masks (N, H, W) of ellipses that touch the four sides of boxes (N, 4)."""
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    across = (x - center[:, 0, None, None]) / half[:, 0, None, None]
    down = (y - center[:, 1, None, None]) / half[:, 1, None, None]
    return across**2 + down**2 <= 1


def make_instances(count: int, size: Size, seed: int = 0, num_classes: int = len(NAMES)) -> Instances:
    boxes = make_boxes(count, size, seed)
    classes = torch.randint(0, num_classes, (count,), generator=torch.Generator().manual_seed(seed))
    return Instances(boxes, classes, box_masks(boxes, size))


def make_regions(count: int, size: Size, seed: int = 0, dim: int = TEXT_DIM) -> Regions:
    embed = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return Regions(make_boxes(count, size, seed + 50), F.normalize(embed, dim=1))


def make_samples(
    size: Size = (64, 96), batch: int = 2, vocabulary: Vocabulary = VOCABULARY, objects: int = 3, regions: int = 4
) -> list[Sample]:
    """Return samples whose original images are larger than `size` (H, W) by another factor along each side."""
    return [
        Sample(
            f"image{i}",
            vocabulary,
            original_size=(size[0] + 10, 2 * size[1]),
            input_size=size,
            padded_size=size,
            instances=make_instances(objects, size, seed=i, num_classes=len(vocabulary)),
            regions=make_regions(regions, size, seed=i),
        )
        for i in range(batch)
    ]


def total(losses: dict[str, Tensor]) -> Tensor:
    return sum(losses.values())
