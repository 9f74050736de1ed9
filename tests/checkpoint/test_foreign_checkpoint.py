"""Foreign pickles: their tensors are read, their code never runs, from any door."""

import io
import os
import pickle
import random
import resource
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from config_parts import REPOSITORY
from mmengine.runner import CheckpointLoader
from mmengine.runner.checkpoint import _load_checkpoint
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import (
    CheckpointCorrupt,
    UnsafeCheckpoint,
    load_checkpoint,
    load_state_dict,
    newest_valid_checkpoint,
)
from openvocab.checkpoint.foreign import Placeholder, read_tensors
from openvocab.datasets.files.safe_pickle import read_plain_pickle
from openvocab.engine.mmengine_loaders import guard_mmengine_loaders
from openvocab.engine.runner import build_runner
from openvocab.engine.work_dir import WorkDirInUse

TOOLS = REPOSITORY / "tools"


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
    with pytest.raises(WorkDirInUse, match="none of them can be resumed"):  # nor is it overwritten
        build_runner(tiny_config(max_iters=4), work_dir=tmp_path, resume=True).train()
    with pytest.raises(UnsafeCheckpoint):
        (tmp_path / "bad.pth").write_bytes(b"")
        torch.save(contaminated(canary, "top"), tmp_path / "bad.pth")
        build_runner(tiny_config(), work_dir=tmp_path / "other", checkpoint=tmp_path / "bad.pth", resume=True).train()
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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "tests")}
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


def rewritten(source: Path, target: Path, compression: int, replaced: dict[str, bytes]) -> Path:
    """Copy a zip archive, its members compressed or some of them replaced (by the ends of their names)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for name in old.namelist():
            ends = [end for end in replaced if name.endswith(end)]
            new.writestr(name, replaced[ends[0]] if ends else old.read(name))
    return target


def test_compressed_numbers_are_refused_before_they_are_unpacked(tmp_path):
    torch.save({"a": torch.zeros(20_000_000)}, tmp_path / "x.pth")  # 80 MB
    bomb = rewritten(tmp_path / "x.pth", tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED, {})
    assert bomb.stat().st_size < 200_000
    for load in (load_checkpoint, load_state_dict):
        tracemalloc.start()
        with pytest.raises(CheckpointCorrupt, match="is compressed, which torch never does"):
            load(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()


def test_a_compressed_program_of_torchscript_is_none_of_it(tmp_path):
    """TorchScript compresses its source code, which is not read."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(2, 2)

        def forward(self, x):
            return self.linear(x) + self.linear(x) * 2 + self.linear(x).relu() - self.linear(x).tanh().abs()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather export
        torch.jit.save(torch.jit.script(Net()), str(tmp_path / "clip.pt"))
    members = zipfile.ZipFile(tmp_path / "clip.pt").infolist()
    assert any(member.compress_type == zipfile.ZIP_DEFLATED for member in members)
    assert load_state_dict(tmp_path / "clip.pt").keys() == {"linear.weight", "linear.bias"}


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",  # puts None at place 2^31 - 1 of the memo: a table of 32 GB
        b"\x80\x02Np2147483647\n.",
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"x.",  # announces a byte array of a terabyte
        b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b"x.",
        b"\x80\x04\x95" + (1 << 60).to_bytes(8, "little") + b"N.",
    ],
    ids=["memo", "memo as text", "bytearray", "bytes", "frame"],
)
def test_a_pickle_cannot_reserve_more_than_it_holds(tmp_path, program):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth")
    bomb = rewritten(tmp_path / "x.pth", tmp_path / "bomb.pth", zipfile.ZIP_STORED, {"data.pkl": program})
    (tmp_path / "legacy.pth").write_bytes(program)
    with little_memory():
        for path in (bomb, tmp_path / "legacy.pth"):
            with pytest.raises(CheckpointCorrupt):
                load_state_dict(path)
        with pytest.raises((CheckpointCorrupt, UnsafeCheckpoint)):
            load_checkpoint(bomb)
        with pytest.raises(ValueError, match="not a pickle of plain values"):
            read_plain_pickle(program)


@contextmanager
def little_memory() -> Iterator[None]:
    """Let the process take 256 MB more and nothing beyond."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 28), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize(
    "name", ["builtins bytearray", "torch FloatStorage", "torch Tensor", "torch.storage UntypedStorage"]
)
def test_a_name_that_takes_any_amount_of_memory_is_not_called(tmp_path, name):
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pth")
    program = b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\nJ" + (1000).to_bytes(4, "little") + b"\x85R."
    bomb = rewritten(tmp_path / "x.pth", tmp_path / "bomb.pth", zipfile.ZIP_STORED, {"data.pkl": program})
    with pytest.raises((CheckpointCorrupt, UnsafeCheckpoint), match=r"bomb\.pth"):
        load_checkpoint(bomb)


def test_members_that_overlap_are_refused(tmp_path):
    torch.save({"a": torch.ones(100_000), "b": torch.ones(100_000)}, tmp_path / "x.pth")
    path = rewritten(tmp_path / "x.pth", tmp_path / "y.pth", zipfile.ZIP_STORED, {"data/1": b""})
    content = bytearray(path.read_bytes())
    large, small = (content.rfind(b"PK\x01\x02", 0, content.rfind(b"/data/" + key)) for key in (b"0", b"1"))
    for first, last in ((20, 28), (42, 46)):  # sizes and place of a member, in its entry of the directory
        content[small + first : small + last] = content[large + first : large + last]
    path.write_bytes(content)
    for load in (load_checkpoint, load_state_dict):
        with pytest.raises(CheckpointCorrupt, match=r"y\.pth"):
            load(path)


def test_numbers_may_not_be_read_more_often_than_they_are_there(tmp_path):
    """A storage that many names share is read once; the members together may not exceed the file."""
    shared = torch.zeros(1000)
    torch.save({str(index): shared[index:] for index in range(50)}, tmp_path / "x.pth")
    assert len(load_state_dict(tmp_path / "x.pth")) == 50


@pytest.mark.parametrize("seed", range(4))
def test_any_change_of_a_program_is_read_or_refused(tmp_path, seed):
    torch.save({"state_dict": weights(), "meta": {"names": ["cat"], "iter": 3}}, tmp_path / "x.pth")
    (name,) = [n for n in zipfile.ZipFile(tmp_path / "x.pth").namelist() if n.endswith("data.pkl")]
    program = zipfile.ZipFile(tmp_path / "x.pth").read(name)
    draw = random.Random(seed)
    for _ in range(60):
        changed = bytearray(program)
        for _ in range(draw.choice([1, 2, 5])):
            changed[draw.randrange(2, len(changed))] = draw.randrange(256)
        path = rewritten(tmp_path / "x.pth", tmp_path / "y.pth", zipfile.ZIP_STORED, {"data.pkl": bytes(changed)})
        for load in (load_checkpoint, load_state_dict):
            try:
                load(path)
            except ValueError as error:
                assert "y.pth" in str(error)
