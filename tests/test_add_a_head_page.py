"""docs/add_a_head.md is a program: its files are written, trained by class and by registry name, and tested."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bounded_processes import run_bounded
from tool_runs import run_tool_apart

REPOSITORY = Path(__file__).resolve().parents[1]
FILE = re.compile(r"```python\n# file: (\S+)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder beside configs/ with the page's files and a small Shapes world."""
    root = tmp_path_factory.mktemp("checkout")
    (root / "configs").symlink_to(REPOSITORY / "configs")
    folder = root / "my_project"
    folder.mkdir()
    files = FILE.findall((REPOSITORY / "docs" / "add_a_head.md").read_text())
    assert len(files) == 3
    for name, text in files:
        (folder / name).write_text(text)
    assert run_tool_apart(root, "make_shapes", "--root", "data/shapes", "--num-train", "40", "--num-val", "8") == 0
    return root


@pytest.mark.parametrize("check", [("check",), ("format", "--check")], ids=" ".join)
def test_the_head_passes_our_lint(project: Path, check: tuple[str, ...]):
    text = (project / "my_project" / "linear_pixel_head.py").read_text()
    in_the_package = "openvocab/heads/linear_pixel_head.py"
    command = [sys.executable, "-m", "ruff", *check, "--no-cache", "--stdin-filename", in_the_package, "-"]
    result = subprocess.run(command, input=text, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_types_of_the_head_are_checked(project: Path):
    pytest.importorskip("mypy")
    head = project / "my_project" / "linear_pixel_head.py"
    command = [sys.executable, "-m", "mypy", "--config-file", str(REPOSITORY / "pyproject.toml"), str(head)]
    result = run_bounded(command, cwd=REPOSITORY, env={**os.environ, "MYPYPATH": str(head.parent)})
    errors = [line for line in result.stdout.splitlines() if head.name in line]
    assert not errors and ("checked 1 source file" in result.stdout or "no issues found" in result.stdout), result


@pytest.mark.parametrize("config", ["linear_pixel_shapes.py", "linear_pixel_by_name.py"])
def test_head_outside_the_package_trains_tests_and_predicts_by_config_alone(project: Path, config: str):
    options = ["--cfg-options", "train_cfg.max_iters=3", "train_cfg.val_interval=3", "train_dataloader.batch_size=4"]
    options.append("default_hooks.report=None")  # its pictures take most of the time of such a run
    assert run_tool_apart(project, "train", f"my_project/{config}", *options) == 0
    config, checkpoint = f"my_project/{config}", f"work_dirs/{Path(config).stem}/best.pth"
    assert run_tool_apart(project, "test", config, checkpoint, "--out", "metrics.json") == 0
    assert 0 <= json.loads((project / "metrics.json").read_text())["mIoU"] <= 100

    photo = next((project / "data/shapes/images/val").glob("*.jpg"))
    names = ["--classes", "red circle, blue star, background"]
    options = ["--config", config, "--checkpoint", checkpoint, "--out", "overlay.png"]
    assert run_tool_apart(project, "demo", photo, *names, *options) == 0
    assert (project / "overlay.png").is_file()
