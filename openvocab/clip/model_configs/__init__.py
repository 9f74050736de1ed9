"""Architectures of our own CLIPs, by the name that `create_clip` takes; `shapes_convnet` is the tower of one."""
