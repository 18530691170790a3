/* float8.h: the 8-bit float e4m3 (OCP 8-bit Floating Point, E4M3): no infinity, largest value 448, one NaN a sign. */
#ifndef D2C_BASE_FLOAT8_H
#define D2C_BASE_FLOAT8_H

#include <math.h>
#include <stdint.h>

#define D2C_F8_LARGEST 448.0f

static inline float
d2c_f8_to_float(uint8_t h)
{
    int exponent = h >> 3 & 0xF, fraction = h & 7;
    float value;

    if (exponent == 15 && fraction == 7)
        return NAN;
    value = exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
    return h & 0x80 ? -value : value;
}

/* Rounds to nearest, ties to even.  What is too large becomes the largest value, as the tensor cores' own conversion
 * does; a NaN stays one. */
static inline uint8_t
d2c_f8_from_float(float f)
{
    uint8_t sign = signbit(f) ? 0x80 : 0;
    float magnitude = fabsf(f);
    int exponent, steps;

    if (isnan(f))
        return sign | 0x7F;
    if (magnitude >= D2C_F8_LARGEST)
        return sign | 0x7E;
    if (magnitude < 0x1p-6f) /* multiples of 2^-9; the eighth is the least normal value */
        return (uint8_t)(sign | (int)rintf(ldexpf(magnitude, 9)));
    exponent = ilogbf(magnitude);
    steps = (int)rintf(ldexpf(magnitude, 3 - exponent)); /* 8..16 eighths */
    return (uint8_t)(sign | (((exponent + 7) << 3) + steps - 8));
}

#endif
