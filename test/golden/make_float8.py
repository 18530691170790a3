"""Makes the values that conversions to and from e4m3 are tested with: what ml_dtypes' float8_e4m3fn says of them.

    python make_float8.py float8.txt      (needs numpy and ml_dtypes)

A line is the bits of an f32 and its e4m3: every e4m3 itself, the midpoints of neighbours, and the f32 next to them.
"""
import sys

import ml_dtypes
import numpy as np

codes = np.arange(0x7F, dtype=np.uint8)  # 0 to 448
values = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
middle = (values[:-1] + values[1:]) / 2
inputs = np.concatenate([values, middle, np.nextafter(middle, 0, dtype=np.float32),
                         np.nextafter(middle, 1000, dtype=np.float32), np.float32([1e-10, 0.1, 3.14159, 447.9])])
inputs = np.concatenate([inputs, -inputs])
outputs = inputs.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
with open(sys.argv[1], "w") as out:
    for bits, code in zip(inputs.view(np.uint32), outputs):
        out.write(f"{bits:08x} {code:02x}\n")
