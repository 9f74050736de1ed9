"""openvocab: open-vocabulary dense prediction with one shared CLIP backbone and pluggable heads."""

__version__ = "0.1.0"
