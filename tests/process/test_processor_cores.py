"""Which cores are ours by mask and quota, and which of them others keep busy."""

import itertools
import os

import pytest

from openvocab.process import processor_cores
from openvocab.process.processor_cores import available_cores, busy_cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 8 cores without a quota, whose control group is a folder."""
    monkeypatch.setattr(processor_cores, "_affinity", lambda: range(8))
    monkeypatch.setattr(processor_cores, "_control_groups", lambda: [tmp_path / "job", tmp_path])
    (tmp_path / "job").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"job/cpu.max": "250000 100000\n", "cpu.max": "600000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"job/cpu.cfs_quota_us": "400000\n", "job/cpu.cfs_period_us": "100000\n"}, 4),
        ({"job/cpu.cfs_quota_us": "-1\n", "job/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_a_quota_limits_the_cores(machine, files, cores):
    for name, content in files.items():
        (machine / name).write_text(content)
    assert available_cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity masks here")
def test_a_mask_limits_the_cores():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(
    ("shares", "busy"),
    [
        ([0.05], 0),
        ([0.9, 0.1], 0),  # a burst: over in the second stretch
        ([1.0, 1.0, 0.95], 1),
        ([0.8, 0.75, 0.9], 1),
        ([1.6, 1.5, 1.9], 1),
        ([3.9, 3.8, 4.0], 4),
    ],
)
def test_jobs_count_that_run_all_the_time(machine, monkeypatch, shares, busy):
    measured = iter(shares)
    monkeypatch.setattr(processor_cores, "_mean_busy", lambda cores: next(measured))
    assert busy_cores() == busy
    assert list(measured) == []


def test_the_time_of_all_states_of_our_cores_is_counted(machine, monkeypatch, tmp_path):
    #        user nice system idle iowait irq softirq steal
    lines = ["cpu 9 9 9 9 9 9 9 9 0 0", "cpu0 100 10 20 9999 9999 3 4 63 0 0", "cpu8 5000 0 0 0 0 0 0 0 0 0", "intr 1"]
    (tmp_path / "stat").write_text("\n".join(lines))
    path = processor_cores.Path
    monkeypatch.setattr(processor_cores, "Path", lambda name: tmp_path / "stat" if name == "/proc/stat" else path(name))
    assert processor_cores._busy_seconds(range(8)) * os.sysconf("SC_CLK_TCK") == pytest.approx(200)


def test_the_mean_is_what_was_added_over_the_time(monkeypatch):
    seconds, clock = iter([10.0, 10.4]), itertools.count(0.0, 0.2)
    monkeypatch.setattr(processor_cores, "_busy_seconds", lambda cores: next(seconds))
    monkeypatch.setattr(processor_cores.time, "sleep", lambda duration: None)
    monkeypatch.setattr(processor_cores.time, "perf_counter", lambda: next(clock))
    assert processor_cores._mean_busy(range(2)) == pytest.approx(2.0)
