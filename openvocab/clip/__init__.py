"""CLIP models by name, and the layouts in which their weights come."""
