"""A trained model as a function of an image and a list of names."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from openvocab.checkpoint.checkpoint import load_checkpoint, load_state_dict
from openvocab.checkpoint.start_weights import start_weights
from openvocab.checkpoint.strict_loading import check_same_weights
from openvocab.config.config import read_config, test_pipeline
from openvocab.config.saved import building_from_file, config_of
from openvocab.datasets.contracts import packs, reads_files
from openvocab.images.image_input import bgr_image, checked_path, is_path
from openvocab.images.image_io import BadSample
from openvocab.process.bfloat16_probe import faster_dtype
from openvocab.registry import MODELS, TRANSFORMS
from openvocab.structures import Prediction, Sample, Size
from openvocab.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openvocab.model import OpenVocabModel

logger = logging.getLogger(__name__)

Transform = Callable[[dict], dict]
Classes = str | Sequence[str | Sequence[str]] | Vocabulary
"""`"cat, sofa | couch, floor"`, a list of names or of lists of synonyms, or a vocabulary."""
CHECKPOINT_ENDINGS = (".pth", ".pt", ".ckpt", ".safetensors")
"""By which `load` tells a checkpoint given alone from a config."""


def load(
    config: str | PathLike | Config | None = None,
    checkpoint: str | PathLike | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
) -> "Predictor":
    """Build the model of a config, or of a checkpoint alone, for prediction: `load("best.pth")`.

    Nothing of the process changes: neither its random generators nor torch's settings. Where float32 matrix products in
    `torch.set_float32_matmul_precision("medium")` are exact and faster, that setting is the host's to make; our tools
    make it for themselves.

    Args:
        config: path of a config file (it is code: use only files that you trust), or a config. A path that ends
            in .pth, .pt or .ckpt is a checkpoint of our training; the model is then built from the config inside it,
            which is checked data: nothing of it is run or imported.
        checkpoint: weights of the whole model, ours or converted; None keeps those that the config starts from. Given
            without a config it must be a checkpoint of our training, as above.
        device: default: CUDA where there is one, else the CPU.
        dtype: of backbone and head; `torch.bfloat16` is about twice as fast on GPUs and on CPUs with AVX-512 BF16, and
            three times as slow on other CPUs. "auto" takes it where a probe shows it to be faster on the device.

    Raises:
        FileNotFoundError: no such config or checkpoint.
        ValueError: a config without a model, a checkpoint of another model (the message counts the differences), one
            without a config where none is given, one whose config names a class that is not registered, or another word
            for `dtype`.
    """
    if dtype != "auto" and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype: expected 'auto' or a torch.dtype such as torch.bfloat16, got {dtype!r}")
    if checkpoint is None and isinstance(config, (str, PathLike)) and Path(config).suffix in CHECKPOINT_ENDINGS:
        config, checkpoint = None, config
    alone = config is None
    if alone:
        config, weights = _of_checkpoint_alone(checkpoint)
    else:
        config = config if isinstance(config, Config) else read_config(config)
        weights = None if checkpoint is None else load_state_dict(checkpoint)
    distrust = building_from_file(str(checkpoint)) if alone else nullcontext()
    host_draws = torch.random.fork_rng(devices=[])  # they stay as they were
    with start_weights(read=weights is None), distrust, host_draws:
        model = MODELS.build(config.model)
        with start_weights(read=True):  # a teacher in the pipeline has weights that no checkpoint of the model holds
            pipeline = [TRANSFORMS.build(step) for step in test_pipeline(config)]
    if weights is not None:
        check_same_weights(model.state_dict(), weights, str(checkpoint))
        model.load_state_dict(weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = faster_dtype(device, "predictions are computed")
    return Predictor(model.to(device).compute_in(dtype), pipeline)


def _of_checkpoint_alone(path: str | PathLike | None) -> tuple[Config, dict[str, Tensor]]:
    if path is None:
        raise ValueError("load: expected a config, a checkpoint, or both")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    content = {} if Path(path).suffix == ".safetensors" else load_checkpoint(path)
    config = config_of(content, str(path))
    return config, content.get("state_dict") or {}


class Predictor:
    """Give it an image and the classes you care about.

    Args:
        model: on its device; put into evaluation mode.
        pipeline: a test pipeline, mmcv's protocol: transforms from `img_path` or `img` to `{"image", "sample"}`.
            Where no step reads the file, as in that of a dataset which brings images along, it is read first; where
            none packs, packing comes last. Default: these two alone.
    """

    def __init__(self, model: "OpenVocabModel", pipeline: Sequence[Transform] = ()) -> None:
        self.model, self.pipeline = model.eval(), tuple(pipeline)

    def __call__(self, image: Any, classes: Classes) -> Prediction:
        """Predict one image.

        Args:
            image: a path, the bytes of an image file, an open file, a PIL image, a numpy array or a tensor; see
                `rgb_image`. A file is read by the pipeline, as in a test.
            classes: names, e.g. `"cat, sofa, floor"`; add a name such as "other" for everything else.

        Returns:
            The head's prediction in the frame of the image: for a dense head a `SemanticPrediction`.

        Raises:
            TypeError, ValueError: an image or a list of names that cannot be used; the message says what and where.
            NotEnoughMemory: an image that is too large for the memory there is, even in pieces.
        """
        vocabulary = as_vocabulary(classes)
        return self._predict([self.prepare(image, vocabulary)])[0]

    def predict_batch(self, images: Iterable[Any], classes: Classes, batch_size: int = 8) -> list[Prediction]:
        """Predict several images with one list of names.

        Images of equal size go through the network together, up to `batch_size`; none is padded to the size of another,
        so that a prediction does not depend on its neighbors. No more than four batches of images are held at a time.

        Raises:
            TypeError, ValueError: as for one image, with the number of the image, counted from 0. Nothing is returned
                then: to keep what the other images give, predict them one by one.
        """
        if is_path(images):
            raise TypeError(f"expected a list of images, got one path, {images!s}; put it in a list")
        vocabulary = as_vocabulary(classes)
        predictions: dict[int, Prediction] = {}
        for numbers, items in self.batches(images, vocabulary, batch_size):
            predictions.update(zip(numbers, self._predict(items)))
        return [predictions[index] for index in range(len(predictions))]

    def encode_image(self, images: Any, *, normalize: bool = False, batch_size: int = 8) -> Tensor:
        """Embed whole images in the space of the texts, as CLIP's method of this name does.

        Args:
            images: one image, or a list or iterator of images, of any kind that `__call__` takes.
            normalize: give every row unit norm.

        Returns:
            (N, D) float32 on the CPU, one row per image, also of one; not normalized by default.

        Raises:
            TypeError, ValueError: as `predict_batch`; or a model that has no embedding of whole images.
        """
        rows: dict[int, Tensor] = {}
        for numbers, items in self.batches(as_list(images), None, batch_size):
            rows.update(zip(numbers, self.embed_prepared(items)))
        if not rows:
            raise ValueError("expected at least one image, got none")
        embed = torch.stack([rows[index] for index in range(len(rows))])
        return F.normalize(embed, dim=-1) if normalize else embed

    @torch.no_grad()
    def encode_text(self, texts: str | Sequence[str], *, normalize: bool = False) -> Tensor:
        """Embed texts as they are, without templates, as CLIP's method of this name does with their tokens.

        Args:
            normalize: give every row unit norm.

        Returns:
            (N, D) float32 on the CPU, one row per text, also of one; not normalized by default.

        Raises:
            ValueError: no text, an empty one, or a model that knows class names only.
        """
        embed = self.model.text_encoder.embed([texts] if isinstance(texts, str) else list(texts)).cpu()
        return F.normalize(embed, dim=-1) if normalize else embed

    def batches(
        self, images: Iterable[Any], vocabulary: Vocabulary | None, batch_size: int, skip_bad: bool = False
    ) -> Iterator[tuple[list[int], list[tuple[Tensor, Sample]]]]:
        """Prepare images and yield those of equal size together: their numbers from 0 on, and what `prepare` made.

        No more than four batches are held at a time, so that sizes may come in any order.

        Args:
            skip_bad: leave images out that cannot be read, with a warning, instead of raising.

        Raises:
            TypeError, ValueError: see `predict_batch`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        waiting: dict[Size, list[tuple[int, tuple[Tensor, Sample]]]] = {}

        def take(size: Size) -> tuple[list[int], list[tuple[Tensor, Sample]]]:
            numbers, items = zip(*waiting.pop(size))
            return list(numbers), list(items)

        for index, image in enumerate(images):
            try:
                item = self._prepare_numbered(image, vocabulary, index)
            except BadSample as error:
                if not skip_bad:
                    raise
                logger.warning(f"left out: {error}")
                continue
            size = tuple(item[0].shape[-2:])
            waiting.setdefault(size, []).append((index, item))
            if len(waiting[size]) == batch_size:
                yield take(size)
            elif sum(map(len, waiting.values())) >= 3 * batch_size:  # the fourth is with whoever reads this
                yield take(next(iter(waiting)))
        while waiting:
            yield take(next(iter(waiting)))

    @torch.no_grad()
    def embed_prepared(self, items: Sequence[tuple[Tensor, Sample]]) -> Tensor:
        """Embed images of one size that `prepare` made: (N, D) float32 on the CPU, not normalized."""
        images, samples = zip(*items)
        batch = self.model.data_preprocessor.pixels({"image": list(images), "sample": list(samples)})
        return self.model.embed_images(batch["images"]).cpu()

    def prepare(self, image: Any, vocabulary: Vocabulary | None = None, index: int = 0) -> tuple[Tensor, Sample]:
        """Run the pipeline on an image, and return the network's input (3, H, W) uint8 and the sizes that belong to it.

        Args:
            index: names the sample where the image has no path.

        Raises:
            TypeError, ValueError: see `__call__`; also a transform that needs more than an image.
        """
        if is_path(image):
            path = checked_path(image)
            results: dict[str, Any] = {"img_path": path, "sample_id": path}
        else:
            results = {"img": bgr_image(image), "img_path": "", "sample_id": f"image {index}"}
        if vocabulary is not None:
            results["vocabulary"] = vocabulary
        results, size = _run(self.pipeline, results)
        # predictions lie in the frame of the image given, also where a protocol scores in another one
        return results["image"], dataclasses.replace(results["sample"], original_size=size, vocabulary=vocabulary)

    def _prepare_numbered(self, image: Any, vocabulary: Vocabulary, index: int) -> tuple[Tensor, Sample]:
        try:
            return self.prepare(image, vocabulary, index)
        except BadSample as error:
            raise BadSample(error.path, f"{error.reason} (image {index} of those given)") from error
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"image {index}: {error}") from error

    @torch.inference_mode()
    def _predict(self, items: Sequence[tuple[Tensor, Sample]]) -> list[Prediction]:
        """Predict images of one size."""
        images, samples = zip(*items)
        return self.model.test_step({"image": list(images), "sample": list(samples)})


def as_list(images: Any) -> Iterable[Any]:
    """Return the images of a list, tuple or iterator, and a list of anything else, which is one image."""
    is_open_file = hasattr(images, "read")  # which iterates over lines
    many = isinstance(images, (list, tuple)) or (isinstance(images, Iterator) and not is_open_file)
    return images if many else [images]


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


def image_steps(config: Config) -> list[Mapping[str, Any]]:
    """Return the steps of the test pipeline between reading files and packing, on which depends what a network sees."""
    kinds = [(step, step["type"]) for step in test_pipeline(config)]
    resolved = [(step, TRANSFORMS.get(kind) if isinstance(kind, str) else kind) for step, kind in kinds]
    return [step for step, kind in resolved if not reads_files(kind) and not packs(kind)]


class _NothingRead(ValueError):
    """A step needs an image, and no step before it has read one."""


def _run(pipeline: Sequence[Transform], results: dict[str, Any]) -> tuple[dict[str, Any], Size]:
    """Return what a pipeline makes of the image alone, and the size of the image as it was read.

    Only running the steps of a whole pipeline tells whether one of them reads the file: a user's own need not say so.
    """
    from openvocab.datasets.transforms import LoadImage  # here: transforms cost mmcv, which a first import spares

    is_whole = any(packs(step) or reads_files(step) for step in pipeline)
    if is_whole and "img" not in results:
        with suppress(_NothingRead):
            return _run_steps(pipeline, dict(results))
    return _run_steps(pipeline, LoadImage()(results))


def _run_steps(pipeline: Sequence[Transform], results: dict[str, Any]) -> tuple[dict[str, Any], Size]:
    from openvocab.datasets.transforms import PackSample

    size = _image_size(results)
    for transform in (*pipeline, PackSample()):
        if "sample" in results:
            break
        name = type(transform).__name__
        try:
            results = transform(results)
        except KeyError as error:
            kind = ValueError if size else _NothingRead
            raise kind(f"{name} of the test pipeline needs {error}, which an image alone does not have") from error
        if results is None:
            raise ValueError(f"{name} of the test pipeline returned None, which leaves the image out")
        size = size or _image_size(results)
    return results, size


def _image_size(results: Mapping[str, Any]) -> Size | None:
    image = results.get("img")
    return tuple(image.shape[:2]) if isinstance(image, np.ndarray) else None
