/*
 * kernel.cuh: what every kernel is written with.
 *
 * Kernels are plain CUDA C with templates over element types, so that the same files also compile for the emulator of
 * test/emu, which runs them on the host under the sanitizers.  Hence the rules: launch by D2C_LAUNCH; block sizes are
 * multiples of 32; every thread of a warp takes part in a shuffle, and every thread of a block in __syncthreads; a
 * kernel's one dynamic shared array is had by D2C_SHARED; what needs PTX is wrapped in tensor_core.cuh.
 */
#ifndef D2C_KERNELS_KERNEL_CUH
#define D2C_KERNELS_KERNEL_CUH

#include <cuda_runtime.h>

#include "cuda.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>

/* kernel<<<grid, block, shared>>>(...) on the backend's stream; evaluates to a d2c_status.  A kernel with commas in its
 * template arguments goes in parentheses.  (clang-format would take the brackets apart.) */
/* clang-format off */
#define D2C_LAUNCH(cuda, kernel, grid, block, shared, ...)                                                   \
    ((kernel)<<<(grid), (block), (shared), (cuda)->stream>>>(__VA_ARGS__), d2c_cuda_launched((cuda), #kernel))
/* clang-format on */

/* A pointer to the block's dynamic shared memory, aligned to 16 bytes. */
#define D2C_SHARED(type, name)                                                                               \
    extern __shared__ __align__(16) unsigned char d2c_shared_bytes[];                                        \
    type *name = reinterpret_cast<type *>(d2c_shared_bytes)
#else
#include "base/bf16.h"
#include "base/half.h"

#define D2C_LAUNCH(cuda, kernel, grid, block, shared, ...)                                                   \
    (emu_launch((kernel), (grid), (block), (shared), (cuda)->stream, __VA_ARGS__),                           \
     d2c_cuda_launched((cuda), #kernel))
#define D2C_SHARED(type, name) type *name = reinterpret_cast<type *>(emu_dynamic_shared())
#endif

/* ---- elements: f32, bf16 and f16 in memory, float in registers --------------------------------------------------- */

typedef struct d2c_b16 {
    uint16_t bits;
} d2c_b16;

typedef struct d2c_h16 {
    uint16_t bits;
} d2c_h16;

static __device__ __forceinline__ float
d2c_get(const float *p)
{
    return *p;
}

static __device__ __forceinline__ float
d2c_get(const d2c_b16 *p)
{
    return __uint_as_float((uint32_t)p->bits << 16);
}

static __device__ __forceinline__ float
d2c_get(const d2c_h16 *p)
{
#ifdef __CUDACC__
    return __half2float(__ushort_as_half(p->bits));
#else
    return d2c_half_to_float(p->bits);
#endif
}

static __device__ __forceinline__ void
d2c_put(float *p, float value)
{
    *p = value;
}

/* The bits of a float rounded to bf16, to nearest even. */
static __device__ __forceinline__ uint16_t
d2c_bf16_bits(float value)
{
#ifdef __CUDACC__
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
#else
    return d2c_bf16_from_float(value);
#endif
}

static __device__ __forceinline__ void
d2c_put(d2c_b16 *p, float value)
{
    p->bits = d2c_bf16_bits(value);
}

static __device__ __forceinline__ void
d2c_put(d2c_h16 *p, float value)
{
#ifdef __CUDACC__
    p->bits = __half_as_ushort(__float2half_rn(value));
#else
    p->bits = d2c_half_from_float(value);
#endif
}

/* Calls action<T>(...) with the C type of a tensor's dtype (f32 or bf16); evaluates to its d2c_status. */
#define D2C_BY_TYPE(dtype, action, ...)                                                                      \
    ((dtype) == D2C_BF16 ? action<d2c_b16>(__VA_ARGS__) : action<float>(__VA_ARGS__))

/* ---- sums and maxima of a warp --------------------------------------------------------------------------------------- */

#define D2C_WARP 32
#define D2C_ALL_LANES 0xFFFFFFFFu

/* Every lane gets the result; the order of the folding is fixed. */
template <typename T, typename Fold>
static __device__ __forceinline__ T
d2c_warp_fold(T value, Fold fold)
{
#pragma unroll
    for (int offset = D2C_WARP / 2; offset > 0; offset /= 2)
        value = fold(value, __shfl_xor_sync(D2C_ALL_LANES, value, offset));
    return value;
}

template <typename T> struct d2c_plus {
    __device__ __forceinline__ T operator()(T a, T b) const
    {
        return a + b;
    }
};

template <typename T>
static __device__ __forceinline__ T
d2c_warp_sum(T value)
{
    return d2c_warp_fold(value, d2c_plus<T>());
}

/* ---- host side ----------------------------------------------------------------------------------------------------- */

/* Blocks of `each` that cover `count`. */
static inline unsigned
d2c_blocks(int64_t count, int64_t each)
{
    return (unsigned)((count + each - 1) / each);
}

#endif
