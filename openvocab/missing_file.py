"""A file that is missing, and the argument that names another one, in the form that the caller can type."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingFile(FileNotFoundError):
    """A file that is not there and cannot be downloaded, and an argument by which a user gives one.

    Args:
        reason: which file is missing, and where it may be had.
        argument: with a word for its value, `pretrained=PATH`, of the function that raises this error.
    """

    def __init__(self, reason: str, argument: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.arguments: tuple[str, ...] = (argument,)

    def __str__(self) -> str:
        return f"{self.reason}, or give your own by {' '.join(self.arguments)}"

    def for_command(self, option: str) -> str:
        """Return the message for a command line on which `option` precedes arguments."""
        return f"{self.reason}, or give your own by {option} {' '.join(self.arguments)}"


@contextmanager
def argument_of(*parts: str) -> Iterator[None]:
    """Let the arguments of a `MissingFile` from this block be those of a part, `backbone.pretrained=PATH`.

    Args:
        parts: that is built in this block; further ones if they need the same file.
    """
    try:
        yield
    except MissingFile as error:
        error.arguments = tuple(f"{part}.{argument}" for part in parts for argument in error.arguments)
        raise
