/*
 * quantize.cu: e4m3 with one scale a tensor: its largest magnitude first, then the quotients.
 *
 * Bound by memory, but for small tensors, whose second reading comes from the cache: 2 times 2 bytes an element are read
 * in bf16, and 1 is written.  A maximum does not depend on the order it is taken in.  Magnitudes are compared as bits,
 * where a NaN is larger than any number.
 */
#include "base/float8.h"
#include "pack.cuh"

#ifdef __CUDACC__
#include <cuda_fp8.h>
#endif

#define THREADS 256
#define MOST_BLOCKS 512 /* each is a number that every block of the second kernel reads */
#define FEWEST_PACKS 4  /* of a thread, where there are as many */

typedef struct d2c_e8 {
    uint8_t bits;
} d2c_e8;

static __device__ __forceinline__ void
d2c_put(d2c_e8 *p, float value)
{
#ifdef __CUDACC__
    p->bits = __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
#else
    p->bits = d2c_f8_from_float(value);
#endif
}

/* The block's largest, for every thread. */
static __device__ __forceinline__ unsigned
block_largest(unsigned value, unsigned *part)
{
    return d2c_block_fold(value, 0u, part, [](unsigned a, unsigned b) { return max(a, b); });
}

/* largest [blocks] = bits of the largest |x| [n] that the block meets. */
template <typename X, int W>
static __global__ void
largest_kernel(unsigned *largest, const X *x, int64_t n)
{
    __shared__ unsigned part[D2C_WARP];
    const int64_t step = (int64_t)gridDim.x * THREADS * W;
    unsigned own = 0;
    float value[W];

#pragma unroll 4
    for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W; at < n; at += step) {
        d2c_load<W>(value, x + at);
#pragma unroll
        for (int i = 0; i < W; i++)
            own = max(own, __float_as_uint(fabsf(value[i])));
    }
    own = block_largest(own, part);
    if (threadIdx.x == 0)
        largest[blockIdx.x] = own;
}

/* *scale, and y [n] = x [n] / *scale.  The grid is that of the first kernel. */
template <typename X, int W>
static __global__ void
quantize_kernel(d2c_e8 *y, float *scale, const unsigned *largest, const X *x, int64_t n)
{
    __shared__ unsigned part[D2C_WARP];
    const int64_t step = (int64_t)gridDim.x * THREADS * W;
    unsigned bits = 0;
    float value[W], divisor;

    for (unsigned i = threadIdx.x; i < gridDim.x; i += THREADS)
        bits = max(bits, largest[i]);
    bits = block_largest(bits, part);
    divisor = bits == 0 ? 1.0f : __uint_as_float(bits) / D2C_F8_LARGEST;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        *scale = divisor;
#pragma unroll 2
    for (int64_t at = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * W; at < n; at += step) {
        d2c_load<W>(value, x + at);
#pragma unroll
        for (int i = 0; i < W; i++)
            value[i] /= divisor;
        d2c_store<W>(y + at, value);
    }
}

template <typename X, int W>
static d2c_status
launch(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x)
{
    int64_t n = x.dim[0] * x.dim[1];
    unsigned blocks = d2c_blocks(n, (int64_t)THREADS * W * FEWEST_PACKS);
    void *largest;

    blocks = blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS;
    D2C_TRY(d2c_cuda_scratch(cuda, &largest, blocks * sizeof(unsigned)));
    D2C_TRY(D2C_LAUNCH(cuda, (largest_kernel<X, W>), blocks, THREADS, 0, (unsigned *)largest,
                       (const X *)x.data, n));
    return D2C_LAUNCH(cuda, (quantize_kernel<X, W>), blocks, THREADS, 0, (d2c_e8 *)y.data, y.scale,
                      (const unsigned *)largest, (const X *)x.data, n);
}

/* Dense tensors are one row. */
template <typename X>
static d2c_status
quantize(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x)
{
    const int widest = D2C_PACK(sizeof(X));
    int64_t n = x.dim[0] * x.dim[1];
    int wide = n % widest == 0 && (uintptr_t)x.data % 16 == 0 && (uintptr_t)y.data % widest == 0;

    return wide ? launch<X, widest>(cuda, y, x) : launch<X, 1>(cuda, y, x);
}

d2c_status
d2c_cuda_quantize(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    return D2C_BY_TYPE(x.dtype, quantize, d2c_cuda_enter(be), y, x);
}
