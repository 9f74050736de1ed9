"""Puts the configs into the wheel, where they are found by name; all other settings are in setup.cfg."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `configs/` into the package of a wheel; an editable installation reads them where they are."""

    def run(self) -> None:
        """Build the package, and add the configs."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "openvocab" / "configs"
            copytree("configs", target, ignore=ignore_patterns("__pycache__"), dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithConfigs})
