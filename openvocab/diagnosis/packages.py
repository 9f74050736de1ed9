"""Versions of Python and of the packages that openvocab needs: too old, missing, broken, or installed twice."""

import json
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING

from openvocab.diagnosis.facts import Fact
from openvocab.version import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement

PACKAGES = {
    "torch": ("torch",),
    "torchvision": ("torchvision",),
    "numpy": ("numpy",),
    "mmengine": ("mmengine", "mmengine-lite"),
    "mmcv": ("mmcv-lite", "mmcv"),
    "timm": ("timm",),
    "open_clip": ("open_clip_torch",),
    "cv2": ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
    "PIL": ("pillow",),
    "yaml": ("PyYAML",),
    "safetensors": ("safetensors",),
    "pycocotools": ("pycocotools",),
    "faster_coco_eval": ("faster-coco-eval",),
    "huggingface_hub": ("huggingface_hub",),
}
"""{module: the distributions that contain it}; two of them in one environment overwrite each other's files."""
SECONDS = 180
"""Time limit in seconds for importing all packages."""
_IMPORTS = """
import importlib, json, os, sys
sys.path[:] = json.loads(sys.argv[1])
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what a package prints is no answer
for name in sys.argv[2:]:
    try:
        importlib.import_module(name)
        failure = ""
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    print(json.dumps(failure), file=answers, flush=True)
"""


def package_facts(failures: Mapping[str, str]) -> Iterator[Fact]:
    """Yield the versions of openvocab, Python and the packages.

    Args:
        failures: see `import_failures`.
    """
    yield Fact("openvocab", __version__)
    yield Fact("Python", f"{platform.python_version()} ({sys.executable})")
    required = _requirements()
    for module, distributions in PACKAGES.items():
        yield _package_fact(module, distributions, failures[module], required)


def import_failures(modules: Sequence[str]) -> dict[str, str]:
    """Return {module: why it cannot be imported, "" if it can}, also if one of them ends the process."""
    found: dict[str, str] = {}
    while waiting := [module for module in modules if module not in found]:
        command = [sys.executable, "-c", _IMPORTS, json.dumps(sys.path), *waiting]
        try:
            ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=SECONDS)
            output, ending = ended.stdout, _ending(ended.returncode)
        except subprocess.TimeoutExpired as error:
            output, ending = error.stdout or b"", f"its import takes more than {SECONDS} s"
        answers = [json.loads(line) for line in output.splitlines()]
        found.update(zip(waiting, answers))
        if len(answers) < len(waiting):
            found[waiting[len(answers)]] = ending
    return found


def _ending(code: int) -> str:
    return f"its import ends the process ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _requirements() -> dict[str, "Requirement"]:
    """Return {distribution: what openvocab requires of it}; {} if openvocab is not installed but on the path."""
    try:
        from packaging.requirements import Requirement

        lines = requires("openvocab") or []
    except (ImportError, PackageNotFoundError):
        return {}
    requirements = map(Requirement, lines)
    return {_canonical(each.name): each for each in requirements if each.marker is None}


def _package_fact(module: str, distributions: Sequence[str], failure: str, required: dict[str, "Requirement"]) -> Fact:
    installed = {name: found for name in distributions if (found := _version(name)) is not None}
    value = ", ".join(f"{name} {found}" for name, found in installed.items()) or "not installed"
    requirement = next((required[key] for key in map(_canonical, distributions) if key in required), None)
    install = f"pip install '{requirement or distributions[0]}'"
    if not installed and failure:
        return Fact(module, value, install)
    if len(installed) > 1:
        names = " ".join(installed)
        return Fact(module, f"{value}: they overwrite each other's files", f"pip uninstall -y {names} && {install}")
    if failure:
        broken = f"{value}: cannot be imported: {' '.join(failure.split())[:300]}"
        return Fact(module, broken, f"pip install --force-reinstall --no-deps '{requirement or distributions[0]}'")
    for name, found in installed.items():
        if requirement is not None and _canonical(requirement.name) == _canonical(name):
            if not requirement.specifier.contains(found, prereleases=True):
                return Fact(module, f"{value}, but openvocab needs {requirement.specifier}", install)
    return Fact(module, value)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-")
