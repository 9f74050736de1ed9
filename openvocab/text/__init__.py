"""Vocabularies, prompt templates and text encoders. Imports nothing: `structures` needs the vocabulary first."""
