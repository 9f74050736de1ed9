from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("transformers")


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """A function from the `model_type` of a tiny model to the folder in which it was saved, once."""
    import tiny_models

    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tiny_models.save(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return folder
