"""From network outputs to predictions in the original frame of each image."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from openvocab.logit_map import ChangedLogits, LogitMap, ResizedLogits, TensorLogits, label_map_in_parts
from openvocab.ops.label_upsampling import sampling_positions
from openvocab.process.memory_fallback import Halving
from openvocab.structures import ClassificationPrediction, Sample, SemanticPrediction, Size, known

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

    There is a single interpolation: the center of each output pixel is mapped to the network's input and from there to
    the grid of the logits. If `input_size` equals `out_size`, the labels are those of
    `F.interpolate(logits, padded_size)[..., :H, :W].argmax`, up to ties.

    Args:
        logits: (K, h, w) over the padded input of the network; a softmax or temperature would not change the labels.
            A `LogitMap` is read part by part and never materialized.
        out_size: of the label map.
        input_size: the part of the padded input, from the upper left corner, that the output shows; default: all.
        padded_size: what the logits cover; default: `input_size`, or `out_size` if that is not given either.
        align_corners: as in `F.interpolate`; in both steps of the mapping.
        rows_at_once: limit that earlier maps have taught; reduced if memory does not suffice.

    Returns:
        (H, W) uint8 for up to 255 classes, int16 up to 32767, else int32, on the device of the logits.

    Raises:
        ValueError: wrong number of dimensions, an empty size, NaN or infinite logits, an input larger than its padding.
    """
    input_size = input_size or (out_size if padded_size is None else padded_size)
    padded_size = padded_size or input_size
    _check(logits, out_size, input_size, padded_size)
    # (H,) and (W,) positions, in units of the nodes of the logits
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
        logits: (B, K, h, w), any h and w; they cover each sample's `padded_size`. Or a `LogitMap` per image.
        samples: B samples with their vocabulary and sizes.
        align_corners, rows_at_once: see `label_map_from_logits`.

    Returns:
        B predictions with label maps (H, W) of each sample's `original_size`.

    Raises:
        ValueError: the numbers of samples or classes differ from those of the logits; NaN or infinite logits.
    """
    if isinstance(logits, Tensor):
        if logits.ndim != 4 or len(logits) != len(samples):
            raise ValueError(f"expected logits (B, K, h, w) with B = {len(samples)} samples, got {tuple(logits.shape)}")
        logits = logits.detach()
    predictions = []
    for image_logits, sample in zip(logits, samples, strict=True):
        num_classes = image_logits.shape[0]
        if sample.vocabulary is None or len(sample.vocabulary) != num_classes:
            count = (
                "no vocabulary" if sample.vocabulary is None else f"a vocabulary of {len(sample.vocabulary)} classes"
            )
            raise ValueError(f"{num_classes} logits per pixel, but sample {sample.sample_id!r} has {count}")
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


def predictions_with_softmax(
    logits: Tensor | Sequence[LogitMap],
    samples: Sequence[Sample],
    align_corners: bool = False,
    rows_at_once: Halving | None = None,
) -> Iterator[tuple[SemanticPrediction, LogitMap]]:
    """Return `semantic_predictions`, each with its `softmax_maps`: `Head.predictions_with_scores` of most dense heads.

    Args and errors: those of `semantic_predictions`.
    """
    predictions = semantic_predictions(logits, samples, align_corners, rows_at_once)
    return zip(predictions, softmax_maps(logits, samples, align_corners), strict=True)


def original_frame(
    outputs: Tensor | Sequence[LogitMap], samples: Sequence[Sample], align_corners: bool = False
) -> list[LogitMap]:
    """Return the outputs of a dense head for each image in its original frame, resized where they are read.

    Args:
        outputs: (B, K, h, w) over the padded images, or a map per image.
        samples: B.
        align_corners: see `label_map_from_logits`.

    Returns:
        B maps (K, H, W), each of the `original_size` of its sample.
    """
    maps = [TensorLogits(part.detach()) if isinstance(part, Tensor) else part for part in outputs]
    return [
        ResizedLogits(part, sample.original_size, sample.input_size, sample.padded_size, align_corners)
        for part, sample in zip(maps, samples, strict=True)
    ]


def softmax_maps(
    logits: Tensor | Sequence[LogitMap], samples: Sequence[Sample], align_corners: bool = False
) -> list[LogitMap]:
    """Return the softmax over the classes of logits in the original frame of each image, see `original_frame`."""
    maps = original_frame(logits, samples, align_corners)
    return [ChangedLogits(part, _softmax) for part in maps]


def _softmax(logits: Tensor) -> Tensor:
    return logits.float().softmax(dim=0)


def semantic_prediction(label_map: Tensor, sample: Sample) -> SemanticPrediction:
    """Return the prediction of a label map (H, W) of integers, in the unsigned type that holds all classes."""
    vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
    return SemanticPrediction(_unsigned(label_map, len(vocabulary)), vocabulary, sample.sample_id)


def classification_predictions(logits: Tensor, samples: Sequence[Sample]) -> list[ClassificationPrediction]:
    """Return one prediction per row of logits (B, K) of whole images, on the CPU in float32.

    Raises:
        ValueError: the number of samples is not B, or a sample has no vocabulary.
    """
    predictions = []
    # one transfer from the device for the whole batch
    for row, sample in zip(logits.detach().float().cpu(), samples, strict=True):
        vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
        predictions.append(ClassificationPrediction(row, vocabulary, sample.sample_id))
    return predictions


def _check(logits: Tensor | LogitMap, out_size: Size, input_size: Size, padded_size: Size) -> None:
    if isinstance(logits, Tensor) and (logits.ndim != 3 or 0 in logits.shape or not logits.is_floating_point()):
        raise ValueError(f"expected floating-point logits (K, h, w), got {logits.dtype} {tuple(logits.shape)}")
    if min(*out_size, *input_size) < 1 or any(part > full for part, full in zip(input_size, padded_size)):
        raise ValueError(f"sizes do not fit: output {out_size}, input {input_size}, padded input {padded_size}")


def _unsigned(label_map: Tensor, num_classes: int) -> np.ndarray:
    """Return a label map in the unsigned type that holds all classes."""
    labels = label_map.cpu().numpy()
    wide = np.uint16 if num_classes <= MOST_CLASSES_OF_UINT16 else np.uint32
    dtype = np.dtype(np.uint8 if num_classes <= MOST_CLASSES_OF_UINT8 else wide)
    if labels.itemsize != dtype.itemsize:
        return labels.astype(dtype)
    return labels.view(dtype)  # no copy: the label map of a large image is one of the largest arrays here
