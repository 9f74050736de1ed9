"""The folder of a model that transformers saved: a local one, or that of a hub's repository in its cache."""

from contextlib import suppress
from pathlib import Path

from openvocab.checkpoint.hub import can_reach_hub, hub_file
from openvocab.checkpoint.weights_file import HUB_PREFIX
from openvocab.files.text_files import read_json
from openvocab.missing_file import MissingFile

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt")
"""Of which a tokenizer has one or more."""
PREPROCESSOR_FILES = (
    *VOCABULARIES,
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
)
"""Files of the image processor and of the tokenizer; no repository has all of them."""


def model_type(source: str | Path) -> str:
    """Return the `model_type` in the config of a model of transformers; of a repository, nothing else is downloaded.

    Args:
        source: see `model_folder`.

    Raises:
        FileNotFoundError, PermissionError: see there.
    """
    config = read_json(_config_folder(source) / CONFIG)
    return str(config.get("model_type")) if isinstance(config, dict) else "unknown"


def model_folder(source: str | Path) -> Path:
    """Return the folder that holds a model of transformers, with weights in the safetensors format.

    Args:
        source: a folder, or `hf-hub:OWNER/NAME` (`hf-hub:OWNER/NAME@REVISION` for a branch, tag or commit), of which
            only data is downloaded: config, tokenizer, image processor and weights.

    Raises:
        FileNotFoundError: there is no such folder or repository, or the hub cannot be reached and its cache lacks the
            model; the weights are not in the safetensors format; or there is no tokenizer.
        PermissionError, ConnectionError: see `hub_file`.
    """
    folder = _config_folder(source)
    if str(source).startswith(HUB_PREFIX):
        _download(str(source).removeprefix(HUB_PREFIX))
    if not any((folder / name).is_file() for name in (WEIGHTS, WEIGHTS_INDEX)):
        raise FileNotFoundError(
            f"{source} has no {WEIGHTS}; weights in other formats are not read, since they may run code when loaded"
        )
    # transformers would build a tokenizer without words
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise FileNotFoundError(f"{source} lacks the files of its tokenizer: {', '.join(VOCABULARIES)} or the like")
    return folder


def _config_folder(source: str | Path) -> Path:
    """Return the folder that holds the config; for a repository, its folder in the hub's cache."""
    if str(source).startswith(HUB_PREFIX):
        try:
            return hub_file(str(source).removeprefix(HUB_PREFIX), [CONFIG]).parent
        except FileNotFoundError as error:
            raise MissingFile(f"{error}; all files of the repository are needed there", "pretrained=FOLDER") from error
    if not (Path(source) / CONFIG).is_file():
        raise FileNotFoundError(
            f"{source} is no folder of a model of transformers: it holds no {CONFIG}; a repository of Hugging Face's "
            f"hub is given as {HUB_PREFIX}OWNER/NAME"
        )
    return Path(source)


def _download(repository: str) -> None:
    """Complete the folder of a repository in the hub's cache, if the hub can be reached."""
    # asked once: each file would wait again for a hub that cannot be reached
    if not can_reach_hub():
        return
    with suppress(FileNotFoundError):
        weights = hub_file(repository, [WEIGHTS, WEIGHTS_INDEX])
        if weights.name == WEIGHTS_INDEX:
            for name in sorted(set(read_json(weights)["weight_map"].values())):
                hub_file(repository, [name])
    for name in PREPROCESSOR_FILES:
        with suppress(FileNotFoundError):
            hub_file(repository, [name])
