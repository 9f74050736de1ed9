"""Find the file of weights that a name refers to: a file, a folder in Hugging Face's layout, or a hub repository."""

from contextlib import suppress
from pathlib import Path

from openvocab.checkpoint.hub import hub_file

HUB_PREFIX = "hf-hub:"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""In the order of preference."""


def weights_file(source: str | Path) -> Path:
    """Return the file of weights that `source` refers to; a path that is not a folder is returned unchanged.

    Args:
        source: a file; a folder with `model.safetensors` or `pytorch_model.bin`; or `hf-hub:OWNER/NAME`, of which one
            of the two and `config.json` are downloaded into the hub's cache (`hf-hub:OWNER/NAME@REVISION` for a branch,
            tag or commit).

    Raises:
        FileNotFoundError, PermissionError, ConnectionError: a folder without one of these weight files; see `hub_file`.
    """
    if str(source).startswith(HUB_PREFIX):
        return _download(str(source).removeprefix(HUB_PREFIX))
    path = Path(source)
    if not path.is_dir():
        return path
    files = [path / name for name in WEIGHT_FILES if (path / name).is_file()]
    if not files:
        raise FileNotFoundError(f"the folder {path} holds no {' or '.join(WEIGHT_FILES)}; name the file itself")
    return files[0]


def _download(repository: str) -> Path:
    """Return the weights of a repository in the hub's cache, which also works without a network."""
    weights = hub_file(repository, WEIGHT_FILES)
    with suppress(FileNotFoundError):  # in the same folder; where there is one, it states the activation of the model
        hub_file(repository, ["config.json"])
    return weights
