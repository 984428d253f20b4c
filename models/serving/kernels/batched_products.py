"""Many small fp32 products in one call, each on matrices anywhere in memory: the BLAS's `cblas_sgemm_batch`.

torch has no operator for it: `bmm` takes stacked matrices, and to stack the low-rank matrices of 64 customers costs
more than to multiply by them. The function is the one of the BLAS that torch brings; where it has none, there is none.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_ROW_MAJOR = 101
_AS_IT_IS = 111
FLOAT_BYTES = 4


@cache
def available() -> bool:
    """Return whether this torch brings the function."""
    return _sgemm_batch() is not None


class Products:
    """Products out = left @ right, or out += left @ right, of S triples of row-major fp32 matrices of fixed sizes.

    The triples come in G groups of `counts_G`; those of a group have `rows_G` rows and the inner dimension `inner_G`.
    `strides` are the floats from row to row of left, right and out.
    """

    def __init__(
        self,
        rows_G: Ints,
        counts_G: Ints,
        inner_G: Ints,
        columns: int,
        *,
        strides: tuple[int, int, int],
        accumulate: bool,
    ) -> None:
        self._groups = len(rows_G)
        # In the function's form: for each of its arguments an array over the groups.
        self._integers = np.empty((9, self._groups), dtype=np.int32)
        self._integers[0:2] = _AS_IT_IS
        self._integers[2] = rows_G
        self._integers[3] = columns
        self._integers[4] = inner_G
        self._integers[5:8] = np.array(strides, dtype=np.int32)[:, None]
        self._integers[8] = counts_G
        self._factors = np.ones((2, self._groups), dtype=np.float32)
        self._factors[1] = accumulate
        integer, factor = self._integers.ctypes.data, self._factors.ctypes.data
        self._at = [integer + row * 4 * self._groups for row in range(9)]
        self._factors_at = [factor, factor + 4 * self._groups]

    def run(self, left_S: Ints, right_S: Ints, out_S: Ints) -> None:
        """Compute. The arguments are addresses; the caller keeps alive what is there."""
        function = _sgemm_batch()
        transpose_left, transpose_right, rows, columns, inner, *strides, counts = self._at
        function(
            _ROW_MAJOR,
            transpose_left,
            transpose_right,
            rows,
            columns,
            inner,
            self._factors_at[0],
            left_S.ctypes.data,
            strides[0],
            right_S.ctypes.data,
            strides[1],
            self._factors_at[1],
            out_S.ctypes.data,
            strides[2],
            self._groups,
            counts,
        )


@cache
def _sgemm_batch() -> Any:
    try:
        function = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).cblas_sgemm_batch
    except (OSError, AttributeError):  # another system, or a torch with another BLAS
        return None
    pointer = ctypes.c_void_p
    function.argtypes = [ctypes.c_int, *[pointer] * 13, ctypes.c_int, pointer]
    function.restype = None
    return function
