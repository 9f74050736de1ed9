"""From network outputs to predictions in the original frame of each image."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from openvocab.logit_map import LogitMap, TensorLogits, label_map_in_parts
from openvocab.ops.label_upsampling import sampling_positions
from openvocab.process.memory_fallback import Halving
from openvocab.structures import ClassificationPrediction, Sample, SemanticPrediction, Size

MOST_CLASSES_OF_UINT8 = 255  # the largest value means that a pixel has no label
MOST_CLASSES_OF_UINT16 = 2**16


def label_map_from_logits(
    logits: Tensor | LogitMap,
    out_size: Size,
    *,
    input_size: Size | None = None,
    padded_size: Size | None = None,
    align_corners: bool = False,
    rows_at_once: Halving | None = None,
) -> Tensor:
    """Label every pixel of the output by bilinear interpolation of `logits` and argmax, without a (K, H, W) map.

    There is one interpolation: the center of each output pixel is mapped to the network's input and from there to the
    grid of the logits. With `input_size` equal to `out_size` the labels are those of
    `F.interpolate(logits, padded_size)[..., :H, :W].argmax`, up to ties.

    Args:
        logits: (K, h, w) over the padded input of the network. Labels do not change under softmax or temperature.
            A `LogitMap` is read part by part, and never exists as a whole.
        out_size: of the label map.
        input_size: the part of the padded input, from the upper left corner, that the output shows; default: all.
        padded_size: what the logits cover; default: `input_size`, or `out_size` where that is not given either.
        align_corners: as in `F.interpolate`; in both steps of the mapping.
        rows_at_once: what memory has taught about earlier maps.

    Returns:
        (H, W) uint8 for up to 255 classes, int16 up to 32767, else int32, on the device of the logits.

    Raises:
        ValueError: wrong number of dimensions, an empty size, NaN or infinite logits, an input larger than its padding.
    """
    input_size = input_size or (out_size if padded_size is None else padded_size)
    padded_size = padded_size or input_size
    _check(logits, out_size, input_size, padded_size)
    rows, columns = (
        sampling_positions(*sizes, align_corners, logits.device)
        for sizes in zip(out_size, input_size, padded_size, logits.shape[1:])
    )
    logits = TensorLogits(logits) if isinstance(logits, Tensor) else logits
    return label_map_in_parts(logits, rows, columns, rows_at_once or Halving("rows of logits"))


def semantic_predictions(
    logits: Tensor | Sequence[LogitMap],
    samples: Sequence[Sample],
    align_corners: bool = False,
    rows_at_once: Halving | None = None,
) -> list[SemanticPrediction]:
    """Turn the logits of a batch into label maps in the original frame of each image.

    Args:
        logits: (B, K, h, w), any h and w; they cover each sample's `padded_size`. Or a `LogitMap` for each image.
        samples: B samples with their vocabulary and sizes.
        align_corners, rows_at_once: see `label_map_from_logits`.

    Raises:
        ValueError: another number of samples or classes than the logits hold; NaN or infinite logits.
    """
    if isinstance(logits, Tensor):
        if logits.ndim != 4 or len(logits) != len(samples):
            raise ValueError(f"expected logits (B, K, h, w) with B = {len(samples)} samples, got {tuple(logits.shape)}")
        logits = logits.detach()
    predictions = []
    for image_logits, sample in zip(logits, samples, strict=True):
        num_classes = image_logits.shape[0]
        if sample.vocabulary is None or len(sample.vocabulary) != num_classes:
            known = "none" if sample.vocabulary is None else f"{len(sample.vocabulary)} classes"
            raise ValueError(f"{num_classes} logits a pixel, but the vocabulary of {sample.sample_id!r}: {known}")
        label_map = label_map_from_logits(
            image_logits,
            sample.original_size,
            input_size=sample.input_size,
            padded_size=sample.padded_size,
            align_corners=align_corners,
            rows_at_once=rows_at_once,
        )
        predictions.append(semantic_prediction(label_map, sample))
    return predictions


def semantic_prediction(label_map: Tensor, sample: Sample) -> SemanticPrediction:
    """Return the prediction of a label map (H, W) of integers, in the unsigned type that holds all classes."""
    return SemanticPrediction(_unsigned(label_map, len(sample.vocabulary)), sample.vocabulary, sample.sample_id)


def classification_predictions(logits: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
    """Take the logits (B, K) of a batch of whole images apart, on the CPU in float32.

    Raises:
        ValueError: another number of samples than rows.
    """
    rows = logits.detach().float().cpu()
    return [
        ClassificationPrediction(row, sample.vocabulary, sample.sample_id)
        for row, sample in zip(rows, samples, strict=True)
    ]


def _check(logits: Tensor | LogitMap, out_size: Size, input_size: Size, padded_size: Size) -> None:
    if isinstance(logits, Tensor) and (logits.ndim != 3 or 0 in logits.shape or not logits.is_floating_point()):
        raise ValueError(f"expected floating-point logits (K, h, w), got {logits.dtype} {tuple(logits.shape)}")
    if min(*out_size, *input_size) < 1 or any(part > whole for part, whole in zip(input_size, padded_size)):
        raise ValueError(f"sizes do not fit: output {out_size}, input {input_size}, padded input {padded_size}")


def _unsigned(label_map: Tensor, num_classes: int) -> np.ndarray:
    """Return a label map in the unsigned type that holds all classes."""
    labels = label_map.cpu().numpy()
    wide = np.uint16 if num_classes <= MOST_CLASSES_OF_UINT16 else np.uint32
    dtype = np.dtype(np.uint8 if num_classes <= MOST_CLASSES_OF_UINT8 else wide)
    if labels.itemsize != dtype.itemsize:
        return labels.astype(dtype)
    return labels.view(dtype)  # no copy: a large image's label map is one of the largest things here
