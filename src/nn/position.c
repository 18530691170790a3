/* position.c: position tables for other grids (position.h). */
#include "nn/position.h"

#include <string.h>

#include "image/bicubic.h"

d2c_status
d2c_position_resample(float *out, int grid, const float *in, int side, int width, d2c_position rule,
                      d2c_error *err)
{
    d2c_bicubic kind = rule == D2C_POSITION_ANTIALIAS ? D2C_BICUBIC_ANTIALIAS : D2C_BICUBIC_PLAIN;
    double step = rule == D2C_POSITION_HUB ? 1.0 / ((grid + 0.1) / side) : 0;

    if (grid == side) {
        memcpy(out, in, (size_t)side * (size_t)side * (size_t)width * sizeof *out);
        return D2C_OK;
    }
    return d2c_bicubic_resize(out, grid, grid, in, side, side, width, kind, step, err);
}
