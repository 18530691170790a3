/*
 * divide.cuh: places in images and texts, divided as a product and a shift: what a layout does for every element, and a
 * processor slowly.
 */
#ifndef D2C_KERNELS_DIVIDE_CUH
#define D2C_KERNELS_DIVIDE_CUH

#include "kernel.cuh"

/* n / by for 0 <= n < 2^31. */
typedef struct d2c_divisor {
    uint32_t by, factor;
    int shift;
} d2c_divisor;

static inline d2c_divisor
d2c_make_divisor(int64_t by)
{
    d2c_divisor d = {(uint32_t)by, 0, 31};

    while ((int64_t)1 << (d.shift - 31) < by)
        d.shift++;
    d.factor = (uint32_t)((((uint64_t)1 << d.shift) + (uint64_t)by - 1) / (uint64_t)by);
    return d;
}

/* The quotient of n, and the rest. */
static __device__ __forceinline__ uint32_t
d2c_divide(uint32_t n, const d2c_divisor &d, uint32_t *rest)
{
    uint32_t quotient = (uint32_t)(((uint64_t)n * d.factor) >> d.shift);

    *rest = n - quotient * d.by;
    return quotient;
}

/* Positions within one image or text can be divided so. */
static inline d2c_status
d2c_check_divisible(d2c_cuda *cuda, int64_t count)
{
    if (count <= INT32_MAX)
        return D2C_OK;
    return d2c_fail(&cuda->base.error, D2C_UNSUPPORTED, "an image or a text is larger than 2^31 elements");
}

#endif
