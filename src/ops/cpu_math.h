/*
 * cpu_math.h: elementary functions and typed loads that compilers turn into vector code.
 *
 * No branches, no errno, no library calls; relative errors are about 1e-7.  FMA(a, b, c) is one instruction where the
 * target has it and two elsewhere.
 */
#ifndef D2C_OPS_CPU_MATH_H
#define D2C_OPS_CPU_MATH_H

#include <stdint.h>
#include <string.h>

#include "ops/ops.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(__FMA__) || defined(__aarch64__)
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

INLINE uint32_t
float_bits(float f)
{
    uint32_t bits;

    memcpy(&bits, &f, sizeof bits);
    return bits;
}

INLINE float
bits_float(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest even; every NaN becomes the quiet one. */
INLINE uint16_t
to_bf16(float f)
{
    uint32_t bits = f != f ? 0x7FC00000u : float_bits(f);

    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

/* Subnormal halves are made from integers: they must survive a processor that flushes subnormal floats. */
INLINE float
half_float(uint16_t h)
{
    uint32_t exponent = h >> 10 & 31u, fraction = h & 0x3FFu, sign = (uint32_t)(h & 0x8000u) << 16;
    float small = (float)(int)fraction * 0x1p-24f;
    uint32_t bits = ((exponent == 31 ? 255u : exponent + 112u) << 23) | fraction << 13;

    return bits_float(sign | (exponent == 0 ? float_bits(small) : bits));
}

/* As half.h's, without branches: small values are rounded by adding the float whose last bit is worth 2^-24. */
INLINE uint16_t
to_half(float f)
{
    uint32_t bits = float_bits(f), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    uint32_t small = float_bits(bits_float(magnitude) + 0.5f) - 0x3F000000u;
    uint32_t normal = (magnitude + 0xFFFu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13;
    uint32_t finite = magnitude < 0x38800000u ? small : normal;
    uint32_t large = magnitude > 0x7F800000u ? (0x7E00u | (magnitude >> 13 & 0x3FFu)) : 0x7C00u;

    return (uint16_t)(sign | (magnitude >= 0x47800000u ? large : finite));
}

/* Element i of an array; type is a constant where this is inlined. */
INLINE float
get(const void *p, d2c_dtype type, int64_t i)
{
    if (type == D2C_BF16)
        return bits_float((uint32_t)((const uint16_t *)p)[i] << 16);
    if (type == D2C_F16)
        return half_float(((const uint16_t *)p)[i]);
    return ((const float *)p)[i];
}

INLINE void
put(void *p, d2c_dtype type, int64_t i, float v)
{
    if (type == D2C_BF16)
        ((uint16_t *)p)[i] = to_bf16(v);
    else if (type == D2C_F16)
        ((uint16_t *)p)[i] = to_half(v);
    else
        ((float *)p)[i] = v;
}

/* e^x for x <= 88, e^-87 below that: Cephes' polynomial after taking out powers of two.  Where the result becomes a
 * bf16 (type says so) a shorter polynomial does: its error is 3e-6. */
INLINE float
exp_approx(float x, d2c_dtype type)
{
    float clamped = x < -87.0f ? -87.0f : x;
    float shifted = FMA(clamped, 1.44269504088896341f, 12582912.0f);
    float n = shifted - 12582912.0f, r, p;
    float power = bits_float((float_bits(shifted) << 23) + 0x3F800000u);

    if (type == D2C_BF16) {
        r = FMA(clamped, 1.44269504088896341f, -n);
        p = FMA(9.5827024e-3f, r, 5.5905970e-2f);
        p = FMA(p, r, 2.4024098e-1f);
        p = FMA(p, r, 6.9312425e-1f);
        return FMA(p, r, 1.0f) * power;
    }
    r = FMA(n, 2.12194440e-4f, FMA(n, -0.693359375f, clamped));
    p = FMA(1.9875691500E-4f, r, 1.3981999507E-3f);
    p = FMA(p, r, 8.3334519073E-3f);
    p = FMA(p, r, 4.1665795894E-2f);
    p = FMA(p, r, 1.6666665459E-1f);
    p = FMA(p, r, 5.0000001201E-1f);
    p = FMA(p, r * r, r) + 1.0f;
    return p * power;
}

/* Natural logarithm of a positive normal number, a NaN stays; Cephes' polynomial for [sqrt(1/2), sqrt(2)). */
INLINE float
log_approx(float u)
{
    uint32_t bits = float_bits(u);
    float fraction = bits_float((bits & 0x007FFFFFu) | 0x3F000000u);
    int exponent = (int)(bits >> 23) - 126;
    int small = fraction < 0.70710678f;
    float x = (small ? fraction + fraction : fraction) - 1.0f;
    float e = (float)(exponent - small), z = x * x, p;

    p = FMA(7.0376836292E-2f, x, -1.1514610310E-1f);
    p = FMA(p, x, 1.1676998740E-1f);
    p = FMA(p, x, -1.2420140846E-1f);
    p = FMA(p, x, 1.4249322787E-1f);
    p = FMA(p, x, -1.6668057665E-1f);
    p = FMA(p, x, 2.0000714765E-1f);
    p = FMA(p, x, -2.4999993993E-1f);
    p = FMA(p, x, 3.3333331174E-1f);
    p = p * x * z;
    p = FMA(-2.12194440e-4f, e, p);
    p = FMA(-0.5f, z, p);
    return u != u ? u : FMA(0.693359375f, e, x + p);
}

/* 1 / x for 1 <= x <= e^80: an estimate from the bits, then steps of third order; one (an error of 1e-4) is enough for
 * bf16.  Twice as fast as dividing. */
INLINE float
reciprocal(float x, d2c_dtype type)
{
    float r = bits_float(0x7EF311C7u - float_bits(x)), e;

    e = FMA(-x, r, 1.0f);
    r = FMA(r, FMA(e, e, e), r);
    if (type == D2C_BF16)
        return r;
    e = FMA(-x, r, 1.0f);
    return FMA(r, FMA(e, e, e), r);
}

INLINE float
sigmoid_approx(float x, d2c_dtype type)
{
    float e = -x;

    e = e > 80.0f ? 80.0f : e;
    return reciprocal(1.0f + exp_approx(e, type), type);
}

/* The normal distribution function, by Numerical Recipes' erfc (fractional error below 1.2e-7). */
INLINE float
normal_cdf(float x)
{
    float z = (x < 0.0f ? -x : x) * 0.70710678118654752f;
    float t = 1.0f / FMA(0.5f, z, 1.0f), p, tail;

    p = FMA(0.17087277f, t, -0.82215223f);
    p = FMA(p, t, 1.48851587f);
    p = FMA(p, t, -1.13520398f);
    p = FMA(p, t, 0.27886807f);
    p = FMA(p, t, -0.18628806f);
    p = FMA(p, t, 0.09678418f);
    p = FMA(p, t, 0.37409196f);
    p = FMA(p, t, 1.00002368f);
    p = FMA(p, t, -1.26551223f);
    tail = 0.5f * t * exp_approx(FMA(-z, z, p), D2C_F32);
    return x < 0.0f ? tail : 1.0f - tail;
}

/* 2 u of GELU's tanh form, gelu(x) = x * sigmoid(2 u), and its derivative. */
INLINE float
gelu_argument(float x)
{
    return x * FMA(0.0713548162726f, x * x, 1.59576912160573f);
}

INLINE float
gelu_argument_slope(float x)
{
    return FMA(0.2140644488178f, x * x, 1.59576912160573f);
}

/* act(x) and act'(x), for a result of the given dtype. */
INLINE float
act_value(float x, d2c_act act, d2c_dtype type)
{
    switch (act) {
    case D2C_ACT_SILU:
        return x * sigmoid_approx(x, type);
    case D2C_ACT_GELU_TANH:
        return x * sigmoid_approx(gelu_argument(x), type);
    case D2C_ACT_GELU_ERF:
        return x * normal_cdf(x);
    case D2C_ACT_RELU:
        return x < 0.0f ? 0.0f : x;
    case D2C_ACT_GELU_QUICK:
        return x * sigmoid_approx(1.702f * x, type);
    case D2C_ACT_NONE:
        break;
    }
    return x;
}

INLINE float
act_slope(float x, d2c_act act, d2c_dtype type)
{
    float s;

    switch (act) {
    case D2C_ACT_SILU:
        s = sigmoid_approx(x, type);
        return s * FMA(x, 1.0f - s, 1.0f);
    case D2C_ACT_GELU_TANH:
        s = sigmoid_approx(gelu_argument(x), type);
        return s * FMA(x * gelu_argument_slope(x), 1.0f - s, 1.0f);
    case D2C_ACT_GELU_ERF:
        return FMA(x * 0.39894228040143268f, exp_approx(-0.5f * x * x, D2C_F32), normal_cdf(x));
    case D2C_ACT_RELU:
        return x > 0.0f ? 1.0f : 0.0f;
    case D2C_ACT_GELU_QUICK:
        s = sigmoid_approx(1.702f * x, type);
        return s * FMA(1.702f * x, 1.0f - s, 1.0f);
    case D2C_ACT_NONE:
        break;
    }
    return 1.0f;
}

#endif
