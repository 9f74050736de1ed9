"""Foreign pickles: their tensors are read, their code never runs, from any door."""

import io
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint
from tiny_run import tiny_config

from openvocab.checkpoint import (
    CheckpointCorrupt,
    UnsafeCheckpoint,
    load_checkpoint,
    load_state_dict,
    newest_valid_checkpoint,
)
from openvocab.engine.mmengine_loaders import guard_mmengine_loaders
from openvocab.engine.runner import build_runner
from openvocab.foreign_checkpoint import Placeholder, read_tensors

TOOLS = Path(__file__).resolve().parents[1] / "tools"


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = str(canary)

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


class Hyperparameters(dict):
    """A class that only the foreign program knows."""


def weights() -> dict[str, torch.Tensor]:
    base = torch.arange(24.0).view(4, 6)
    return {
        "net.whole": base,
        "net.view": base[1:3, 2:].t(),
        "net.half": torch.ones(3).half(),
        "net.flag": torch.tensor(True),
        "net.count": torch.tensor(3),
        "net.empty": torch.empty(0),
        "net.parameter": torch.nn.Parameter(torch.ones(2)),
        "net.bf16": torch.full((2,), 0.5, dtype=torch.bfloat16),
    }


def assert_same(loaded: dict[str, torch.Tensor]) -> None:
    assert loaded.keys() == weights().keys()
    for name, value in weights().items():
        assert loaded[name].dtype == value.dtype and torch.equal(loaded[name], value), name


ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@ZIPPED
@pytest.mark.parametrize("key", ["state_dict", "model", None])
def test_tensors_beside_unknown_objects(tmp_path, zipped, key):
    extra = {"hyper_parameters": Hyperparameters(lr=1), "callbacks": [torch.nn.Linear(2, 2)], "amp": {"scale": 1.0}}
    content = {key: weights(), **extra} if key else {**weights(), "path": Path("x")}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    assert_same(load_state_dict(tmp_path / "x.ckpt"))
    with pytest.raises(UnsafeCheckpoint, match="load_state_dict"):
        load_checkpoint(tmp_path / "x.ckpt")


def test_unknown_classes_become_placeholders(tmp_path):
    torch.save({"state_dict": weights(), "extra": Hyperparameters(a=1)}, tmp_path / "x.ckpt")
    assert isinstance(read_tensors(tmp_path / "x.ckpt")["extra"], Placeholder)


def test_torchscript_archive_gives_its_tensors(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)])
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.blocks[1](self.blocks[0](x)) * self.scale

    net = Net().eval().half()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather export
        torch.jit.save(torch.jit.script(net), str(tmp_path / "clip.pt"))
    loaded = load_state_dict(tmp_path / "clip.pt")
    assert loaded.keys() == net.state_dict().keys()
    assert all(torch.equal(loaded[name], value) for name, value in net.state_dict().items())
    with pytest.raises(UnsafeCheckpoint, match="TorchScript"):
        load_checkpoint(tmp_path / "clip.pt")


@pytest.fixture
def guarded(monkeypatch):
    """mmengine's loaders as in the processes of our tools."""
    monkeypatch.setattr(CheckpointLoader, "_schemes", dict(CheckpointLoader._schemes))
    guard_mmengine_loaders()


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def contaminated(canary: Path, place: str) -> dict:
    payload = Payload(canary)
    optimizer = {"state": {0: payload}, "param_groups": []}
    return {
        "top": {"state_dict": weights(), "payload": payload},
        "weights": {"state_dict": {**weights(), "net.extra": payload}},
        "optimizer": {"state_dict": weights(), "optimizer": optimizer, "meta": {"iter": 1}},
    }[place]


@ZIPPED
@pytest.mark.parametrize("place", ["top", "weights", "optimizer"])
def test_a_payload_never_runs(tmp_path, canary, guarded, zipped, place):
    path = tmp_path / "iter_1.pth"
    torch.save(contaminated(canary, place), path, _use_new_zipfile_serialization=zipped)
    assert_same(load_state_dict(path))
    with pytest.raises(UnsafeCheckpoint):
        load_checkpoint(path)
    with pytest.raises(UnsafeCheckpoint):
        _load_checkpoint(str(path))  # mmengine's way in
    assert newest_valid_checkpoint(tmp_path) is None
    assert not canary.exists()


def test_a_payload_in_a_bare_pickle_or_an_inner_zip_never_runs(tmp_path, canary):
    raw = pickle.dumps(Payload(canary))
    (tmp_path / "bare.pth").write_bytes(raw)
    inner = io.BytesIO()
    torch.save({"payload": Payload(canary)}, inner)
    with zipfile.ZipFile(tmp_path / "nested.pth", "w") as archive:
        archive.writestr("inner.pth", inner.getvalue())
    with zipfile.ZipFile(tmp_path / "made.pth", "w") as archive:
        archive.writestr("archive/data.pkl", raw)
        archive.writestr("archive/constants.pkl", raw)
    for name in ("bare.pth", "nested.pth", "made.pth"):
        for load in (load_checkpoint, load_state_dict):
            with pytest.raises(ValueError):
                load(tmp_path / name)
    assert not canary.exists()


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """BUILD with a slot state would set attributes of our rebuild functions."""
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N}X\x0c\x00\x00\x00__defaults__K\x01stb."
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(CheckpointCorrupt, match="tried to change the reader"):
        load_state_dict(tmp_path / "x.pth")


def test_tensors_cannot_reach_beyond_their_numbers(tmp_path):
    class Beyond:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (torch.zeros(2).storage(), 0, (1000,), (1,), False, {})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"a": Beyond()}, tmp_path / "x.pth")
    with pytest.raises(CheckpointCorrupt, match="out of bounds"):
        load_state_dict(tmp_path / "x.pth")


def test_resume_never_runs_a_payload(tmp_path, canary):
    torch.save(contaminated(canary, "optimizer"), tmp_path / "iter_4.pth")
    runner = build_runner(tiny_config(max_iters=4), work_dir=tmp_path, resume=True)
    runner.train()  # passes it over and starts from the beginning
    with pytest.raises(UnsafeCheckpoint):
        (tmp_path / "bad.pth").write_bytes(b"")
        torch.save(contaminated(canary, "top"), tmp_path / "bad.pth")
        build_runner(tiny_config(), work_dir=tmp_path, checkpoint=tmp_path / "bad.pth", resume=True).train()
    assert not canary.exists()


def test_the_tools_never_run_a_payload(tmp_path, canary):
    torch.save(contaminated(canary, "top"), tmp_path / "bad.pth")
    config = tmp_path / "config.py"
    config.write_text(
        "model = dict(type='TinyModel')\n"
        "test_dataloader = dict(dataset=dict(type='TinyDataset'), batch_size=2, num_workers=0,"
        " sampler=dict(type='DefaultSampler', shuffle=False))\n"
        "test_cfg = dict()\ntest_evaluator = dict(type='TinyMetric')\n"
        "custom_imports = dict(imports=['tiny_run'])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, str(TOOLS / "test.py"), str(config), str(tmp_path / "bad.pth")]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: ") and "other than tensors" in result.stderr
    assert "Traceback" not in result.stderr
    assert not canary.exists()


@pytest.mark.parametrize("address", ["https://host/x.pth", "modelzoo://x", "torchvision://x", "s3://x", "pavi://x"])
def test_mmengine_loads_no_address(guarded, address):
    with pytest.raises(ValueError, match="download the file"):
        CheckpointLoader.load_checkpoint(address)
