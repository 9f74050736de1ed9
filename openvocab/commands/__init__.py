"""The commands of `openvocab`: a module each, imported when it is run.

A command module has a docstring (its first line is the summary in `openvocab --help`, all of it the help),
`add_arguments(parser)`, and `run(arguments)`, which returns the exit code. It imports torch and other large packages
only within `run`, so that `--help` is instant; a command without any of them states `IS_LIGHT = True`.
"""
