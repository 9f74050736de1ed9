"""Labeled objects: the annotation formats, and what of them can be used."""
