"""Models from folders and from a hub: with its real client against a local one, and without a network."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
from local_hub import use_hub
from tiny_models import NAMES

from openvocab.foreign.model_folder import model_folder
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.predictor import Predictor

PHOTO = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)


@pytest.fixture
def published(hub, saved):
    for file in saved("owlv2").iterdir():
        hub.add("owner/owl", file.name, file)
    return hub


def test_a_repository_is_downloaded_and_then_found_without_a_network(published, saved, monkeypatch, tmp_path):
    expected = Predictor(TransformersModel(saved("owlv2")))(PHOTO, NAMES)
    first = Predictor(TransformersModel("hf-hub:owner/owl"))(PHOTO, NAMES)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    second = Predictor(TransformersModel("hf-hub:owner/owl"))(PHOTO, NAMES)
    assert first.scores.equal(expected.scores) and second.scores.equal(expected.scores)


def test_without_network_and_cache_one_line_says_so_within_seconds(monkeypatch, tmp_path):
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "empty cache")
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError, match="hf-hub:owner/owl|owner/owl") as error:
        TransformersModel("hf-hub:owner/owl")
    assert time.perf_counter() - start < 5 and "\n" not in str(error.value)


def test_a_gated_repository_says_where_to_ask(published):
    published.gated.add("owner/owl")
    with pytest.raises(PermissionError, match="is gated: accept its conditions at"):
        TransformersModel("hf-hub:owner/owl")


def test_weights_in_several_files_are_all_downloaded(hub, saved, tmp_path):
    from transformers import Owlv2ForObjectDetection

    network = Owlv2ForObjectDetection.from_pretrained(saved("owlv2"))
    network.save_pretrained(tmp_path / "parts", max_shard_size="100KB")
    parts = sorted((tmp_path / "parts").glob("model-*.safetensors"))
    assert len(parts) > 1
    for file in saved("owlv2").iterdir():
        if file.name != "model.safetensors":
            hub.add("owner/parts", file.name, file)
    for file in (tmp_path / "parts").iterdir():
        hub.add("owner/parts", file.name, file)
    prediction = Predictor(TransformersModel("hf-hub:owner/parts"))(PHOTO, NAMES)
    assert prediction.scores.equal(Predictor(TransformersModel(saved("owlv2")))(PHOTO, NAMES).scores)


def test_pickled_weights_are_refused(hub, saved, tmp_path):
    for file in saved("owlv2").iterdir():
        if file.name != "model.safetensors":
            hub.add("owner/old", file.name, file)
            (tmp_path / file.name).write_bytes(file.read_bytes())
    hub.add("owner/old", "pytorch_model.bin", b"pickle")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    for source in ("hf-hub:owner/old", tmp_path):
        with pytest.raises(FileNotFoundError, match="has no model.safetensors; weights in other formats") as error:
            TransformersModel(source)
        assert "\n" not in str(error.value)


def test_code_of_a_folder_is_not_run(saved, tmp_path):
    for file in saved("owlv2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, key in (("tokenizer_config.json", "AutoTokenizer"), ("processor_config.json", "AutoImageProcessor")):
        content = json.loads((tmp_path / name).read_text())
        entry = ["evil.Evil", None] if key == "AutoTokenizer" else "evil.Evil"
        (tmp_path / name).write_text(json.dumps(content | {"auto_map": {key: entry}}))
    marker = tmp_path / "ran"
    (tmp_path / "evil.py").write_text(f"open({str(marker)!r}, 'w').close()\nclass Evil: pass\n")
    Predictor(TransformersModel(tmp_path))(PHOTO, NAMES)
    assert not marker.exists()


def test_weights_that_lack_entries_are_refused(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in saved("owlv2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    del state["class_head.dense0.weight"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lack 1 entries of Owlv2ForObjectDetection: class_head.dense0.weight"):
        TransformersModel(tmp_path)


def test_weights_without_effect_may_be_missing(saved, tmp_path):
    """Other versions of transformers do not save a norm of Swin that its users never apply."""
    from safetensors.torch import load_file, save_file

    for file in saved("omdet-turbo").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    for part in ("weight", "bias"):
        del state[f"vision_backbone.vision_backbone.swin.layernorm.{part}"]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    expected = Predictor(TransformersModel(saved("omdet-turbo")))(PHOTO, NAMES)
    assert Predictor(TransformersModel(tmp_path))(PHOTO, NAMES).scores.equal(expected.scores)


@pytest.mark.parametrize("missing", ["tokenizer", "image processor"])
def test_a_folder_without_tokenizer_or_processor_is_named(saved, tmp_path, missing):
    for file in saved("owlv2").iterdir():
        is_missing = file.name.startswith("tokenizer") if missing == "tokenizer" else "processor" in file.name
        if not is_missing:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match="lacks .*files of its tokenizer") as error:
        TransformersModel(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["no such folder", "google/owlv2-base-patch16-ensemble"])
def test_a_name_that_is_no_folder_says_how_a_repository_is_given(source):
    with pytest.raises(FileNotFoundError, match=f"{source} is no folder .* given as hf-hub:OWNER/NAME"):
        model_folder(Path(source))
