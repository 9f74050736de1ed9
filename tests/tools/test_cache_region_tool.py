"""tools/cache_region_embeddings.py: from a config with a teacher to a cache that its dataset reads."""

import shutil
from pathlib import Path

import pytest
import torch
from bfloat16_figures import FAST, SLOW, pretend
from mmengine.registry import DefaultScope
from tool_runs import REPOSITORY, run_tool, write_tiny_shapes

from openvocab.clip.open_clip_model import create_clip
from openvocab.config.config import read_config
from openvocab.registry import DATASETS

CONFIG = """
from mmengine.config import read_base
from openvocab.teacher import LoadRegions
from openvocab.teacher.proposal_sources import GroundTruthProposals

with read_base():
    from .shapes_detection import *

teacher = dict(
    model="ViT-Ti-8-shapes",
    pretrained="{root}/clip.pth",
    device="cpu",
    proposals=dict(type=GroundTruthProposals),
    folder="{root}/cache",
)
train_dataloader["dataset"]["root"] = "{root}/shapes"
pipeline = train_dataloader["dataset"]["pipeline"]
pipeline[2] = dict(type=LoadRegions, teacher=teacher)  # for the crop, which fits boxes to masks
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Shapes of 24 images, 12 of them with base classes, a CLIP and a config; nothing of it is changed."""
    root = tmp_path_factory.mktemp("world")
    write_tiny_shapes(root / "shapes")
    torch.manual_seed(0)
    torch.save(create_clip("ViT-Ti-8-shapes").state_dict(), root / "clip.pth")
    shutil.copy(REPOSITORY / "configs/_base_/datasets/shapes_detection.py", root)
    (root / "config.py").write_text(CONFIG.format(root=root))
    return root


@pytest.fixture
def config(world, tmp_path) -> Path:
    """A config whose cache lies in the test's own folder."""
    (tmp_path / "config.py").write_text(
        (world / "config.py").read_text().replace(f"{world}/cache", f"{tmp_path}/cache")
    )
    shutil.copy(world / "shapes_detection.py", tmp_path)
    return tmp_path / "config.py"


def make(config: Path, *options: object) -> int:
    return run_tool("cache_region_embeddings", config, "--images-per-shard", 5, *options)


def test_the_cache_is_what_the_training_set_of_the_config_reads(config, capsys):
    assert make(config) == 0
    shown = capsys.readouterr()
    assert "12/12" in shown.err and "ETA" in shown.err and "3 shards, 3 of them written now" in shown.out
    with DefaultScope.overwrite_default_scope("openvocab"):
        dataset = DATASETS.build(read_config(config).train_dataloader.dataset)
    samples = [dataset[index]["sample"] for index in range(len(dataset))]
    assert sum(len(sample.regions.boxes) for sample in samples) > 20
    for sample in samples:
        assert torch.equal(sample.regions.boxes, sample.instances.boxes)  # of base classes, after the flip
    assert make(config) == 0
    assert "it was finished already" in capsys.readouterr().out


def test_the_same_command_continues_an_interrupted_run(config, capsys):
    make(config)
    folder = config.parent / "cache"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "regions.json").unlink()
    (folder / "regions-00001.safetensors").unlink()
    (folder / "regions-00002.safetensors").write_bytes(b"half")
    assert make(config) == 0
    assert "3 shards, 2 of them written now" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_processes_of_torchrun_share_the_work(config, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert make(config) == 0
        assert ("3 shards, 2 of them written now" in capsys.readouterr().out) == (rank == "0")


def test_an_auto_dtype_is_said_and_kept(config, capsys, monkeypatch):
    config.write_text(config.read_text().replace('device="cpu",', 'device="cpu", dtype="auto",'))
    pretend(monkeypatch, FAST)
    assert make(config) == 0
    written = capsys.readouterr()
    assert "regions are embedded in bfloat16 (bfloat16 against float32: products 2.10" in written.out + written.err
    (config.parent / "cache" / "regions.json").unlink()
    pretend(monkeypatch, SLOW)
    assert make(config) == 0
    written = capsys.readouterr()
    assert (
        f"regions are embedded in bfloat16, like those that are already in {config.parent / 'cache'}"
        in written.out + written.err
    )


def test_mistakes_are_one_line(config, capsys):
    assert make(config, "--cfg-options", "teacher.crop=middle") == 2
    assert "crop: expected one of center, squash, got 'middle'" in capsys.readouterr().err
    make(config)
    assert make(config, "--cfg-options", "teacher.crop=squash") == 2
    assert (
        "holds another cache: teacher.crop is 'center' in the cache, 'squash' in the config" in capsys.readouterr().err
    )
    (config.parent / "plain.py").write_text("train_dataloader = dict(dataset=dict())\n")
    assert make(config.parent / "plain.py") == 2
    assert "no 'teacher'" in capsys.readouterr().err
