/*
 * pixel_bits.h: how many bits a pixel costs under a Gaussian, as the public codes of diffusion count the first step
 * (openai/guided-diffusion losses.py, discretized Gaussian): the probability of the pixel's bin of 2/255 around x in -1..1,
 * the outermost bins reaching to infinity, by an approximated distribution function.
 *
 * In double, for the bins far from the mean are differences of numbers near 1; the file is plain C that a CUDA compiler
 * takes as it is.
 */
#ifndef D2C_BASE_PIXEL_BITS_H
#define D2C_BASE_PIXEL_BITS_H

#include <math.h>

#include "base/philox.h"

#define D2C_PIXEL_HALF_BIN (1.0 / 255.0)
#define D2C_PIXEL_LEAST 1e-12 /* a probability is at least this */

/* The distribution function at u, and its derivative times u. */
D2C_HD double
d2c_pixel_below(double *slope, double u)
{
    double scale = 0.79788456080286535588; /* sqrt(2/pi) */
    double t = tanh(scale * (u + 0.044715 * u * u * u));

    *slope = 0.5 * (1.0 - t * t) * scale * (1.0 + 3.0 * 0.044715 * u * u) * u;
    return 0.5 * (1.0 + t);
}

/* -log of the bin's probability, in nats, where x lies `distance` above the mean; *slope = its derivative by the
 * logarithm of the variance. */
D2C_HD double
d2c_pixel_nats(double *slope, double x, double distance, double log_variance)
{
    double inverse = exp(-0.5 * log_variance), upper, lower, p, dp;
    double below_upper = d2c_pixel_below(&upper, inverse * (distance + D2C_PIXEL_HALF_BIN));
    double below_lower = d2c_pixel_below(&lower, inverse * (distance - D2C_PIXEL_HALF_BIN));

    if (x < -0.999) {
        p = below_upper;
        dp = -0.5 * upper;
    } else if (x > 0.999) {
        p = 1.0 - below_lower;
        dp = 0.5 * lower;
    } else {
        p = below_upper - below_lower;
        dp = -0.5 * (upper - lower);
    }
    *slope = p >= D2C_PIXEL_LEAST ? -dp / p : 0.0;
    return -log(p >= D2C_PIXEL_LEAST ? p : D2C_PIXEL_LEAST);
}

#endif
