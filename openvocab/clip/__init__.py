"""CLIP models by name, and the layouts of their weight files."""
