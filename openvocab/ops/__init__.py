"""Exact fast forms of plain formulas; each docstring gives the formula that it equals."""
