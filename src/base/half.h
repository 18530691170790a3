/* half.h: IEEE binary16 by bits; rounding is to nearest, ties to even. */
#ifndef D2C_BASE_HALF_H
#define D2C_BASE_HALF_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float
d2c_half_to_float(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t exponent = h >> 10 & 0x1Fu, fraction = h & 0x3FFu;
    uint32_t bits;
    float f;

    if (exponent == 0) {
        f = ldexpf((float)fraction, -24);
        return sign ? -f : f;
    }
    bits = sign | (exponent == 31 ? 0x7F800000u : (exponent + 112) << 23) | fraction << 13;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A NaN stays a (quiet) NaN; what is too large becomes infinite; small values become subnormal. */
static inline uint16_t
d2c_half_from_float(float f)
{
    uint32_t bits, sign, magnitude, rounded;

    memcpy(&bits, &f, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | (magnitude >> 13 & 0x3FFu));
    if (magnitude >= 0x47800000u) /* 65536 and more */
        return (uint16_t)(sign | 0x7C00u);
    if (magnitude < 0x38800000u) /* below 2^-14: a multiple of 2^-24 */
        return (uint16_t)(sign | (uint32_t)rintf(ldexpf(fabsf(f), 24)));
    rounded = magnitude + 0xFFFu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | (rounded - (112u << 23)) >> 13);
}

#endif
