"""CLIP models by name: architectures of open_clip and of this package, with weights from a tag or a local file.

Weights work only with the activation that they were trained with. OpenAI's were trained with QuickGELU; a model built
with GELU loads them without an error, but its image embeddings are off by 0.025. The activation that a tag, a file or a
checkpoint records is therefore checked, and so is whether its text tower is causal or bidirectional.
"""

import copy
import difflib
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import open_clip
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME, OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH
from torch import Tensor, nn

import openvocab.clip.model_configs.shapes_convnet  # noqa: F401 - registers the tower that ConvNet-8-shapes names
from openvocab.checkpoint.checkpoint import load_checkpoint, load_state_dict
from openvocab.checkpoint.hub import hub_file
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.checkpoint.weights_file import HUB_PREFIX, weights_file
from openvocab.clip.build_once import for_one_tower
from openvocab.clip.clip_layout import OPENAI_MARKERS, clip_layout
from openvocab.clip.hugging_face_layout import is_hugging_face
from openvocab.files.text_files import read_json
from openvocab.missing_file import MissingFile

logger = logging.getLogger(__name__)

CONFIG_FOLDER = Path(__file__).parent / "model_configs"
QUICK_GELU_SUFFIX = "-quickgelu"
RGB = tuple[float, float, float]


def create_clip(
    model: str, pretrained: str | None = None, text_folder: str | Path | None = None
) -> open_clip.CustomTextCLIP:
    """Build a CLIP with `.visual`, `.text`, `.logit_scale` and `.logit_bias`, on the CPU, in eval mode.

    Args:
        model: a name of open_clip (`ViT-B-16`, `RN50-quickgelu`, `convnext_base`), or of a file in `model_configs/`.
        pretrained: None (random weights); a tag of open_clip (`openai`: needs network or its cache); a local file in
            open_clip's, OpenAI's or Hugging Face's layout (.pt, .bin, .safetensors); a checkpoint of an
            `OpenVocabModel`; a folder that transformers saved; or `hf-hub:openai/clip-vit-base-patch16`. Ignored
            within `start_weights(load=False)`.
        text_folder: a local copy of the repository whose text model the architecture contains (`roberta-base`), of
            which config.json is read; default: from Hugging Face's hub or its cache. Other architectures need none.

    Raises:
        ValueError: the name or tag is unknown, the file does not fit, or its weights were trained with the other
            activation; the message names the model that fits.
        FileNotFoundError: the file does not exist, or the tag or the text model's config cannot be downloaded.
        ImportError: the text model is one of transformers, which is not installed.
    """
    config = clip_config(model)
    if "hf_model_name" in config["text_cfg"]:
        _find_text_model(model, config["text_cfg"], text_folder)
    if pretrained is None or not reads_start_weights():
        return _build(config).eval()
    if get_pretrained_cfg(model, str(pretrained)):
        path = _start_weights(model, str(pretrained))
        clip = _build(config)
        open_clip.load_checkpoint(clip, path, strict=True, weights_only=True)
    else:
        state = _read_file(model, weights_file(pretrained))
        clip = _build(config)
        load_strictly(clip, clip_layout(state), f"{pretrained} does not fit {model}")
    return clip.eval()


def create_image_tower(model: str, pretrained: str | None = None) -> nn.Module:
    """Build the image tower of a CLIP alone; see `create_clip`.

    Unlike there, a text tower of transformers is not built, so that its config is not needed.
    """
    config = clip_config(model)
    if "hf_model_name" not in config["text_cfg"]:
        return _for_one_tower("image", model, pretrained).visual
    config["text_cfg"] = {"vocab_size": 1, "width": 64, "layers": 1}  # takes the place of the text tower
    visual = cast(nn.Module, _build(config).visual)
    if pretrained is not None and reads_start_weights():
        is_tag = bool(get_pretrained_cfg(model, str(pretrained)))
        path = Path(_start_weights(model, str(pretrained))) if is_tag else weights_file(pretrained)
        state = load_state_dict(path) if is_tag else clip_layout(_read_file(model, path))
        image_part = {key.removeprefix("visual."): value for key, value in state.items() if key.startswith("visual.")}
        load_strictly(visual, image_part, f"{pretrained} does not fit {model}")
    return visual.eval()


def create_text_side(
    model: str, pretrained: str | None = None, text_folder: str | Path | None = None
) -> open_clip.CustomTextCLIP:
    """Build a CLIP of which only `.text`, `.logit_scale` and `.logit_bias` are used; see `create_clip`."""
    return _for_one_tower("text", model, pretrained, text_folder)


def _for_one_tower(
    tower: str, model: str, pretrained: str | None, text_folder: str | Path | None = None
) -> open_clip.CustomTextCLIP:
    build = partial(create_clip, model, pretrained, text_folder)
    if pretrained is None or not reads_start_weights() or text_folder is not None:
        return build()
    return for_one_tower(tower, (model, str(pretrained)), build)


def clip_config(model: str) -> dict[str, Any]:
    """Return the architecture of `model` as a new dict.

    Raises:
        ValueError: the name is unknown; the message lists the nearest known ones.
    """
    if model in own_models():
        return json.loads((CONFIG_FOLDER / f"{model}.json").read_text(encoding="utf-8"))
    config = open_clip.get_model_config(model) if model in open_clip.list_models() else None
    if config is None:
        near = difflib.get_close_matches(model, known_models(), n=4, cutoff=0.4)
        raise ValueError(f"unknown CLIP model {model!r}; nearest known names: {', '.join(near) or 'none'}")
    return config


def known_models() -> list[str]:
    """Return all model names that `create_clip` accepts."""
    return sorted({*open_clip.list_models(), *own_models()})


def own_models() -> list[str]:
    """Return the names of the architectures in `model_configs/`."""
    return [file.stem for file in CONFIG_FOLDER.glob("*.json")]


def uses_quick_gelu(model: str) -> bool:
    """Return whether `model` is built with QuickGELU; our checkpoints record it as `quick_gelu` in their `meta`."""
    return bool(clip_config(model).get("quick_gelu", False))


def sees_later_words(model: str) -> bool:
    """Return whether the text tower of `model` is bidirectional; our checkpoints record it as `bidirectional_text`."""
    return bool(clip_config(model)["text_cfg"].get("no_causal_mask", False))


def text_context(model: str) -> int:
    """Return the maximum number of tokens per text that `model` was trained with."""
    return clip_config(model)["text_cfg"].get("context_length", DEFAULT_CONTEXT_LENGTH)


def pixel_statistics(model: str, pretrained: str | None = None) -> tuple[RGB, RGB]:
    """Return the mean and std of RGB pixel values in 0..255 that the weights expect.

    They are those of the tag. Weights of a file, and random ones, expect those of the architecture's tags (0.5 for
    SigLIP), which agree, but for ViT-L-14: there a file is taken for one of the majority, with a warning. An
    architecture without tags expects OpenAI's.
    """
    known = {tag: _statistics_of_tag(model, tag) for tag in list_pretrained_tags_by_model(model)}
    if pretrained in known:
        return known[pretrained]
    usual = Counter(known.values()).most_common(1)
    mean, std = usual[0][0] if usual else _statistics_of_tag(model, "")
    others = [tag for tag, statistics in known.items() if statistics != (mean, std)]
    if others and pretrained is not None:
        logger.warning(
            f"{pretrained}: images are normalized as for most weights of {model}; weights of {', '.join(others)} need "
            f"mean={known[others[0]][0]}, std={known[others[0]][1]}"
        )
    return mean, std


def _statistics_of_tag(model: str, tag: str) -> tuple[RGB, RGB]:
    """Return mean and std of a tag; one without an entry of its own has OpenAI's, as in open_clip."""
    entry = get_pretrained_cfg(model, tag)
    return _scaled(entry.get("mean") or OPENAI_DATASET_MEAN), _scaled(entry.get("std") or OPENAI_DATASET_STD)


def _scaled(values: Sequence[float]) -> RGB:
    """Return the three values for pixels in 0..255."""
    red, green, blue = values
    return 255 * red, 255 * green, 255 * blue


def _find_text_model(model: str, text_config: dict[str, Any], folder: str | Path | None) -> None:
    """Let open_clip read the config of a text model of transformers from a folder, the given one or the hub's cache.

    Raises:
        ImportError, FileNotFoundError: see `create_clip`.
    """
    if find_spec("transformers") is None:
        raise ImportError(f"the text tower of {model!r} is built by transformers; pip install 'openvocab[hf]'")
    name = text_config["hf_model_name"]
    try:
        file = Path(folder) / "config.json" if folder is not None else hub_file(name, ["config.json"])
    except OSError as error:
        raise MissingFile(f"the text tower of {model!r}: {error}", "text_folder=FOLDER") from error
    if not file.is_file():
        raise FileNotFoundError(
            f"the text tower of {model!r} needs config.json of {name} on Hugging Face's hub, which is not in {folder}"
        )
    text_config["hf_model_name"] = str(file.parent)


def _build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build the modules without open_clip's factory, which needs real tensors and a global entry for our own names."""
    config = copy.deepcopy(dict(architecture))
    config.pop("custom_text", None)
    for part, flag in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
        if flag.removesuffix("_pretrained") + "_name" in config[part]:
            config[part][flag] = False  # the CLIP weights follow; never download ImageNet's
    if "multimodal_cfg" in config:
        return open_clip.CoCa(**config)
    masks_padding = config["text_cfg"].pop("use_pad_mask", False)  # an option of the tower, not of this class
    clip = open_clip.CustomTextCLIP(**config)
    if masks_padding:
        clip.text.use_pad_mask = True
    return clip


def tag_file(model: str, tag: str) -> str:
    """Return the path of a tag's weights, in the hub's cache or downloaded into it, after a check of their activation.

    Raises:
        ValueError: the weights were trained with the other activation.
        FileNotFoundError, PermissionError: they cannot be downloaded; see `hub_file`.
    """
    entry = get_pretrained_cfg(model, tag)
    _check_activation(model, bool(entry.get("quick_gelu", False)), f"the weights of tag {tag!r}")
    repository, files = tag_source(entry)
    try:
        return str(hub_file(repository, files)) if repository else download_pretrained(entry)
    except (OSError, RuntimeError, ValueError) as error:
        kind = PermissionError if isinstance(error, PermissionError) else FileNotFoundError
        raise kind(f"cannot download tag {tag!r} of {model}: {error or type(error).__name__}") from error


def _start_weights(model: str, tag: str) -> str:
    """Return `tag_file`; the error says that a file can be given instead."""
    try:
        return tag_file(model, tag)
    except FileNotFoundError as error:
        raise MissingFile(str(error), "pretrained=PATH") from error


def tag_source(entry: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the hub's repository of a tag, "" if it has none, and the files that may hold the weights.

    Args:
        entry: of open_clip's `get_pretrained_cfg`.
    """
    repository, _, file = entry.get("hf_hub", "").rpartition("/")
    if not file:
        return repository, [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    safe = f"{file.rpartition('.')[0]}.safetensors"  # preferred, as in open_clip
    return repository, [safe, file] if file.endswith((".bin", ".pth")) else [file]


def _read_file(model: str, path: Path) -> dict[str, Tensor]:
    """Read the weights in a local file, and check their activation and text direction."""
    if not path.is_file():
        tags = ", ".join(list_pretrained_tags_by_model(model)) or "none"
        raise FileNotFoundError(
            f"pretrained={str(path)!r} is neither a file nor a tag of {model} (its tags: {tags}); a repository of "
            f"Hugging Face's hub is given as {HUB_PREFIX}OWNER/NAME"
        )
    state = load_state_dict(path)
    meta = _recorded_meta(path, state)
    _check_direction(model, path, meta)
    recorded = _recorded_activation(path, state, meta)
    if recorded is not None:
        _check_activation(model, recorded, f"the weights in {path}")
    elif _other_activation(model) in known_models():
        logger.warning(
            f"{path} does not record its activation; {model} uses {_activation_name(uses_quick_gelu(model))}. "
            f"Weights of OpenAI, DFN or MetaCLIP need the model with the suffix {QUICK_GELU_SUFFIX}"
        )
    return state


def _recorded_activation(path: Path, state: Mapping[str, Tensor], meta: Mapping[str, Any]) -> bool | None:
    """Return whether the file records that its weights use QuickGELU; None if it records nothing."""
    if "openai" in path.name.lower() or all(marker in state for marker in OPENAI_MARKERS):
        return True
    if is_hugging_face(state):
        return _activation_in_config(path.with_name("config.json"))
    recorded = meta.get("quick_gelu")
    return None if recorded is None else bool(recorded)


def _recorded_meta(path: Path, state: Mapping[str, Tensor]) -> Mapping[str, Any]:
    """Return the `meta` of a checkpoint of an `OpenVocabModel`; empty for other files."""
    if path.suffix == ".safetensors" or not any(key.startswith("backbone.visual.") for key in state):
        return {}
    return load_checkpoint(path).get("meta", {})


def _check_direction(model: str, path: Path, meta: Mapping[str, Any]) -> None:
    recorded = meta.get("bidirectional_text")
    if recorded is not None and bool(recorded) != sees_later_words(model):
        directions = "causal", "bidirectional"
        raise ValueError(
            f"the weights in {path} were trained with a {directions[bool(recorded)]} text tower, but that of {model!r} "
            f"is {directions[not recorded]}: its embeddings would be silently wrong; "
            "use the model that they were trained with"
        )


def _activation_in_config(path: Path) -> bool | None:
    """Return whether the config next to Hugging Face's CLIP states QuickGELU; None if it states neither it nor GELU."""
    config = read_json(path) if path.is_file() else None
    if not isinstance(config, dict) or config.get("model_type") != "clip":
        return None
    parts = [config.get(name) for name in ("text_config", "vision_config")]
    # Without an entry, transformers defaults to quick_gelu.
    names = [str(part.get("hidden_act", "quick_gelu")) for part in parts if isinstance(part, dict)]
    return {"quick_gelu": True, "gelu": False}.get(names[0]) if len(names) == 2 and names[0] == names[1] else None


def _check_activation(model: str, quick_gelu: bool, weights: str) -> None:
    if quick_gelu == uses_quick_gelu(model):
        return
    other = _other_activation(model)
    fix = (
        f"use model={other!r}" if other in known_models() else f'build it with "quick_gelu": {str(quick_gelu).lower()}'
    )
    raise ValueError(
        f"{weights} were trained with {_activation_name(quick_gelu)}, but {model!r} is built with "
        f"{_activation_name(not quick_gelu)}: its embeddings would be silently wrong; {fix}"
    )


def _other_activation(model: str) -> str:
    """Return the name of the same architecture with the other activation."""
    if model.endswith(QUICK_GELU_SUFFIX):
        return model.removesuffix(QUICK_GELU_SUFFIX)
    return model + QUICK_GELU_SUFFIX


def _activation_name(quick_gelu: bool) -> str:
    return "QuickGELU" if quick_gelu else "GELU"
