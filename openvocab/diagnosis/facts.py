"""A fact about the environment, and what to do if it is a fault."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fact:
    """A fact about the environment."""

    name: str
    value: str
    advice: str = ""
    """What to type; "" if nothing is wrong."""


def facts_from(name: str, check: Callable[[], Iterable[Fact]]) -> list[Fact]:
    """Return the facts that a check finds; a check that fails is a fact itself, since a broken part may raise anything.

    Args:
        name: what the check is about.
        check: yields facts.
    """
    facts: list[Fact] = []
    try:
        for fact in check():
            facts.append(fact)
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        facts.append(
            Fact(name, f"cannot be found out: {type(error).__name__}: {reason}", "mend the other faults first")
        )
    return facts
