"""Check every published model against Hugging Face's hub, without downloading weights.

python tools/check_zoo.py [NAME ...]

For each model (default: all), it asks whether a file of weights is there and how large it is. Of a safetensors file, it
reads the header, a few hundred kilobytes, and compares the names and shapes in it with the model's, after conversion.
Models whose files are fetched by hand are listed with their address. It needs a network.
Exit code: 0; 1 if a model differs from its entry or cannot be reached; 2 if a name is not in the list.
"""

import argparse
import sys
from collections.abc import Sequence

import torch
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import EntryNotFoundError
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor

from openvocab.checkpoint.start_weights import start_weights
from openvocab.checkpoint.strict_loading import check_same_weights
from openvocab.clip.clip_layout import clip_layout
from openvocab.clip.open_clip_model import create_clip, tag_source
from openvocab.command_line import one_line_errors
from openvocab.config.config import read_config
from openvocab.converters import CONVERTERS
from openvocab.registry import MODELS
from openvocab.zoo import ZooModel, find_model, zoo_models


def main() -> None:
    """Print one line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="published models; default: all")
    names = parser.parse_args().names
    with one_line_errors():
        failed = [model.name for model in _chosen(names) if not _report(model)]
    if failed:
        print(f"{len(failed)} differ or cannot be reached: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


def _chosen(names: Sequence[str]) -> Sequence[ZooModel]:
    unknown = [name for name in names if find_model(name) is None]
    if unknown:
        raise ValueError(
            f"no published model is called {unknown[0]!r}; known: {', '.join(m.name for m in zoo_models())}"
        )
    return [model for model in zoo_models() if not names or model.name in names]


def _report(model: ZooModel) -> bool:
    """Print the state of a model, and return whether it is that of its entry."""
    if model.by_hand is not None:
        print(f"{model.name}: by hand, {model.by_hand}", flush=True)
        return True
    try:
        description = check(model)
    except Exception as error:  # whatever is wrong with one model, the others are checked
        print(f"{model.name}: {' '.join(str(error).split()) or type(error).__name__}", flush=True)
        return False
    print(f"{model.name}: {description}", flush=True)
    return True


def check(model: ZooModel) -> str:
    """Compare a published model with its entry, and return what was found.

    Raises:
        ValueError: no file of the entry is there, or its names or shapes do not fit the model.
        Exception: what the hub's client raises if the hub cannot be reached.
    """
    repository, files = _source(model)
    file, size = _first_file(repository, files)
    found = f"{repository}/{file}, {size / 1e6:.0f} MB"
    if not file.endswith(".safetensors"):
        return f"{found}; its names are not checked, as it is no safetensors file"
    header = HfApi().parse_safetensors_file_metadata(repository, file)
    state = {name: torch.empty(tuple(tensor.shape), device="meta") for name, tensor in header.tensors.items()}
    check_same_weights(_expected(model), _converted(model, state), f"{repository}/{file}")
    return f"{found}; all {len(state)} names and shapes fit"


def _source(model: ZooModel) -> tuple[str, Sequence[str]]:
    if model.tag is None:
        return str(model.hub), model.files
    architecture, _, tag = model.tag.rpartition("/")
    return tag_source(get_pretrained_cfg(architecture, tag))


def _first_file(repository: str, files: Sequence[str]) -> tuple[str, int]:
    """Return the first file that is there, and its size in bytes."""
    for file in files:
        try:
            return file, get_hf_file_metadata(hf_hub_url(repository, file)).size or 0
        except EntryNotFoundError:
            continue
    raise ValueError(f"{repository} has no {' or '.join(files)}")


def _expected(model: ZooModel) -> dict[str, Tensor]:
    """Return the weights of the model, without memory for their values."""
    with torch.device("meta"), start_weights(load=False):
        if model.tag is not None:
            return create_clip(model.tag.rpartition("/")[0]).state_dict()
        return MODELS.build(read_config(model.config, model.settings).model).state_dict()


def _converted(model: ZooModel, state: dict[str, Tensor]) -> dict[str, Tensor]:
    if model.converter is None:
        return clip_layout(state)
    return CONVERTERS[model.converter](state)


if __name__ == "__main__":
    main()
