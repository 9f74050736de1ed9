"""The folder of a model that transformers saved: a local one, or that of a hub's repository in its cache."""

from contextlib import suppress
from pathlib import Path

from openvocab.checkpoint.hub import can_reach_hub, hub_file
from openvocab.checkpoint.weights_file import HUB_PREFIX
from openvocab.files.text_files import read_json

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
PREPROCESSOR_FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
"""Files of the image processor and of the tokenizer; no repository has all of them."""


def model_folder(source: str | Path) -> Path:
    """Return the folder that holds a model of transformers, with weights in the safetensors format.

    Args:
        source: a folder, or `hf-hub:OWNER/NAME` (`hf-hub:OWNER/NAME@REVISION` for a branch, tag or commit), of which
            only data is downloaded: config, tokenizer, image processor and weights.

    Raises:
        FileNotFoundError: there is no such folder or repository, or the hub cannot be reached and its cache lacks the
            model; or the weights are not in the safetensors format.
        PermissionError, ConnectionError: see `hub_file`.
    """
    if str(source).startswith(HUB_PREFIX):
        folder = _download(str(source).removeprefix(HUB_PREFIX))
    else:
        folder = Path(source)
        if not (folder / CONFIG).is_file():
            raise FileNotFoundError(
                f"{source} is no folder of a model of transformers: it holds no {CONFIG}; a repository of Hugging "
                f"Face's hub is given as {HUB_PREFIX}OWNER/NAME"
            )
    if not any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX)):
        raise FileNotFoundError(
            f"{source} has no {WEIGHTS}; weights in other formats are not read, since they may run code when loaded"
        )
    return folder


def _download(repository: str) -> Path:
    """Return the folder of a repository in the hub's cache."""
    folder = hub_file(repository, [CONFIG]).parent
    # asked once: each file would wait again for a hub that cannot be reached
    if can_reach_hub():
        with suppress(FileNotFoundError):
            weights = hub_file(repository, [WEIGHTS, WEIGHTS_INDEX])
            if weights.name == WEIGHTS_INDEX:
                for name in sorted(set(read_json(weights)["weight_map"].values())):
                    hub_file(repository, [name])
        for name in PREPROCESSOR_FILES:
            with suppress(FileNotFoundError):
                hub_file(repository, [name])
    return folder
