"""Weights by file, folder or hub; the hub is a server of this test."""

import pytest
import torch
from huggingface_hub import constants

from openvocab.checkpoint.weights_file import weights_file
from openvocab.clip.open_clip_model import create_clip


def test_a_file_is_itself_and_a_folder_prefers_safetensors(tmp_path):
    assert weights_file(tmp_path / "absent.pt") == tmp_path / "absent.pt"
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors or pytorch_model.bin"):
        weights_file(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    assert weights_file(str(tmp_path)).name == "pytorch_model.bin"
    (tmp_path / "model.safetensors").touch()
    assert weights_file(tmp_path).name == "model.safetensors"


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_repository_gives_its_weights_with_the_config_beside(hub, name):
    hub[f"/owner/tiny/resolve/main/{name}"] = b"weights"
    hub["/owner/tiny/resolve/main/config.json"] = b"{}"
    path = weights_file("hf-hub:owner/tiny")
    assert path.name == name and path.read_bytes() == b"weights"
    assert path.with_name("config.json").read_bytes() == b"{}"


def test_a_revision_may_be_named(hub):
    hub["/owner/tiny/resolve/v2/model.safetensors"] = b"second"
    assert weights_file("hf-hub:owner/tiny@v2").read_bytes() == b"second"


def test_what_was_downloaded_is_there_without_network(hub, monkeypatch):
    hub["/owner/tiny/resolve/main/pytorch_model.bin"] = b"weights"
    first = weights_file("hf-hub:owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights_file("hf-hub:owner/tiny") == first
    with pytest.raises(FileNotFoundError, match="hf-hub:owner/other is not in the hub's cache.*put it into "):
        weights_file("hf-hub:owner/other")


def test_a_repository_without_weights_and_a_name_that_is_none_are_one_line(hub):
    with pytest.raises(FileNotFoundError, match="hf-hub:owner/empty has no model.safetensors or pytorch_model.bin"):
        weights_file("hf-hub:owner/empty")
    with pytest.raises(FileNotFoundError, match="hf-hub:a/b/c is no name of a repository, OWNER/NAME"):
        weights_file("hf-hub:a/b/c")


def test_a_model_is_built_from_the_hub(hub, tmp_path):
    torch.manual_seed(0)
    clip = create_clip("ViT-Ti-8-shapes")
    torch.save(clip.state_dict(), tmp_path / "weights.bin")
    hub["/owner/tiny/resolve/main/pytorch_model.bin"] = (tmp_path / "weights.bin").read_bytes()
    loaded = create_clip("ViT-Ti-8-shapes", "hf-hub:owner/tiny")
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in clip.state_dict().items())
