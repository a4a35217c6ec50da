"""The reference kernel: plain multiply-adds and exponentials over arrays of a session's size, in numba.

Machines differ and drift; a time divided by this one's, measured beside it in the same run, can be compared.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def reference_kernel(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    """100 multiply-adds and one exponential an element; x and out (1024,)."""
    for p in range(x.shape[0]):
        y = x[p]
        for _ in range(100):
            y = y * 0.999 + 0.001
        out[p] = np.exp(-y)
