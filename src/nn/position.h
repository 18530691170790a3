/*
 * position.h: a vision transformer's table of positions, resampled to the grid that its pictures have.
 *
 * Public codes differ in how, and so do the hidden states that come of it.
 */
#ifndef D2C_NN_POSITION_H
#define D2C_NN_POSITION_H

#include "base/status.h"

typedef enum d2c_position {
    D2C_POSITION_HUB,         /* DINOv2's own code: plain bicubic, scale factor (grid + 0.1) / side */
    D2C_POSITION_HUGGINGFACE, /* transformers: plain bicubic by size */
    D2C_POSITION_ANTIALIAS /* timm, hence REPA, and DINOv2's own code with registers: antialiased bicubic */
} d2c_position;

/* out [grid * grid, width] from in [side * side, width], both in raster order; the same where grid is side. */
d2c_status d2c_position_resample(float *out, int grid, const float *in, int side, int width,
                                 d2c_position rule, d2c_error *err);

#endif
