"""Single-precision exp and log that vectorise, reductions in a fixed order, and a pool of normals.

numba's wheels have no vector exp or log: a loop that calls these instead runs several lanes at a time. A reduction
depends on the length of its array and on nothing else, so that a person's numbers are the same in any batch.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from calib.streams import stream_key, uniforms

Singles = NDArray[np.float32]
Single = Any  # one float32: compiled code has no other view of it, a type checker several

POOL = 1 << 16  # numbers in a pool: a power of two
BLOCK = 8  # rows that are added up at once, in registers: arrays of rows end in zeros up to a multiple

_LOG2_E = np.float32(1.4426950408889634)
_LN_2_HIGH, _LN_2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LN_2 = np.float32(0.6931471805599453)
_E = tuple(np.float32(1.0 / f) for f in (1, 1, 2, 6, 24, 120, 720))
# log(1 + y) = y - y^2/2 + y^3 P(y) for 1 + y in [sqrt(1/2), sqrt(2)] (Cephes, logf)
_L = tuple(
    np.float32(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
_HALF, _ONE = np.float32(0.5), np.float32(1.0)
_MOST, _TINY = np.float32(87.0), np.float32(1.2e-38)
_LIFT, _SHIFT = np.float32(150.0), np.float32(150.5)  # lifted above zero, cutting off is rounding


_LINE = 64  # bytes that a processor reads and writes at once; numpy and numba begin an array anywhere in one


def empty32(*shape: int) -> Singles:
    """An array whose rows are not split between lines where they hold a multiple of 16 numbers: a third faster."""
    size = math.prod(shape)
    whole = np.empty(size + _LINE // 4, np.float32)
    first = -whole.ctypes.data % _LINE // 4
    return whole[first : first + size].reshape(shape)


@njit(cache=True, nogil=True)
def rows32(num_rows: int, num: int) -> Singles:
    """(num_rows, num) as `empty32`, for compiled code."""
    whole = np.empty(num_rows * num + _LINE // 4, np.float32)
    first = -whole.ctypes.data % _LINE // 4
    return whole[first : first + num_rows * num].reshape(num_rows, num)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def exp32(x: Single) -> Single:
    """e^x of a float32, relative error 3e-7, x clipped to +-87."""
    x = min(max(x, -_MOST), _MOST)
    k = np.int32(x * _LOG2_E + _SHIFT)
    n = np.float32(k) - _LIFT
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    square = r * r  # two short chains of products instead of a long one
    y = ((_E[6] * square + (_E[5] * r + _E[4])) * square + (_E[3] * r + _E[2])) * square + (_E[1] * r + _E[0])
    return y * np.int32((k - np.int32(23)) << np.int32(23)).view(np.float32)  # 127 - 150: bias of floats, lift


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def exp64(x: float) -> float:
    """e^x of a double, relative error 2e-13, x clipped to +-700; no call, so that loops of it run several lanes."""
    magic = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the rounded integer in the low bits
    x = min(max(x, -700.0), 700.0)
    t = x * 1.4426950408889634 + magic
    n = t - magic
    r = x - n * 0.6931471803691238
    r = r - n * 1.9082149292705877e-10
    y = 2.755731922398589e-07 * r + 2.7557319223985893e-06
    y = y * r + 2.48015873015873e-05
    y = y * r + 0.0001984126984126984
    y = y * r + 0.001388888888888889
    y = y * r + 0.008333333333333333
    y = y * r + 0.041666666666666664
    y = y * r + 0.16666666666666666
    y = y * r + 0.5
    y = y * r + 1.0
    y = y * r + 1.0
    return y * np.int64((np.float64(t).view(np.int64) + np.int64(1023)) << np.int64(52)).view(np.float64)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def log32(x: Single) -> Single:
    """Natural log of a float32, relative error 2e-7; below 1.2e-38 that of 1.2e-38."""
    bits = np.float32(max(x, _TINY)).view(np.int32)
    k = np.int32((bits - np.int32(0x3F3504F3)) >> np.int32(23))  # 0x3F3504F3 is sqrt(1/2)
    y = np.int32(bits - np.int32(k << np.int32(23))).view(np.float32) - _ONE
    p = _L[0]
    p = p * y + _L[1]
    p = p * y + _L[2]
    p = p * y + _L[3]
    p = p * y + _L[4]
    p = p * y + _L[5]
    p = p * y + _L[6]
    p = p * y + _L[7]
    p = p * y + _L[8]
    square = y * y
    return (y * square * p - _HALF * square + y) + np.float32(k) * _LN_2


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def total(x: Singles) -> Single:
    """Sum of x (P,)."""
    out = np.float32(0.0)
    for p in range(x.shape[0]):
        out += x[p]
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def dot(x: Singles, y: Singles) -> Single:
    """Sum of x y over (P,)."""
    out = np.float32(0.0)
    for p in range(x.shape[0]):
        out += x[p] * y[p]
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "nnan"})
def largest(x: Singles) -> Single:
    """Largest of x (P,)."""
    out = x[0]
    for p in range(x.shape[0]):
        out = max(out, x[p])
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def dot_two(x: Singles, rows: Singles, k: int) -> tuple[Single, Single]:
    """Sums of x (P,) times rows[k] and rows[k + 1]."""
    one, two = np.float32(0.0), np.float32(0.0)
    for p in range(x.shape[0]):
        one += x[p] * rows[k, p]
        two += x[p] * rows[k + 1, p]
    return one, two


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "nnan"})
def least(rows: Singles, k: int) -> Single:
    """Smallest of rows[k]."""
    out = rows[k, 0]
    for p in range(rows.shape[1]):
        out = min(out, rows[k, p])
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def dot_rows(x: Singles, i: int, y: Singles, k: int) -> Single:
    """Sum over p of x[i, p] y[k, p]."""
    out = np.float32(0.0)
    for p in range(x.shape[1]):
        out += x[i, p] * y[k, p]
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def add_rows(shares: Singles, s: int, first: int, end: int, rows: Singles, out: Singles, at: int) -> None:
    """out[at] += sum over k in [first, end) of shares[s, k] rows[k], eight rows a sweep; rows (K, P), out (R, P).

    Whole arrays and numbers of rows, not slices: a slice costs two atomic counts, as much as a sweep.
    """
    num, k, f = out.shape[1], first, shares
    while k + 8 <= end:
        a, b, c, d = f[s, k], f[s, k + 1], f[s, k + 2], f[s, k + 3]
        e, g, h, i = f[s, k + 4], f[s, k + 5], f[s, k + 6], f[s, k + 7]
        for p in range(num):
            left = (a * rows[k, p] + b * rows[k + 1, p]) + (c * rows[k + 2, p] + d * rows[k + 3, p])
            right = (e * rows[k + 4, p] + g * rows[k + 5, p]) + (h * rows[k + 6, p] + i * rows[k + 7, p])
            out[at, p] += left + right
        k += 8
    if k + 4 <= end:
        a, b, c, d = f[s, k], f[s, k + 1], f[s, k + 2], f[s, k + 3]
        for p in range(num):
            out[at, p] += (a * rows[k, p] + b * rows[k + 1, p]) + (c * rows[k + 2, p] + d * rows[k + 3, p])
        k += 4
    if k + 2 <= end:
        a, b = f[s, k], f[s, k + 1]
        for p in range(num):
            out[at, p] += a * rows[k, p] + b * rows[k + 1, p]
        k += 2
    if k < end:
        a = f[s, k]
        for p in range(num):
            out[at, p] += a * rows[k, p]


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def add_products(factor: Singles, rows: Singles, out: Singles) -> None:
    """The first D rows of out += factor (D, K) rows (K, P); D and K are even.

    Two of `out` and up to eight of `rows` a sweep: a sweep costs about as much as what it adds up.
    """
    num, end, f = out.shape[1], factor.shape[1], factor
    for m in range(0, f.shape[0], 2):
        n, k = m + 1, 0
        while k + 8 <= end:
            a, b, c, d = f[m, k], f[m, k + 1], f[m, k + 2], f[m, k + 3]
            e, g, h, i = f[m, k + 4], f[m, k + 5], f[m, k + 6], f[m, k + 7]
            q, r, s, t = f[n, k], f[n, k + 1], f[n, k + 2], f[n, k + 3]
            u, v, w, x = f[n, k + 4], f[n, k + 5], f[n, k + 6], f[n, k + 7]
            for p in range(num):
                one, two, three, four = rows[k, p], rows[k + 1, p], rows[k + 2, p], rows[k + 3, p]
                five, six, seven, eight = rows[k + 4, p], rows[k + 5, p], rows[k + 6, p], rows[k + 7, p]
                out[m, p] += ((a * one + b * two) + (c * three + d * four)) + (
                    (e * five + g * six) + (h * seven + i * eight)
                )
                out[n, p] += ((q * one + r * two) + (s * three + t * four)) + (
                    (u * five + v * six) + (w * seven + x * eight)
                )
            k += 8
        if k + 4 <= end:
            a, b, c, d = f[m, k], f[m, k + 1], f[m, k + 2], f[m, k + 3]
            q, r, s, t = f[n, k], f[n, k + 1], f[n, k + 2], f[n, k + 3]
            for p in range(num):
                one, two, three, four = rows[k, p], rows[k + 1, p], rows[k + 2, p], rows[k + 3, p]
                out[m, p] += (a * one + b * two) + (c * three + d * four)
                out[n, p] += (q * one + r * two) + (s * three + t * four)
            k += 4
        if k + 2 <= end:
            a, b, q, r = f[m, k], f[m, k + 1], f[n, k], f[n, k + 1]
            for p in range(num):
                one, two = rows[k, p], rows[k + 1, p]
                out[m, p] += a * one + b * two
                out[n, p] += q * one + r * two
            k += 2


@lru_cache(maxsize=8)
def normal_pool(root_seed: int, purpose: str, size: int = POOL) -> Singles:
    """(size,) the quantiles of the standard normal in an order of chance: any run of them is a sample."""
    order = np.argsort(uniforms(stream_key(root_seed, purpose), np.zeros(1, np.int64), 0, size)[0], kind="stable")
    pool = empty32(size)
    pool[:] = ndtri((order + 0.5) / size)
    return pool
