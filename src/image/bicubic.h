/*
 * bicubic.h: bicubic resizing of grids of floats as torch.nn.functional.interpolate does it with align_corners=False.
 *
 * image.h resizes 8-bit pictures as PIL does; this is what networks' own code applies to pixels that are normalised
 * already, and to position tables.
 */
#ifndef D2C_IMAGE_BICUBIC_H
#define D2C_IMAGE_BICUBIC_H

#include "base/status.h"

typedef enum d2c_bicubic {
    D2C_BICUBIC_PLAIN, /* antialias=False: A = -0.75, four taps at any size, those beyond the edge read the edge */
    D2C_BICUBIC_ANTIALIAS /* antialias=True: A = -0.5, the kernel is widened when shrinking, taps beyond the edge drop out */
} d2c_bicubic;

/* out [out_height, out_width, channels] from in [in_height, in_width, channels].  step: how far apart in the input two
 * neighbours of the output lie, on both axes (1 / torch's scale_factor); 0: as far as the sizes say. */
d2c_status d2c_bicubic_resize(float *out, int out_height, int out_width, const float *in, int in_height,
                              int in_width, int channels, d2c_bicubic kind, double step, d2c_error *err);

#endif
