"""A config by the name of a published model, by its own name, or by its path."""

import pytest

from openvocab.config.config import ConfigError
from openvocab.zoo import find_model, read_named_config


def test_a_published_model_has_its_config_with_its_settings_and_the_users_changes_win():
    config, model = read_named_config("dense-clip-vit-l14-336")
    assert model == find_model("dense-clip-vit-l14-336")
    assert config.model.backbone.model == "ViT-L-14-336-quickgelu" and config.model.inference.window == 336
    changed, _ = read_named_config(
        "dense-clip-vit-l14-336", {"model.inference.window": 224, "test_dataloader.batch_size": 2}
    )
    assert changed.model.inference.window == 224 and changed.model.inference.stride == config.model.inference.stride
    assert changed.test_dataloader.batch_size == 2


def test_a_config_has_no_published_model_and_a_file_comes_first(tmp_path, monkeypatch):
    config, model = read_named_config("lseg_shapes", {"train_cfg.max_iters": 7})
    assert model is None and config.train_cfg.max_iters == 7
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clip-vit-b16").write_text("model = dict()")
    with pytest.raises(ConfigError, match="clip-vit-b16: expected a Python config"):
        read_named_config("clip-vit-b16")


@pytest.mark.parametrize(("name", "meant"), [("clip-vit-b61", "clip-vit-b16"), ("lseg_shaeps", "lseg_shapes")])
def test_names_of_both_kinds_are_suggested(name, meant):
    with pytest.raises(FileNotFoundError, match=f"no such model or config: {name}; did you mean .*{meant}"):
        read_named_config(name)
