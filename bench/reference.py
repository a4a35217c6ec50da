"""What a machine does in a time: a reference kernel and a product of matrices, measured beside what is benchmarked.

Machines differ and drift; a time divided by one of these, measured beside it in the same run, can be compared.
"""

import time

import numpy as np
from numba import njit
from numpy.typing import NDArray

SGEMM = 256  # rows and columns of the matrices


@njit(cache=True, nogil=True)
def reference_kernel(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """100 multiply-adds and one exponential an element, plain; x and out (1024,)."""
    for p in range(x.shape[0]):
        y = x[p]
        for _ in range(100):
            y = y * 0.999 + 0.001
        out[p] = np.exp(-y)


def reference_s() -> float:
    """Seconds of the reference kernel, now."""
    x, out = np.linspace(0, 1, 1024), np.empty(1024)
    begun = time.process_time()
    reference_kernel(x, out)
    return time.process_time() - begun


def sgemm(size: int = SGEMM) -> tuple[float, int]:
    """Seconds of one single-precision product of square matrices by numpy's BLAS, now, and its operations."""
    a, out = np.full((size, size), 0.5, np.float32), np.empty((size, size), np.float32)
    begun = time.process_time()
    np.matmul(a, a, out=out)
    return time.process_time() - begun, 2 * size**3
