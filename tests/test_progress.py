"""The bar of long work."""

import io
import sys

import pytest

from openvocab import progress
from openvocab.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("kind", "pictures"), [(io.StringIO, 7), (Terminal, 601)])
def test_a_file_gets_few_pictures_of_the_bar_and_all_get_the_last(monkeypatch, kind, pictures):
    """600 things in 60 s: nothing done, then one every ten seconds or tenth of a second, and the end."""
    now = [100.0]
    monkeypatch.setattr(sys, "stderr", kind())
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    show = Progress()
    for done in range(1, 602):
        show(done, 601)
        now[0] += 0.1001
    shown = sys.stderr.getvalue()
    assert shown.count("/601") == pictures
    assert shown.endswith("\n") and "601/601" in shown
    show(601, 601)
    assert sys.stderr.getvalue() == shown
