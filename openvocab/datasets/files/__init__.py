"""Folders and files of samples: which there are, and what they state."""
