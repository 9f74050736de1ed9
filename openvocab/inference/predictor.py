"""A trained model as a function of an image and a list of names."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mmengine.config import Config
from torch import Tensor

from openvocab.checkpoint import check_same_weights, load_state_dict
from openvocab.config import read_config
from openvocab.inference.image_input import rgb_image
from openvocab.registry import MODELS, TRANSFORMS
from openvocab.start_weights import start_weights
from openvocab.structures import Prediction, Sample, Size
from openvocab.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openvocab.model import OpenVocabModel

Classes = str | Sequence[str | Sequence[str]] | Vocabulary
"""`"cat, sofa | couch, floor"`, a list of names or of lists of synonyms, or a vocabulary."""


def load(
    config: str | PathLike | Config,
    checkpoint: str | PathLike | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
) -> "Predictor":
    """Build the model of a config for prediction.

    Nothing of the process changes: neither its random generators nor torch's settings. Where float32 matrix products in
    `torch.set_float32_matmul_precision("medium")` are exact and faster, that setting is the host's to make; our tools
    make it for themselves.

    Args:
        config: path of a config file (it is code: use only files that you trust), or a config.
        checkpoint: weights of the whole model, ours or converted; None keeps those that the config starts from.
        device: default: CUDA where there is one, else the CPU.
        dtype: of backbone and head; `torch.bfloat16` is about twice as fast on GPUs and on CPUs with AVX-512 BF16.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: a config without a model, or a checkpoint of another model; the message lists the differences.
    """
    config = config if isinstance(config, Config) else read_config(config)
    weights = None if checkpoint is None else load_state_dict(checkpoint)
    with start_weights(read=weights is None), torch.random.fork_rng(devices=[]):  # the host's draws stay as they were
        model = MODELS.build(config.model)
        transforms = [TRANSFORMS.build(step) for step in resizing_steps(config)]
    if weights is not None:
        check_same_weights(model.state_dict(), weights, str(checkpoint))
        model.load_state_dict(weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Predictor(model.to(device).compute_in(dtype), transforms)


class Predictor:
    """Give it an image and the classes you care about.

    Args:
        model: on its device; put into evaluation mode.
        transforms: what the test pipeline does between loading and packing (resizing), mmcv's protocol.
    """

    def __init__(self, model: "OpenVocabModel", transforms: Sequence[Callable[[dict], dict]] = ()) -> None:
        self.model = model.eval()
        self.transforms = tuple(transforms)

    def __call__(self, image: Any, classes: Classes) -> Prediction:
        """Predict one image.

        Args:
            image: a path, PIL image, numpy array or tensor; see `rgb_image`.
            classes: names, e.g. `"cat, sofa, floor"`; add a name such as "other" for everything else.

        Returns:
            The head's prediction in the frame of the image: for a dense head a `SemanticPrediction`.

        Raises:
            TypeError, ValueError: an image or a list of names that cannot be used; the message says what and where.
        """
        return self.predict_batch([image], classes)[0]

    @torch.inference_mode()
    def predict_batch(self, images: Sequence[Any], classes: Classes, batch_size: int = 8) -> list[Prediction]:
        """Predict several images with one list of names.

        Images of equal size go through the network together, up to `batch_size`; none is padded to the size of another,
        so that a prediction does not depend on its neighbours.
        """
        vocabulary = as_vocabulary(classes)
        items = [self._item(image, vocabulary, index) for index, image in enumerate(images)]
        predictions: list[Any] = [None] * len(items)
        for chosen in _equal_sizes(items, batch_size):
            group = {"image": [items[index][0] for index in chosen], "sample": [items[index][1] for index in chosen]}
            for index, prediction in zip(chosen, self.model.test_step(group)):
                predictions[index] = prediction
        return predictions

    def _item(self, image: Any, vocabulary: Vocabulary, index: int) -> tuple[Tensor, Sample]:
        """Return the network's input (3, H, W) uint8 and the sizes that belong to it."""
        results = {"img": rgb_image(image)}
        original_size = results["img"].shape[:2]
        for transform in self.transforms:
            results = transform(results)
        path = str(image) if isinstance(image, (str, Path)) else ""
        tensor = torch.from_numpy(results["img"]).permute(2, 0, 1)  # (3, H, W)
        sample = Sample(path or f"image {index}", vocabulary, original_size, tuple(tensor.shape[1:]), image_path=path)
        return tensor, sample


def as_vocabulary(classes: Classes) -> Vocabulary:
    """Make a vocabulary of what a user types.

    Raises:
        TypeError: neither text, a list nor a vocabulary.
        ValueError: see `Vocabulary`; the message gives the index of the name.
    """
    if isinstance(classes, Vocabulary):
        return classes
    if isinstance(classes, str):
        return Vocabulary.from_text(classes)
    if isinstance(classes, (list, tuple)):
        return Vocabulary.from_names(classes)
    raise TypeError(f'classes: expected "cat, sofa", a list of names or a Vocabulary, got {type(classes).__name__}')


def _equal_sizes(items: Sequence[tuple[Tensor, Sample]], batch_size: int) -> Iterator[list[int]]:
    """Yield the indices of items with one input size, at most `batch_size` at once."""
    groups: dict[Size, list[int]] = {}
    for index, (_, sample) in enumerate(items):
        groups.setdefault(sample.input_size, []).append(index)
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            yield group[start : start + batch_size]


def resizing_steps(config: Config) -> list[dict]:
    """Return the steps of the config's test pipeline that set the size of what the network sees."""
    dataset = config.get("test_dataloader", {}).get("dataset", {})
    return [step for step in dataset.get("pipeline", []) if _type_name(step) in ("Resize", "ResizeCenterCrop")]


def _type_name(step: dict) -> str:
    kind = step["type"]
    return kind.split(".")[-1] if isinstance(kind, str) else kind.__name__
