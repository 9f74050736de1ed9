"""`openvocab doctor`: facts about the environment, and a line to type for each fault, whatever is broken."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from config_parts import REPOSITORY
from tool_runs import run_command

from openvocab.commands import doctor
from openvocab.diagnosis import hardware, storage
from openvocab.diagnosis.facts import Fact, facts_from
from openvocab.diagnosis.packages import PACKAGES, import_failures, package_facts
from openvocab.process.processor_cores import CHOICE
from openvocab.version import __version__


def module(folder: Path, name: str, source: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(source)


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def broken(tmp_path):
    """A folder of packages that are broken in several ways, to be put before the others."""
    module(tmp_path, "torchvision", 'print("loading")\nraise OSError("libcudart.so.11: cannot open\\nshared object")')
    module(tmp_path, "timm", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    distribution(tmp_path, "opencv-python-headless", "4.1")
    return tmp_path


def test_broken_packages_are_faults_and_do_not_end_the_check(broken, tmp_path):
    environment = {
        **os.environ,
        "PYTHONPATH": f"{broken}:{REPOSITORY}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": str(2 * (os.cpu_count() or 1)),
    }
    command = [sys.executable, "-m", "openvocab", "doctor", "--json"]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 1, ran.stderr
    answer = json.loads(ran.stdout)
    facts = {name: value for section in answer["facts"].values() for name, value in section.items()}
    assert facts["openvocab"] == __version__ and torch.__version__.partition("+")[0] in facts["torch"]
    assert "times as fast" in facts["bfloat16"] and "HF_HUB_OFFLINE" in facts["hub"]
    wrong = {fault["name"]: fault for fault in answer["wrong"]}
    assert "libcudart.so.11: cannot open shared object" in wrong["torchvision"]["value"]
    assert "SIGILL" in wrong["timm"]["value"] and wrong["timm"]["advice"].startswith("pip install --force-reinstall")
    assert "overwrite each other" in wrong["cv2"]["value"]
    assert wrong["cv2"]["advice"].startswith("pip uninstall -y opencv-python opencv-python-headless && pip install")
    assert wrong["threads"]["advice"].startswith("export OMP_NUM_THREADS=")
    assert not {"torch", "numpy", "mmengine", "hub", "bfloat16"} & wrong.keys()


def test_every_failure_to_import_is_found_by_the_name_of_its_package(broken):
    names = [*sys.path]
    sys.path.insert(0, str(broken))
    try:
        failures = import_failures(["json", "torchvision", "timm", "no_such_package", "colorsys"])
    finally:
        sys.path[:] = names
    assert failures["json"] == failures["colorsys"] == ""
    assert failures["torchvision"].startswith("OSError: libcudart")
    assert failures["timm"] == "its import ends the process (SIGILL)"
    assert failures["no_such_package"].startswith("ModuleNotFoundError")


@pytest.mark.parametrize(
    ("installed", "failure", "value", "advice"),
    [
        ({}, "ModuleNotFoundError: no", "not installed", "pip install 'timm>=1.0"),
        ({"timm": "0.4"}, "", "timm 0.4, but openvocab needs >=1.0", "pip install 'timm>=1.0"),
        ({"timm": "99.1"}, "", "timm 99.1", ""),
        ({}, "", "not installed", ""),  # a copy on the path
    ],
    ids=["missing", "old", "new", "copy"],
)
def test_a_package_is_missing_old_or_right(monkeypatch, installed, failure, value, advice):
    monkeypatch.setattr("openvocab.diagnosis.packages._version", installed.get)
    monkeypatch.setattr("openvocab.diagnosis.packages.requires", lambda name: ["timm>=1.0.21", "x>1; extra == 'y'"])
    facts = {fact.name: fact for fact in package_facts({**dict.fromkeys(PACKAGES, ""), "timm": failure})}
    assert facts["timm"].value.startswith(value) and facts["timm"].advice.startswith(advice)
    assert bool(facts["timm"].advice) == bool(advice)


@pytest.mark.parametrize(
    ("number", "reason", "advice"),
    [("4", None, ""), ("9", None, "export OMP_NUM_THREADS=4"), ("many", None, "unset OMP_NUM_THREADS"),
     ("4,2", None, ""), ("0", None, "unset OMP_NUM_THREADS"), ("3", "1 of 4 cores busy", "")],
)  # fmt: skip
def test_more_threads_than_cores_are_a_fault(monkeypatch, number, reason, advice):
    monkeypatch.setattr(hardware, "available_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", number)
    monkeypatch.delenv(CHOICE, raising=False)
    if reason:
        monkeypatch.setenv(CHOICE, reason)
    (threads,) = [fact for fact in hardware.processor_facts() if fact.name == "threads"]
    assert threads.advice == advice and number in threads.value and (reason or "") in threads.value


@pytest.mark.parametrize(
    ("driver", "cuda", "advice"),
    [(None, None, ""), ("/usr/bin/nvidia-smi", None, "pip install --force-reinstall torch"),
     ("/usr/bin/nvidia-smi", "12.6", "nvidia-smi")],
)  # fmt: skip
def test_a_gpu_that_torch_does_not_use_is_a_fault(monkeypatch, driver, cuda, advice):
    monkeypatch.setattr(hardware.shutil, "which", lambda name: driver)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    device = next(iter(hardware.device_facts()))
    assert device.value.startswith("cpu") and device.advice.startswith(advice) and bool(device.advice) == bool(advice)


def test_full_disks_and_closed_folders_are_faults(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "ours"))
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "weights").write_bytes(bytes(200_000_000))
    facts = {fact.name: fact for fact in storage.storage_facts()}
    assert facts["cache"].value.startswith(f"{tmp_path / 'ours'} (0.2 GB in it, ")
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e9))
    advised = {fact.name: fact.advice for fact in storage.storage_facts()}
    assert "OPENVOCAB_CACHE" in advised["cache"] and "HF_HUB_CACHE" in advised["hub's cache"]
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "ours" / "weights" / "below a file"))
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: SimpleNamespace(free=1e12))
    (cache,) = [fact for fact in storage.storage_facts() if fact.advice]
    assert cache.name == "cache" and "cannot be written" in cache.value


def test_an_unreachable_hub_is_a_fault_unless_that_is_meant(monkeypatch, hub):
    from huggingface_hub import constants

    assert [fact.advice for fact in storage.hub_facts()] == [""]
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    (fact,) = storage.hub_facts()
    assert "HF_HUB_OFFLINE=1" in fact.advice and "127.0.0.1:9" in fact.value
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert [fact.advice for fact in storage.hub_facts()] == [""]


def test_a_check_that_fails_keeps_what_it_has_found():
    def check():
        yield Fact("a", "1")
        raise RuntimeError("two\nlines")

    first, second = facts_from("b", check)
    assert first == Fact("a", "1") and second.advice and "RuntimeError: two lines" in second.value


def test_without_faults_the_exit_code_is_0(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_sections", lambda: {"x": [Fact("a", "1"), Fact("longer", "2")]})
    assert run_command("doctor") == 0
    assert capsys.readouterr().out == (
        '  a       1\n  longer  2\n\nnothing is wrong; try: openvocab predict photo.jpg "cat, sofa, floor, other"\n'
    )
    monkeypatch.setattr(doctor, "_sections", lambda: {"x": [Fact("a", "1", "type this")]})
    assert run_command("doctor") == 1
    assert capsys.readouterr().out == "! a  1\n\nwhat to do:\n  a: type this\n"
