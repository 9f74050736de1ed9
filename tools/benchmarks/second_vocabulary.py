"""A second list of names on one image: `EncodedImage` against predicting the image anew."""

from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.comparison import Row, Sides
from benchmarks.lseg_inference import CONFIGS, ade_vocabulary
from openvocab.checkpoint.start_weights import start_weights
from openvocab.config.config import read_config
from openvocab.predictor import Predictor
from openvocab.registry import MODELS


def prepare(
    config: str, size: tuple[int, int] = (480, 640), num_names: int = 20, overrides: dict[str, Any] | None = None
) -> Sides:
    """Compare a predictor with an image that was encoded before; names are cached on both sides.

    The error is 0 if the results are equal, else 1.

    Args:
        config: file below `configs/`.
        size: (height, width) of the image in pixels.
        num_names: number of names.
        overrides: changes of the config.
    """
    torch.manual_seed(0)
    with start_weights(load=False):
        model = MODELS.build(read_config(CONFIGS / config, overrides).model)
    predictor, vocabulary = Predictor(model), ade_vocabulary(num_names)
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    encoded = predictor.encode(image)
    encoded("something else")
    return Sides(
        lambda: predictor(image, vocabulary),
        lambda: encoded(vocabulary),
        lambda expected, got: float(repr(expected) != repr(got)),
    )


_ANY_NAMES = {"model.head.pamr_dilations": (8, 16), "model.head.presence_threshold": 0.5}
"""What `dense-clip-any-names`, the model of `openvocab predict`, adds."""
_NOTE = "the same network, once with and once without its backbone; names are cached on both sides"
ROWS = tuple(
    Row(f"second_vocabulary_{name}", 0.25, partial(prepare, *arguments, **options), repeats=3, note=_NOTE)
    for name, arguments, options in (
        ("lseg", ("lseg_ade.py", (480, 480)), {}),
        ("dense_clip", ("dense_clip_ade.py",), {}),
        ("any_names", ("dense_clip_ade.py",), dict(overrides=_ANY_NAMES)),
        ("groupvit", ("groupvit_voc.py", (448, 448)), {}),
        ("vild_boxes", ("vild_coco_r50.py",), dict(overrides={"model.head.detector.masks": None})),
    )
)
