"""Fixtures of the tests of regions."""

from pathlib import Path

import pytest
import torch
from teacher_parts import MODEL, Pictures, write_pictures

from openvocab.clip.open_clip_model import create_clip


@pytest.fixture(scope="session")
def clip_file(tmp_path_factory) -> Path:
    """Weights of a small CLIP, which decide about a cache."""
    path = tmp_path_factory.mktemp("clip") / "clip.pth"
    torch.manual_seed(0)
    torch.save(create_clip(MODEL).state_dict(), path)
    return path


@pytest.fixture
def teacher(tmp_path: Path, clip_file: Path) -> dict:
    """A config's `teacher`, with a grid of few boxes."""
    proposals = {"type": "GridProposals", "sizes": (0.5, 0.75), "stride": 1.0}
    settings = {"model": MODEL, "pretrained": str(clip_file), "proposals": proposals, "folder": str(tmp_path / "cache")}
    return settings | {"device": "cpu", "batch_size": 16}


@pytest.fixture
def pictures(tmp_path: Path) -> Pictures:
    """Seven images of several sizes, no pipeline but the loading."""
    return Pictures(write_pictures(tmp_path / "pictures"))
