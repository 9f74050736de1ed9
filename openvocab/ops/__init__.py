"""Exact fast forms of plain formulas; the docstring of each module opens with the formula that it equals."""
