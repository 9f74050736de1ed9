"""What is known of the CLIP towers that open_clip publishes: sizes, readouts, parameters, licenses."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from open_clip.pretrained import list_pretrained, list_pretrained_tags_by_model
from torch import nn

from openvocab.backbones.clip import tower_reader
from openvocab.backbones.readouts import build_readout, known_readouts
from openvocab.clip import open_clip_model
from openvocab.clip.open_clip_model import clip_config, create_clip, create_image_tower

LICENSES = Path(open_clip_model.__file__).parent / "licenses.json"


@dataclass(frozen=True)
class TowerFacts:
    """One architecture with published weights."""

    model: str
    """Name in `CLIPBackbone(model=...)`."""
    licenses: dict[str, tuple[str, ...]]
    """{license: tags of weights under it}."""
    image_size: int
    """Side in pixels of the images that it was trained with; any size that `stride` divides runs."""
    stride: int
    """Pixels per patch, or per cell of the last map."""
    width: int
    """Channels of the last map."""
    embed_dim: int
    """Channels of the joint space."""
    readouts: tuple[str, ...]
    """Names of the readouts that it takes."""
    image_parameters: int
    text_parameters: int | None
    """None if the text tower is one of transformers, whose config is on Hugging Face's hub."""
    tokenizer: str | None
    """Repository of Hugging Face's hub that its tokenizer comes from; None for CLIP's own."""


def published_towers() -> list[str]:
    """Return the names of all architectures for which open_clip lists weights."""
    return sorted({model for model, _ in list_pretrained()})


def tower_facts(model: str) -> TowerFacts:
    """Return the facts of an architecture, built without memory for its weights.

    Raises:
        ValueError: the name is unknown, or the tower has no reader.
    """
    config = clip_config(model)
    text = config["text_cfg"]
    with torch.device("meta"):
        whole = None if "hf_model_name" in text else create_clip(model)
        visual = create_image_tower(model) if whole is None else whole.visual
    accepted = [name for name in known_readouts() if _takes(visual, name)]
    spec = tower_reader(visual, build_readout("clip"), "bicubic", False).spec()
    image_size = config["vision_cfg"]["image_size"]
    return TowerFacts(
        model=model,
        licenses=_tags_by_license(model),
        image_size=image_size if isinstance(image_size, int) else max(image_size),
        stride=spec.stride,
        width=spec.hidden_dims[-1],
        embed_dim=config["embed_dim"],
        readouts=tuple(accepted),
        image_parameters=_count(visual),
        text_parameters=None if whole is None else _count(whole.text),
        tokenizer=text.get("hf_tokenizer_name"),
    )


def license_of(model: str, tag: str) -> str:
    """Return the license of published weights; "unknown" for weights that are not in `licenses.json`."""
    known = _licenses()
    for part, license_name in known["models"].items():
        if part in model:
            return license_name
    for beginning, license_name in known["tags"].items():
        if tag.startswith(beginning):
            return license_name
    return "unknown"


def allows_commercial_use(license_name: str) -> bool:
    """Return whether a license is known to allow commercial use without conditions that have to be read first."""
    return _licenses()["commercial"].get(license_name, False)


def _tags_by_license(model: str) -> dict[str, tuple[str, ...]]:
    by_license: dict[str, tuple[str, ...]] = {}
    for tag in list_pretrained_tags_by_model(model):
        name = license_of(model, tag)
        by_license[name] = (*by_license.get(name, ()), tag)
    return by_license


def _takes(visual: nn.Module, readout: str) -> bool:
    try:
        tower_reader(visual, build_readout(readout), "bicubic", False)
    except ValueError:
        return False
    return True


def _count(tower: nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


@cache
def _licenses() -> dict[str, dict]:
    return json.loads(LICENSES.read_text(encoding="utf-8"))
