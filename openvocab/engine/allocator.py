"""Large tensors on the CPU without the cost of fresh memory pages."""

import ctypes
import logging
import platform
from functools import cache

logger = logging.getLogger(__name__)


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameter numbers of glibc's `mallopt`."""


@cache
def keep_freed_memory() -> bool:
    """Let this process keep freed memory for reuse; return whether that could be set.

    By default, glibc maps every tensor above 32 MB anew and unmaps it when it is freed, and the kernel clears each page
    again in the next step: a third of the time of a training step on a CPU, as measured. The cost is that the process
    stays as large as it once was. Other C libraries are not changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
    logger.debug(f"freed memory is {'kept for reuse' if done else 'returned to the system'}")
    return done
