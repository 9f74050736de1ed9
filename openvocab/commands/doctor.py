"""Check this environment: packages, devices, threads, disks, caches and the hub, and say what to type.

openvocab doctor

Exit code 1 if something is wrong; each fault comes with the line that mends it. A broken package is a fault, too, and
does not end the check. An unreachable hub is none with HF_HUB_OFFLINE=1. --json prints the facts and the faults.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence

from openvocab.commands.answers import write_answer
from openvocab.diagnosis.facts import Fact, facts_from
from openvocab.diagnosis.hardware import device_facts, processor_facts
from openvocab.diagnosis.packages import PACKAGES, import_failures, package_facts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: everything is checked."""


NOTHING_WRONG = 'nothing is wrong; try: openvocab predict photo.jpg "cat, sofa, floor, other"'


def run(arguments: argparse.Namespace) -> int:
    """Check and report."""
    sections = _sections()
    wrong = [fact for facts in sections.values() for fact in facts if fact.advice]
    value = {
        "facts": {section: {fact.name: fact.value for fact in facts} for section, facts in sections.items()},
        "wrong": [{"name": fact.name, "value": fact.value, "advice": fact.advice} for fact in wrong],
    }
    write_answer(_report(sections, wrong), value, arguments.json)
    return 1 if wrong else 0


def _sections() -> dict[str, list[Fact]]:
    failures = import_failures([*PACKAGES])
    return {
        "packages": facts_from("packages", lambda: package_facts(failures)),
        "processor": facts_from("processor", processor_facts),
        "device": facts_from("device", lambda: _device_facts(torch_failure=failures["torch"])),
        "disk": facts_from("disk", _storage_facts),
        "hub": facts_from("hub", _hub_facts),
    }


def _device_facts(torch_failure: str) -> Iterable[Fact]:
    """Return no figures without torch, whose import may end the process: another one has tried it."""
    return [Fact("device", "unknown without torch")] if torch_failure else device_facts()


def _storage_facts() -> Iterable[Fact]:
    from openvocab.diagnosis.storage import (
        storage_facts,
    )  # within a check, since it imports packages that may be broken

    return storage_facts()


def _hub_facts() -> Iterable[Fact]:
    from openvocab.diagnosis.storage import hub_facts

    return hub_facts()


def _report(sections: Mapping[str, Sequence[Fact]], wrong: Sequence[Fact]) -> str:
    facts = [fact for section in sections.values() for fact in section]
    width = max(len(fact.name) for fact in facts)
    lines = [f"{'!' if fact.advice else ' '} {fact.name:{width}}  {fact.value}" for fact in facts]
    if not wrong:
        return "\n".join([*lines, "", NOTHING_WRONG])
    return "\n".join([*lines, "", "what to do:", *(f"  {fact.name}: {fact.advice}" for fact in wrong)])
