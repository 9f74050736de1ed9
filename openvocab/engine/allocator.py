"""Large tensors on the CPU without the price of fresh pages."""

import ctypes
import logging
import platform
from functools import cache

logger = logging.getLogger(__name__)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's `mallopt`."""


@cache
def keep_freed_memory() -> bool:
    """Let this process re-use freed memory instead of giving it back; return whether that could be set.

    glibc maps every tensor above 32 MB anew and returns it when it is freed, and the kernel then clears each page
    again at the next step: measured as a third of the time of a training step on a CPU. The price is that the process
    stays as large as it once was. Other C libraries are left as they are.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    logger.info(f"freed memory is {'kept for re-use' if done else 'given back'}")
    return done
