"""The probe decides by both figures, says them, and leaves no trace in the process."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from bfloat16_figures import FAST, SLOW, pretend

from openvocab.process import bfloat16_probe
from openvocab.process.bfloat16_probe import BFloat16Gain, bfloat16_gain, faster_dtype


@pytest.mark.parametrize(
    ("products", "convolutions", "chosen"),
    [
        (2.1, 1.9, torch.bfloat16),
        (1.16, 1.16, torch.bfloat16),
        (1.14, 3.0, torch.float32),
        (3.0, 1.14, torch.float32),
        (0.18, 0.25, torch.float32),
    ],
)
def test_bfloat16_is_taken_only_where_both_kinds_of_work_gain(monkeypatch, products, convolutions, chosen):
    pretend(monkeypatch, BFloat16Gain(products, convolutions))
    assert faster_dtype("cpu", "tests run") is chosen


def test_the_choice_and_its_figures_are_one_line(monkeypatch, lines_of):
    log = lines_of("openvocab.process.bfloat16_probe")
    pretend(monkeypatch, FAST)
    faster_dtype("cpu", "tests run")
    pretend(monkeypatch, SLOW)
    faster_dtype(torch.device("cpu"), "tests run")
    figures = "(bfloat16 against float32: products {}, convolutions {} times as fast on cpu)"
    assert [line for _, line in log] == [
        f"tests run in bfloat16 {figures.format('2.10', '1.90')}",
        f"tests run in float32 {figures.format('0.20', '0.25')}",
    ]


def test_the_real_probe_returns_soon_and_leaves_the_process_as_it_was():
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    bfloat16_probe._measure.cache_clear()
    started = time.perf_counter()
    with torch.inference_mode():
        gain = bfloat16_gain("cpu")
        assert torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
    assert time.perf_counter() - started < 20  # 0.5 s alone; this machine may be doing anything
    assert gain.products > 0 and gain.convolutions > 0
    assert torch.equal(torch.get_rng_state(), states[0]) and random.getstate() == states[1]
    assert np.random.get_state()[1].tolist() == states[2]
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (threads, precision)
    assert bfloat16_gain(torch.device("cpu")) is gain  # measured once


@pytest.fixture
def three_threads():
    """Let torch compute with three threads, as on a larger machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    bfloat16_probe._measure.cache_clear()
    yield
    torch.set_num_threads(before)
    bfloat16_probe._measure.cache_clear()


def test_threads_that_ask_together_wait_for_one_measurement(monkeypatch, three_threads):
    measured, begun = [], threading.Barrier(2)

    def gain(step, device):
        measured.append(torch.get_num_threads())
        time.sleep(0.2)  # so that the other one comes meanwhile
        return 2.0

    def choose(_):
        begun.wait(10)
        return faster_dtype("cpu", "tests run")

    monkeypatch.setattr(bfloat16_probe, "_gain", gain)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(choose, range(2))) == [torch.bfloat16, torch.bfloat16]
    assert measured == [1, 1]  # products and convolutions, once
    with ThreadPoolExecutor(1) as pool:  # a new thread begins with the number that the process has
        assert torch.get_num_threads() == pool.submit(torch.get_num_threads).result() == 3


def test_the_fastest_calls_decide_whatever_disturbs_the_others(monkeypatch):
    float32, bfloat16 = iter([9.0, 2.0, 2.0, 8.0, 2.04, 2.02]), iter([9.0, 7.0, 1.0, 1.0, 30.0, 1.03])
    monkeypatch.setattr(
        bfloat16_probe, "_seconds", lambda step, device, enabled: next(bfloat16 if enabled else float32)
    )
    assert bfloat16_probe._gain(lambda: None, torch.device("cpu")) == 2.0
    assert list(float32) == list(bfloat16) == []  # until three of each agreed, the first calls aside


@pytest.mark.parametrize(
    ("device", "float32", "bfloat16", "calls", "gain"),
    [
        ("cpu", 0.01, 0.1, 1, 0.1),  # emulated: one call says it
        ("cpu", 0.01, 0.02, 3, 0.5),
        ("cuda", 0.001, 0.01, 3, 0.1),  # there a single call may be held up by that much
        ("cpu", 0.2, 0.2, 1, 1.0),  # time is up
    ],
)
def test_no_more_calls_are_made_than_the_choice_needs(monkeypatch, device, float32, bfloat16, calls, gain):
    clock, made = [0.0], []

    def seconds(step, device, enabled):
        made.append(enabled)
        clock[0] += bfloat16 if enabled else float32
        return bfloat16 if enabled else float32

    monkeypatch.setattr(bfloat16_probe, "_seconds", seconds)
    monkeypatch.setattr(bfloat16_probe.time, "perf_counter", lambda: clock[0])
    assert bfloat16_probe._gain(lambda: None, torch.device(device)) == pytest.approx(gain)
    assert made.count(True) == made.count(False) == 1 + calls
