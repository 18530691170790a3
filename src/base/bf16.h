/* bf16.h: bfloat16 by bits; rounding is to nearest, ties to even. */
#ifndef D2C_BASE_BF16_H
#define D2C_BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline float
d2c_bf16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* A NaN stays a (quiet) NaN; what is too large becomes infinite. */
static inline uint16_t
d2c_bf16_from_float(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)(bits >> 16 | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

#endif
