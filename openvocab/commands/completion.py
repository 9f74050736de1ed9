"""Print a script that completes commands, options and names in a shell.

openvocab completion bash > ~/.local/share/bash-completion/completions/openvocab
openvocab completion zsh > "${fpath[1]}/_openvocab"

Names of configs and of published models are those of the installed version: print the script again after an update.
"""

import argparse
import shlex
from collections.abc import Sequence

from openvocab.commands.answers import write_answer
from openvocab.commands.listing import command_summaries, load_command
from openvocab.commands.parser import CommandParser, actions_of, add_json, offered
from openvocab.config.shipped import shipped_configs

IS_LIGHT = True
SHELLS = ("bash", "zsh", "tcsh")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("shell", choices=SHELLS, help="the shell that reads the script")


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    script = completion_script(arguments.shell)
    write_answer(script, {"shell": arguments.shell, "script": script}, arguments.json)
    return 0


def completion_script(shell: str) -> str:
    """Return the script for a shell, with all commands and their options."""
    import shtab

    root = CommandParser("openvocab")
    root.add_argument("--version", action="store_true", help="show the version")
    subparsers = root.add_subparsers()
    for name, summary in command_summaries().items():
        parser = subparsers.add_parser(name, help=summary)
        load_command(name).add_arguments(parser)
        add_json(parser)
    for action in actions_of(root):
        if _takes_text(action):
            vars(action)["complete"] = _functions(offered(action)) if offered(action) else shtab.FILE
    return shtab.complete(root, shell=shell, preamble=_preamble()[shell])


def _takes_text(action: argparse.Action) -> bool:
    is_value = action.nargs != 0 and not isinstance(action, argparse._SubParsersAction)
    return is_value and action.choices is None and action.type not in (int, float)


def _names() -> dict[str, list[str]]:
    from openvocab.zoo.models import zoo_models

    return {"configs": shipped_configs(), "models": [model.name for model in zoo_models()]}


def _functions(kinds: Sequence[str]) -> dict[str, str]:
    """Return the shell functions of `_preamble` that complete these names and files; tcsh completes files alone."""
    function = "_".join(["_openvocab_files", *kinds])
    return {"bash": function, "zsh": function, "tcsh": "f"}


def _preamble() -> dict[str, str]:
    """Return the shell functions for every combination of names."""
    names = _names()
    texts: dict[str, str] = {"bash": "", "zsh": "", "tcsh": ""}
    for kinds in [*((kind,) for kind in names), tuple(names)]:
        words = " ".join(shlex.quote(name) for kind in kinds for name in names[kind])
        function = _functions(kinds)["bash"]
        texts["bash"] += f'{function}() {{\n  compgen -W "{words}" -- "$1"\n  compgen -f -- "$1"\n}}\n'
        texts["zsh"] += f"{function}() {{\n  _alternative 'names:name:({words})' 'files:file:_files'\n}}\n"
    return texts
