"""What a failed run raises, as distinct from a user's mistake."""


class RunFailed(Exception):
    """The work failed although the command was right; the command line answers with exit code 1 instead of 2."""
