"""Energy of arithmetic and of memory by the table of Horowitz, "Computing's energy problem", ISSCC 2014 (45 nm, 0.9 V).

An estimate that ranks designs, not a measurement: clock trees, control, wires and the technology of a real chip are not in it.
Integers of other widths than the table's are scaled from its 32-bit row: multiplication by the square of the width, addition by the width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["BITS", "DRAM_PJ_PER_BYTE", "SRAM_PJ_PER_BYTE", "mac_pj"]

# Element widths that the models know; 32 bits are floating point, the others whole numbers.
BITS = (4, 8, 16, 32)
# 1.3 nJ for 64 bits, the lower end of the table's 1.3 to 2.6 nJ.
DRAM_PJ_PER_BYTE = 1300.0 / 8
# 10 pJ for 64 bits of an 8 KB memory, the smallest in the table.
SRAM_PJ_PER_BYTE = 10.0 / 8

_MULTIPLY_INT32_PJ, _ADD_INT32_PJ = 3.1, 0.1
_MULTIPLY_FLOAT32_PJ, _ADD_FLOAT32_PJ = 3.7, 0.9


def mac_pj(bits: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Energy of one multiply-accumulate in pJ, for element widths in bits."""
    share = np.asarray(bits, dtype=np.float64) / 32
    whole = _MULTIPLY_INT32_PJ * share**2 + _ADD_INT32_PJ * share
    energy: npt.NDArray[np.float64] = np.where(share >= 1, _MULTIPLY_FLOAT32_PJ + _ADD_FLOAT32_PJ, whole)
    return energy
