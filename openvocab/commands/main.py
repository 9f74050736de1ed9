"""The console command `openvocab`: find the command that the first word names, and run it."""

import sys
from collections.abc import Sequence

from openvocab.command_line import one_line_errors
from openvocab.commands.listing import Command, command_summaries, load_command
from openvocab.commands.parser import CommandParser, add_json, did_you_mean
from openvocab.process.start_up import collect_as_usual, collect_rarely
from openvocab.version import __version__

DESCRIPTION = "Open-vocabulary dense prediction: find things in photos by their names, train and evaluate models."
EXIT_CODES = """exit codes:
  0    done
  1    the work failed, or a part of it was skipped
  2    the command cannot be carried out: one line states what to change
  130  stopped by Ctrl-C
  143  stopped by SIGTERM

`openvocab COMMAND --help` shows the arguments of a command, and examples. Every command takes --json."""


def main(words: Sequence[str] | None = None) -> int:
    """Run a command, and return its exit code.

    Args:
        words: the command and its arguments; default: those of this process.

    Raises:
        SystemExit: a mistake (2), a failure (1), a signal (128 plus its number), or `--help` (0).
    """
    words = sys.argv[1:] if words is None else list(words)
    summaries = command_summaries()
    root = _root_parser(summaries)
    name = root.parse_words(words[:1] or ["--help"]).command
    if name not in summaries:
        root.error(f"no command {name!r}{did_you_mean(name, summaries)}")
    command = load_command(name)
    parser = CommandParser(prog=f"openvocab {name}", description=command.__doc__)
    command.add_arguments(parser)
    add_json(parser)
    return _run(command, parser, words[1:])


def run_tool(name: str, description: str | None) -> None:
    """Run a command as a script of `tools/` that has the same options.

    Args:
        name: of the command.
        description: help of the script.

    Raises:
        SystemExit: see `main`; not if all is done.
    """
    command = load_command(name)
    parser = CommandParser(description=description)
    command.add_arguments(parser)
    parser.set_defaults(json=False)
    code = _run(command, parser, sys.argv[1:])
    if code:
        sys.exit(code)


def _run(command: Command, parser: CommandParser, words: Sequence[str]) -> int:
    arguments = parser.parse_words(words)
    if not getattr(command, "IS_LIGHT", False):
        import openvocab.process.tool_process  # noqa: F401  before torch: it sets how OpenMP, which torch loads, works

        collect_rarely()
    try:
        with one_line_errors("--cfg-options" if hasattr(arguments, "cfg_options") else None):
            return command.run(arguments)
    finally:
        collect_as_usual()


def _root_parser(summaries: dict[str, str]) -> CommandParser:
    width = max(map(len, summaries))
    listed = "\n".join(f"  {name:{width}}  {summary}" for name, summary in summaries.items())
    parser = CommandParser(
        "openvocab", DESCRIPTION, epilog=f"commands:\n{listed}\n\n{EXIT_CODES}", usage="%(prog)s COMMAND ..."
    )
    parser.add_argument("--version", action="version", version=f"openvocab {__version__}")
    parser.add_argument("command", metavar="COMMAND", help="one of the commands below")
    return parser


if __name__ == "__main__":
    sys.exit(main())
