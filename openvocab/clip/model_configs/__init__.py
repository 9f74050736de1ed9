"""Architectures of this package's own CLIPs, by their name in `create_clip`; `shapes_convnet` is an image tower."""
