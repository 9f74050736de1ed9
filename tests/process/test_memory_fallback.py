"""Halving: pieces as large as memory holds, learnt once; nothing but a lack of memory is caught."""

import weakref

import pytest
import torch

from openvocab.process.memory_fallback import Halving, NotEnoughMemory, advising, if_memory_suffices, is_out_of_memory

MESSAGES = [
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes. Buy new RAM!",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "std::bad_alloc",
    "could not create a memory object",
]


def holds(most, calls):
    """Return a function whose pieces must have at most `most` things."""

    def function(start, stop):
        calls.append((start, stop))
        if stop - start > most:
            raise MemoryError
        return list(range(start, stop))

    return function


@pytest.mark.parametrize("most", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("limit", [None, 1, 4])
def test_every_thing_is_done_once_and_in_order(most, limit):
    parts = Halving("things", limit).run(holds(most, []), 10)
    assert [thing for part in parts for thing in part] == list(range(10))
    assert max(map(len, parts)) <= min(most, limit or most)


def test_what_fits_is_learnt():
    calls, halving = [], Halving("things")
    halving.run(holds(3, calls), 10)
    assert halving.has_learned and halving.limit == 2
    del calls[:]
    halving.run(holds(3, calls), 6)
    assert calls == [(0, 2), (2, 4), (4, 6)]


def test_a_run_that_fails_teaches_nothing():
    halving = Halving("things")
    with pytest.raises(MemoryError):
        halving.run(holds(0, []), 10)
    assert not halving.has_learned
    assert len(halving.run(holds(10, []), 10)) == 1


def test_nothing_is_still_one_call():
    assert Halving("things").run(lambda start, stop: (start, stop), 0) == [(0, 0)]


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("shapes differ"), KeyError("memory")])
def test_other_errors_pass_at_once(error):
    calls = []

    def function(start, stop):
        calls.append(start)
        raise error

    with pytest.raises(type(error)):
        Halving("things").run(function, 10)
    assert calls == [0]


@pytest.mark.parametrize("message", MESSAGES)
def test_all_ways_to_say_it_are_known(message):
    assert is_out_of_memory(RuntimeError(message))
    assert is_out_of_memory(torch.cuda.OutOfMemoryError(message)) and is_out_of_memory(MemoryError())


def test_a_real_allocation_beyond_all_memory_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert is_out_of_memory(caught.value)


def test_what_a_failed_try_held_is_free_before_the_next():
    held = []

    def function():
        tensor = torch.zeros(10)
        held.append(weakref.ref(tensor))
        raise MemoryError

    assert if_memory_suffices(function) is None
    assert held[0]() is None


def test_the_advice_comes_instead_of_the_allocators_words():
    with pytest.raises(NotEnoughMemory, match="smaller windows"), advising("take smaller windows"):
        raise RuntimeError(MESSAGES[0])
    with pytest.raises(RuntimeError, match="shapes"), advising("take smaller windows"):
        raise RuntimeError("shapes differ")
