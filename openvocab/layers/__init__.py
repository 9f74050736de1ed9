"""Layers and changes of layers that several towers and heads share."""
