"""Code in any place of a checkpoint, as text or as a pickled object, never runs, whichever door the file enters by."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from tiny_run import tiny_config
from tool_runs import LSEG_SHAPES, run_tool, write_tiny_shapes

from openvocab import load
from openvocab.checkpoint.checkpoint import UnsafeCheckpoint, load_checkpoint, load_state_dict, save_checkpoint
from openvocab.clip.open_clip_model import create_clip
from openvocab.config.saved import config_to_data
from openvocab.engine.runner import build_runner
from openvocab.registry import MODELS

EXPECTED = (ValueError, TypeError, KeyError, AttributeError, RuntimeError, IndexError, AssertionError)
"""What a run may end with whose checkpoint holds nonsense in one place."""


class Payload:
    """Leaves a canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def program(canary: Path) -> str:
    """Return a text that leaves a canary when it is run as Python, as a shell command's end or as a format."""
    return f"open({str(canary)!r}, 'w').close()\n"


def leaves(node, place=()) -> Iterator[tuple]:
    """Yield the place of every value; of a list, parameters by number, or logged numbers, the first stands for all."""
    if isinstance(node, dict) and node:
        keys = list(node)
        alike = all(isinstance(key, int) for key in keys) or place[-1:] in (("log_scalars",), ("resumed_keys",))
        for key in keys[:1] if alike else keys:
            yield from leaves(node[key], (*place, key))
    elif isinstance(node, (list, tuple)) and node:
        yield from leaves(node[0], (*place, 0))
    else:
        yield place


def with_value(node, place, value):
    """Copy `node` with another value at a place."""
    if not place:
        return value
    if isinstance(node, dict):
        return {**node, place[0]: with_value(node[place[0]], place[1:], value)}
    copied = [*node]
    copied[place[0]] = with_value(copied[place[0]], place[1:], value)
    return type(node)(copied)


def all_strings(node, text):
    """Copy `node` with the program behind every string."""
    if isinstance(node, dict):
        return {key: all_strings(value, text) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(all_strings(value, text) for value in node)
    return f"{node}\n{text}" if isinstance(node, str) else node


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> dict:
    """Return what a tiny run with weight averaging has saved."""
    folder = tmp_path_factory.mktemp("trained")
    build_runner(tiny_config(max_iters=6, ema=True), work_dir=folder).train()
    return load_checkpoint(folder / "last.pth")


@pytest.fixture(scope="module")
def lseg() -> dict:
    """Return the checkpoint of a model that can be loaded alone."""
    config = Config.fromfile(LSEG_SHAPES)
    config = Config({**config, "model": without_weights(config.model)})
    weights = MODELS.build(config.model).state_dict()
    return {"state_dict": weights, "meta": {"iter": 1, "quick_gelu": False, "config": config_to_data(config)}}


def resume(folder: Path) -> bool:
    """Resume from the files of a folder; say whether the run came to its end."""
    config = tiny_config(max_iters=7, ema=True)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.default_hooks.checkpoint.update(best=None, interval=100)
    try:
        build_runner(config, work_dir=folder, resume=True).train()
    except EXPECTED:
        return False
    return True


def test_text_in_any_place_never_runs_at_a_resume(trained, tmp_path):
    canary, ended = tmp_path / "canary", 0
    places = [place for place in leaves(trained) if place[0] not in ("state_dict", "ema_state_dict")]
    places += [("state_dict", "layers.0.weight"), ("ema_state_dict", "module.layers.0.weight"), ("state_dict",)]
    places += [("meta",), ("meta", "config"), ("message_hub",), ("optimizer",), ("param_schedulers",), ("plan",)]
    for number, place in enumerate(places):
        folder = tmp_path / str(number)
        folder.mkdir()
        save_checkpoint(with_value(trained, place, program(canary)), folder / "iter_6.pth")
        ended += resume(folder)
        assert not canary.exists(), place
    assert len(places) > 60 and ended > len(places) / 3


def test_text_in_all_places_at_once_never_runs(trained, tmp_path):
    canary = tmp_path / "canary"
    save_checkpoint(all_strings(trained, program(canary)), tmp_path / "iter_6.pth")
    resume(tmp_path)
    assert not canary.exists()


def test_an_older_file_with_its_config_as_text_is_resumed_without_running_it(trained, tmp_path):
    canary = tmp_path / "canary"
    old = {key: value for key, value in trained.items() if key not in ("plan", "best_metric")}
    old["meta"] = {**old["meta"], "config": program(canary)}
    save_checkpoint(old, tmp_path / "iter_6.pth")
    assert resume(tmp_path) and not canary.exists()


def test_a_pickled_object_in_any_place_never_runs(trained, tmp_path):
    canary = tmp_path / "canary"
    foreign = {key: value for key, value in trained.items() if key != "format"}  # of ours a digest would be missed
    for number, place in enumerate(leaves(foreign)):
        path = tmp_path / f"iter_{number}.pth"
        torch.save(with_value(foreign, place, Payload(canary)), path)
        with pytest.raises(UnsafeCheckpoint):
            load_checkpoint(path)
        with pytest.raises(UnsafeCheckpoint):
            load(path)
        load_state_dict(path)
        path.unlink()
        assert not canary.exists(), place


def test_text_in_any_place_never_runs_at_a_load(lseg, tmp_path):
    canary, built = tmp_path / "canary", 0
    path = tmp_path / "best.pth"
    config = ("meta", "config")
    places = [(*config, *place) for place in leaves(lseg["meta"]["config"])]
    for place in places:
        if place[2] not in ("model", "test_dataloader"):
            continue  # of the others nothing is looked at, which the whole file shows below
        save_checkpoint(with_value(lseg, place, program(canary)), path)
        try:
            load(path)
            built += 1
        except ValueError as error:
            assert "\n" not in str(error)
        assert not canary.exists(), place
    save_checkpoint({**lseg, "meta": all_strings(lseg["meta"], program(canary))}, path)
    with pytest.raises(ValueError):
        load(path)
    assert built > 3 and not canary.exists()


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return write_tiny_shapes(tmp_path_factory.mktemp("world") / "shapes")


@pytest.mark.parametrize("kind", ["text", "object"])
def test_no_tool_runs_what_is_in_a_checkpoint(lseg, world, tmp_path, monkeypatch, kind):
    canary, bad = tmp_path / "canary", tmp_path / "bad.pth"
    torch.manual_seed(0)
    clip = create_clip("ViT-Ti-8-shapes").state_dict()
    if kind == "text":
        save_checkpoint({**all_strings({**lseg, "x": "x"}, program(canary)), "state_dict": lseg["state_dict"]}, bad)
        save_checkpoint({"state_dict": clip, "meta": {"config": program(canary)}}, tmp_path / "clip.pth")
    else:
        torch.save({**lseg, "x": Payload(canary)}, bad)
        torch.save({"state_dict": clip, "x": Payload(canary)}, tmp_path / "clip.pth")
    monkeypatch.chdir(tmp_path)
    photo = next((world / "images" / "val").glob("*"))
    demo = ("demo", photo, "--classes", "cat, other", "--device", "cpu")
    data = ("--cfg-options", f"test_dataloader.dataset.root={world}", "test_dataloader.num_workers=0")
    data += ("test_dataloader.persistent_workers=False",)
    regions = ("teacher.pretrained=clip.pth", "teacher.model=ViT-Ti-8-shapes", "teacher.folder=regions")
    proposals = ("teacher.device=cpu", "teacher.proposals.checkpoint=bad.pth", f"train_dataloader.dataset.root={world}")
    codes = [
        run_tool(*demo, "--checkpoint", bad),
        run_tool(*demo, "--checkpoint", bad, "--config", LSEG_SHAPES),
        run_tool("test", LSEG_SHAPES, bad, "--work-dir", "work", *data),
        run_tool("convert_checkpoint", "lseg", bad, "out.pth"),
        run_tool("convert_checkpoint", "groupvit", bad, "out.pth"),
        run_tool(
            "cache_region_embeddings", REPOSITORY / "configs/vild_shapes.py", "--cfg-options", *regions, *proposals
        ),
        run_tool("train", LSEG_SHAPES, "--work-dir", "work", "--cfg-options", "model.backbone.pretrained=bad.pth"),
    ]
    assert not canary.exists() and set(codes) <= {0, 2}
    assert codes[1:3] == [0, 0] if kind == "text" else codes[2] == 2
