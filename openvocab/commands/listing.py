"""Which commands there are: the modules of this folder that have a function `run`."""

import argparse
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

FOLDER = Path(__file__).parent
_SUMMARY = re.compile(r'"""(.+?)(?:"""|$)', re.MULTILINE)


class Command(Protocol):
    """A command module; see the docstring of this package."""

    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments to a parser; without large imports."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do the work, and return the exit code."""


def command_summaries() -> dict[str, str]:
    """Return {name: first line of its help} of all commands, by their source: none of them is imported."""
    summaries = {}
    for module in pkgutil.iter_modules([str(FOLDER)]):
        path = FOLDER / module.name / "__init__.py" if module.ispkg else FOLDER / f"{module.name}.py"
        source = path.read_text(encoding="utf-8")
        summary = _SUMMARY.match(source)
        if summary is not None and "\ndef run(" in source:
            summaries[module.name] = summary[1]
    return summaries


def load_command(name: str) -> Command:
    """Import the module of a command."""
    return cast(Command, import_module(f"openvocab.commands.{name}"))
