"""A trained model as a function of an image and a list of class names."""

import dataclasses
import logging
import os
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
"""File name extensions by which `load` tells a checkpoint from a config, if only one of them is given."""
Prepared = tuple[Tensor, Sample]
"""What `Predictor.prepare` returns for an image: the network's input (3, H, W) uint8, and its sample."""


def load(
    config: str | PathLike[str] | Config | None = None,
    checkpoint: str | PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | Literal["auto"] = torch.float32,
    accept_license: bool = False,
) -> "Predictor":
    """Build a model for prediction: a published one, that of a config, or that of a checkpoint.

    `load("dense-clip-vit-b16")`, `load("lseg_shapes", "best.pth")`, `load("best.pth")`.

    The state of the process does not change: neither its random generators nor torch's settings. On machines where
    float32 matrix products are exact and faster with `torch.set_float32_matmul_precision("medium")`, the host program
    may set that; our tools set it for themselves.

    Args:
        config: the name of a published model (`openvocab.zoo`), whose weights are fetched once; the name of a config
            that comes with the package; the path of a config file (it is code: use only files that you trust); or a
            config. A path that ends in .pth, .pt or .ckpt is a checkpoint of our training; the model is then built
            from the config inside it, which is only data: nothing in it is run or imported.
        checkpoint: weights of the whole model, ours or converted; default: the weights that the config starts from.
            Without a config, it must be a checkpoint of our training, as above.
        device: default: CUDA if available, else the CPU.
        dtype: dtype of backbone and head; `torch.bfloat16` is about twice as fast on GPUs and on CPUs with AVX-512
            BF16, and three times as slow on other CPUs. "auto" uses it if a probe shows it to be faster on the device.
        accept_license: needed once for a published model whose license restricts commercial use.

    Raises:
        FileNotFoundError: there is no such model, config or checkpoint; or the weights cannot be fetched.
        PermissionError: the license of a published model has to be accepted, or its repository is gated.
        ValueError: the config has no model; the checkpoint is of another model (the message counts the differences);
            no config is given, and the checkpoint has none, or one with a class that is not registered; or `dtype` is
            not one of the choices.
    """
    if dtype != "auto" and not isinstance(dtype, torch.dtype):
        raise ValueError(f"dtype: expected 'auto' or a torch.dtype such as torch.bfloat16, got {dtype!r}")
    if checkpoint is None and isinstance(config, (str, PathLike)) and Path(config).suffix in CHECKPOINT_ENDINGS:
        config, checkpoint = None, config
    weights: dict[str, Tensor] | None = None
    if config is None:
        full_config, weights = _config_and_weights(checkpoint)
    else:
        if isinstance(config, Config):
            full_config = config
        else:
            full_config, checkpoint = _read_named(os.fspath(config), checkpoint, accept_license)
        if checkpoint is not None:
            weights = load_state_dict(os.fspath(checkpoint))
    only_registered = building_from_file(str(checkpoint)) if config is None else nullcontext()
    unchanged_generator = torch.random.fork_rng(devices=[])
    with start_weights(load=weights is None), only_registered, unchanged_generator:
        model = MODELS.build(full_config.model)
        with start_weights(load=True):  # no checkpoint of the model holds the weights of a teacher in the pipeline
            pipeline = [TRANSFORMS.build(step) for step in test_pipeline(full_config)]
    if weights is not None:
        check_same_weights(model.state_dict(), weights, str(checkpoint))
        model.load_state_dict(weights)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if dtype == "auto":
        dtype = faster_dtype(device, "predictions are computed")
    return Predictor(model.to(device).compute_in(dtype), pipeline)


def _read_named(
    name: str, checkpoint: str | PathLike[str] | None, accept_license: bool
) -> tuple[Config, str | PathLike[str] | None]:
    """Read the config of a published model, of a name, or of a path; return it, and the checkpoint or published one."""
    if Path(name).is_file():
        return read_config(name), checkpoint
    from openvocab.zoo import prepare_weights, read_named_config  # here: a config in a file needs none of it

    config, model = read_named_config(name)
    if model is not None and checkpoint is None:
        checkpoint = prepare_weights(model, accept_license)
    return config, checkpoint


def _config_and_weights(path: str | PathLike[str] | None) -> tuple[Config, dict[str, Tensor]]:
    """Read the config and the weights from a checkpoint."""
    if path is None:
        raise ValueError("load: expected a config, a checkpoint, or both")
    if not Path(path).is_file():
        raise FileNotFoundError(f"no such checkpoint: {path}")
    content = {} if Path(path).suffix == ".safetensors" else load_checkpoint(os.fspath(path))
    config = config_of(content, str(path))
    return config, content.get("state_dict") or {}


class Predictor:
    """Predict images, given the names of the classes to look for.

    Args:
        model: on its device; it is put into evaluation mode.
        pipeline: a test pipeline in mmcv's protocol: transforms from `img_path` or `img` to `{"image", "sample"}`. If
            no step reads a file, as in the pipeline of a dataset that holds its images, a step that reads it is put
            first; if no step packs the sample, such a step is put last. Default: these two steps alone.
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
            The head's prediction in the frame of the image: a `SemanticPrediction` from a dense head.

        Raises:
            TypeError, ValueError: the image or the list of names cannot be used; the message states why.
            NotEnoughMemory: the image is too large for the available memory, even in pieces.
        """
        vocabulary = as_vocabulary(classes)
        return self._predict([self.prepare(image, vocabulary)])[0]

    def predict_batch(self, images: Iterable[Any], classes: Classes, batch_size: int = 8) -> list[Prediction]:
        """Predict several images with one list of names.

        Up to `batch_size` images of equal size go through the network together; none is padded to the size of another,
        so that a prediction does not depend on its neighbors. At most four batches of images are held in memory.

        Raises:
            TypeError, ValueError: as for one image, with the index of the image. No prediction is returned then: to
                keep those of the other images, predict one image at a time.
        """
        if is_path(images):
            raise TypeError(f"expected a list of images, got one path, {images!s}; put it in a list")
        vocabulary = as_vocabulary(classes)
        predictions: dict[int, Prediction] = {}
        for indices, items in self.batches(images, vocabulary, batch_size):
            predictions.update(zip(indices, self._predict(items)))
        return [predictions[index] for index in range(len(predictions))]

    def encode_image(self, images: Any, *, normalize: bool = False, batch_size: int = 8) -> Tensor:
        """Embed whole images in the space of the texts, as CLIP's method of this name does.

        Args:
            images: one image, or a list or iterator of images, of any type that `__call__` takes.
            normalize: scale every row to unit norm.

        Returns:
            (N, D) float32 on the CPU, one row per image, also for a single image; not normalized by default.

        Raises:
            TypeError, ValueError: as in `predict_batch`; or the model has no embedding of whole images.
        """
        rows: dict[int, Tensor] = {}
        for indices, items in self.batches(as_list(images), None, batch_size):
            rows.update(zip(indices, self.embed_prepared(items)))
        if not rows:
            raise ValueError("expected at least one image, got none")
        embed = torch.stack([rows[index] for index in range(len(rows))])
        return F.normalize(embed, dim=-1) if normalize else embed

    @torch.no_grad()
    def encode_text(self, texts: str | Sequence[str], *, normalize: bool = False) -> Tensor:
        """Embed texts as they are, without templates, as CLIP's method of this name embeds their tokens.

        Args:
            texts: one text or several.
            normalize: scale every row to unit norm.

        Returns:
            (N, D) float32 on the CPU, one row per text, also for a single text; not normalized by default.

        Raises:
            ValueError: there is no text, a text is empty, or the model encodes class names only.
        """
        embed = self.model.text_encoder.embed([texts] if isinstance(texts, str) else list(texts)).cpu()
        return F.normalize(embed, dim=-1) if normalize else embed

    def batches(
        self, images: Iterable[Any], vocabulary: Vocabulary | None, batch_size: int, skip_bad: bool = False
    ) -> Iterator[tuple[list[int], list[Prepared]]]:
        """Prepare images, and yield the indices and the prepared images of up to `batch_size` images of equal size.

        Sizes may come in any order; at most four batches are held in memory.

        Args:
            images: images of any types that `__call__` takes.
            vocabulary: vocabulary of their samples; None to embed the images only.
            batch_size: largest number of images in a batch.
            skip_bad: skip images that cannot be read, with a warning, instead of raising.

        Raises:
            TypeError, ValueError: see `predict_batch`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        waiting: dict[Size, list[tuple[int, Prepared]]] = {}

        def take(size: Size) -> tuple[list[int], list[Prepared]]:
            indices, items = zip(*waiting.pop(size))
            return list(indices), list(items)

        for index, image in enumerate(images):
            try:
                item = self._prepare_indexed(image, vocabulary, index)
            except BadSample as error:
                if not skip_bad:
                    raise
                logger.warning(f"skipped: {error}")
                continue
            height, width = item[0].shape[-2:]
            size = (height, width)
            waiting.setdefault(size, []).append((index, item))
            if len(waiting[size]) == batch_size:
                yield take(size)
            elif sum(map(len, waiting.values())) >= 3 * batch_size:  # the caller holds the fourth batch
                yield take(next(iter(waiting)))
        while waiting:
            yield take(next(iter(waiting)))

    @torch.no_grad()
    def embed_prepared(self, items: Sequence[Prepared]) -> Tensor:
        """Embed N prepared images of one size: (N, D) float32 on the CPU, not normalized."""
        images, samples = zip(*items)
        batch = self.model.data_preprocessor.pixels({"image": list(images), "sample": list(samples)})
        return self.model.embed_images(batch["images"]).cpu()

    def prepare(self, image: Any, vocabulary: Vocabulary | None = None, index: int = 0) -> Prepared:
        """Run the pipeline on an image, and return the network's input (3, H, W) uint8 and its sample, with the sizes.

        Args:
            image: an image of any type that `__call__` takes.
            vocabulary: vocabulary of the sample.
            index: names the sample if the image has no path.

        Raises:
            TypeError, ValueError: see `__call__`; or a transform needs more than an image.
        """
        if is_path(image):
            path = checked_path(image)
            results: dict[str, Any] = {"img_path": path, "sample_id": path}
        else:
            results = {"img": bgr_image(image), "img_path": "", "sample_id": f"image {index}"}
        if vocabulary is not None:
            results["vocabulary"] = vocabulary
        results, size = _run(self.pipeline, results)
        # predictions are in the frame of the given image, even if the config's test scores them in another one
        return results["image"], dataclasses.replace(results["sample"], original_size=size, vocabulary=vocabulary)

    def _prepare_indexed(self, image: Any, vocabulary: Vocabulary | None, index: int) -> Prepared:
        """Prepare an image; errors name its index."""
        try:
            return self.prepare(image, vocabulary, index)
        except BadSample as error:
            raise BadSample(error.path, f"{error.reason} (image {index})") from error
        except (TypeError, ValueError) as error:
            error_class = TypeError if isinstance(error, TypeError) else ValueError
            raise error_class(f"image {index}: {error}") from error

    @torch.inference_mode()
    def _predict(self, items: Sequence[Prepared]) -> list[Prediction]:
        """Predict images of one size."""
        images, samples = zip(*items)
        return self.model.test_step({"image": list(images), "sample": list(samples)})


def as_list(images: Any) -> Iterable[Any]:
    """Return a list, tuple or iterator of images unchanged, and anything else, as one image, in a list."""
    is_open_file = hasattr(images, "read")  # an iterator, too: over its lines
    is_several = isinstance(images, (list, tuple)) or (isinstance(images, Iterator) and not is_open_file)
    return images if is_several else [images]


def as_vocabulary(classes: Classes) -> Vocabulary:
    """Build a vocabulary from what a user types.

    Raises:
        TypeError: `classes` is neither a string, a list nor a vocabulary.
        ValueError: see `Vocabulary`; the message states the index of the name.
    """
    if isinstance(classes, Vocabulary):
        return classes
    if isinstance(classes, str):
        return Vocabulary.from_text(classes)
    if isinstance(classes, (list, tuple)):
        return Vocabulary.from_names(classes)
    raise TypeError(f'classes: expected "cat, sofa", a list of names or a Vocabulary, got {type(classes).__name__}')


def image_steps(config: Config) -> list[Mapping[str, Any]]:
    """Return the steps of the test pipeline between reading files and packing, which decide what a network sees."""
    types = [(step, step["type"]) for step in test_pipeline(config)]
    classes = [(step, TRANSFORMS.get(name) if isinstance(name, str) else name) for step, name in types]
    return [step for step, transform in classes if not reads_files(transform) and not packs(transform)]


class _NoImageRead(ValueError):
    """A step needs an image, and no step before it has read one."""


def _run(pipeline: Sequence[Transform], results: dict[str, Any]) -> tuple[dict[str, Any], Size | None]:
    """Run a pipeline on an image alone; return its results, and the size of the image as it was read.

    A user's transform may read the file without declaring it, so only running the steps shows whether one of them does.
    """
    from openvocab.datasets.transforms import LoadImage  # imported here, since it imports mmcv, which takes long

    is_complete = any(packs(step) or reads_files(step) for step in pipeline)
    if is_complete and "img" not in results:
        with suppress(_NoImageRead):
            return _run_steps(pipeline, dict(results))
    return _run_steps(pipeline, LoadImage()(results))


def _run_steps(pipeline: Sequence[Transform], results: dict[str, Any]) -> tuple[dict[str, Any], Size | None]:
    from openvocab.datasets.transforms import PackSample

    size = _image_size(results)
    for transform in (*pipeline, PackSample()):
        if "sample" in results:
            break
        name = type(transform).__name__
        try:
            results = transform(results)
        except KeyError as error:
            error_class = ValueError if size else _NoImageRead
            raise error_class(
                f"{name} of the test pipeline needs {error}, which an image alone does not have"
            ) from error
        if results is None:
            raise ValueError(f"{name} of the test pipeline returned None, which skips the image")
        size = size or _image_size(results)
    return results, size


def _image_size(results: Mapping[str, Any]) -> Size | None:
    image = results.get("img")
    return (image.shape[0], image.shape[1]) if isinstance(image, np.ndarray) else None
