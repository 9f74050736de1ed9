"""Read the words of a command line: a mistake is one line with the nearest option, and exit code 2."""

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NoReturn

_NEGATIVE_NUMBER = re.compile(r"-\.?\d")


class CommandParser(argparse.ArgumentParser):
    """An `ArgumentParser` whose errors are one line, and which knows what a mistyped option may have meant.

    Args:
        prog: the command as it is typed, "openvocab train"; None for the name of the script.
        description: its help, shown as it is.
    """

    def __init__(self, prog: str | None = None, description: str | None = None, **options: object) -> None:
        formatter = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=formatter, **options)  # type: ignore[arg-type]

    def parse_words(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words of a command line, without its name.

        An option with choices and an optional value (`nargs="?"`) takes the next word only if it is one of the choices:
        in `--amp lseg_ade.py`, the file is not the value of the option.

        Raises:
            SystemExit: a mistake (2), or `--help` (0).
        """
        actions = [*actions_of(self)]
        self._check_options(words, [name for action in actions for name in action.option_strings])
        return self.parse_args(_with_values(words, actions))

    def error(self, message: str) -> NoReturn:
        """End the process with one line and exit code 2."""
        if message.startswith("unrecognized arguments: "):
            message += "; a text of several words, such as names, stands in quotes"
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())} ({self.prog} --help shows what it takes)\n")

    def _check_options(self, words: Iterable[str], known: Sequence[str]) -> None:
        """Report the first unknown option, which argparse would do only if no other argument is missing."""
        for word in words:
            if word == "--":
                return
            name = word.partition("=")[0]
            if not name.startswith("-") or name == "-" or " " in name or _NEGATIVE_NUMBER.match(name):
                continue
            is_short = not name.startswith("--")
            if not any(name[:2] == option if is_short else option.startswith(name) for option in known):
                self.error(f"unknown option {name}{did_you_mean(name, known)}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean WORD?" with the most similar known word, "" if none is similar."""
    close = difflib.get_close_matches(word, [*known], n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""


def offer(action: argparse.Action, *names: str) -> None:
    """State what completes an argument in a shell, next to files.

    Args:
        action: what `add_argument` returns.
        names: "configs", "models" (published ones), or both.
    """
    vars(action)["offered"] = names


def offered(action: argparse.Action) -> tuple[str, ...]:
    """Return what `offer` has stated for an argument."""
    return vars(action).get("offered", ())


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json` to a command, or to each of its subcommands."""
    subcommands = [*_subparsers_of(parser)]
    for each in subcommands or [parser]:
        each.add_argument("--json", action="store_true", help="print the result as one JSON value, for programs")


def _with_values(words: Sequence[str], actions: Sequence[argparse.Action]) -> list[str]:
    """Give each option that stands without its optional value the value that this means."""
    optional = {name: action for action in actions if action.nargs == "?" for name in action.option_strings}
    given = []
    for word, following in zip(words, [*words[1:], ""]):
        action = optional.get(word)
        is_bare = action is not None and action.choices is not None and following not in action.choices
        given.append(f"{word}={action.const}" if action is not None and is_bare else word)
    return given


def actions_of(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a command and of its subcommands."""
    yield from parser._actions
    for subparser in _subparsers_of(parser):
        yield from actions_of(subparser)


def _subparsers_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()
