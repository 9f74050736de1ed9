"""Find the file of weights that a name refers to: a file, a folder in Hugging Face's layout, or a hub repository."""

from pathlib import Path

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
        FileNotFoundError: a folder or repository without one of these weight files, or a hub that cannot be reached.
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
    try:
        weights = next(filter(None, (_fetched(repository, file) for file in WEIGHT_FILES)), None)
        _fetched(repository, "config.json")  # in the same folder; it states the activation of the model
    except (OSError, ValueError) as error:
        weights, reason = None, type(error).__name__
    else:
        reason = f"no {' or '.join(WEIGHT_FILES)} in it or in the cache"
    if weights is None:
        raise FileNotFoundError(
            f"cannot download {HUB_PREFIX}{repository} ({reason}); without a network, pass a folder or file"
        )
    return weights


def _fetched(repository: str, file: str) -> Path | None:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    name, _, revision = repository.partition("@")
    try:
        return Path(hf_hub_download(name, file, revision=revision or None))
    except EntryNotFoundError:  # neither in the repository, nor, without a network, in the cache
        return None
