"""Run the test pipeline of a config on an image alone."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from mmengine.config import Config

from openvocab.config.config import test_pipeline
from openvocab.datasets.contracts import packs, reads_files
from openvocab.registry import TRANSFORMS
from openvocab.structures import Size

Transform = Callable[[dict], dict]


def image_steps(config: Config) -> list[Mapping[str, Any]]:
    """Return the steps of the test pipeline between reading files and packing, which decide what a network sees."""
    types = [(step, step["type"]) for step in test_pipeline(config)]
    classes = [(step, TRANSFORMS.get(name) if isinstance(name, str) else name) for step, name in types]
    return [step for step, transform in classes if not reads_files(transform) and not packs(transform)]


class _NoImageRead(ValueError):
    """A step needs an image, and no step before it has read one."""


def run_pipeline(pipeline: Sequence[Transform], results: dict[str, Any]) -> tuple[dict[str, Any], Size | None]:
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
