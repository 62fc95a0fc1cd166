"""Large tensors come and go by the second; the memory that one leaves serves the next."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of mallopt(3)
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory for this process's next allocations; elsewhere nothing is done.

    By default it maps each large tensor anew, and the system then clears every page of it: on two cores a
    tenth of a training step's time and a fifth of a trunk's.
    """
    if platform.libc_ver()[0] == "glibc":
        process = ctypes.CDLL(None)
        process.mallopt(MMAP_MAX, 0)
        process.mallopt(TRIM_THRESHOLD, LARGEST)
