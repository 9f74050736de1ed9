"""Predict with an installed wheel, outside of the checkout: `make wheel` and `make oldest` run this file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import openvocab
from openvocab import Predictor, Vocabulary
from openvocab.config import read_config
from openvocab.heads import DenseCLIPHead
from openvocab.registry import MODELS
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.zoo import zoo_models

CHECKOUT = Path(__file__).resolve().parents[1]
CLIP = dict(model="ConvNet-8-shapes", pretrained=None)  # described by a JSON file of the package


def main() -> None:
    """Name the pixels of a noise image among the classes of ADE20K, with random weights."""
    home = Path(openvocab.__file__).resolve().parent
    if home == CHECKOUT / "openvocab":
        raise SystemExit(f"expected an installed wheel, got the checkout in {CHECKOUT}")
    model = MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(type="CLIPBackbone", **CLIP),
            text_encoder=dict(type="CLIPTextEncoder", templates="imagenet7", **CLIP),
            head=dict(type="DenseCLIPHead"),
        )
    )
    assert isinstance(model.head, DenseCLIPHead)
    names = load_class_names("ade20k_150", Path())
    image = np.random.default_rng(0).integers(0, 256, (96, 130, 3), np.uint8)
    prediction = Predictor(model)(image, Vocabulary.from_names(names))
    if prediction.label_map.shape != (96, 130) or len(prediction.class_names) != 150:
        raise SystemExit(f"expected (96, 130) labels of 150 classes, got {prediction.label_map.shape}")
    for published in zoo_models():  # their configs are in the wheel
        if not read_config(published.config, published.settings).filename.startswith(str(home)):
            raise SystemExit(f"expected the config {published.config} in {home}")
    command = Path(sys.executable).with_name("openvocab")
    listed = json.loads(subprocess.run([command, "models", "--json"], capture_output=True, check=True).stdout)
    if [model["name"] for model in listed] != [published.name for published in zoo_models()]:
        raise SystemExit(f"expected all published models from {command} models, got {len(listed)}")
    print(
        f"openvocab {openvocab.__version__} with torch {torch.__version__}: {prediction.label_map.shape} labels, {home}"
    )


if __name__ == "__main__":
    main()
