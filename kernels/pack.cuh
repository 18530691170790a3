/*
 * pack.cuh: memory read and written in packs of W elements, and sums in double.
 *
 * A pack is one access of up to 16 bytes; its address must be a multiple of its size.  The host decides: a kernel is
 * compiled for the widest pack of its types (D2C_PACK) and for W = 1, which any address allows.  The last pack of a row
 * may be cut.
 */
#ifndef D2C_KERNELS_PACK_CUH
#define D2C_KERNELS_PACK_CUH

#include "kernel.cuh"

template <typename T, int W> struct alignas(W * sizeof(T)) d2c_pack {
    T element[W];
};

/* The widest pack whose largest element type has `size` bytes. */
#define D2C_PACK(size) (16 / (int)(size))

/* value [W] = p [left], the elements beyond `left` 0. */
template <int W, typename T>
static __device__ __forceinline__ void
d2c_load(float (&value)[W], const T *p, int64_t left)
{
    d2c_pack<T, W> pack;

    if (left >= W) {
        pack = *reinterpret_cast<const d2c_pack<T, W> *>(p);
#pragma unroll
        for (int i = 0; i < W; i++)
            value[i] = d2c_get(&pack.element[i]);
    } else {
#pragma unroll
        for (int i = 0; i < W; i++)
            value[i] = i < left ? d2c_get(p + i) : 0.0f;
    }
}

/* p [left] = value [W], as much as there is room for. */
template <int W, typename T>
static __device__ __forceinline__ void
d2c_store(T *p, const float (&value)[W], int64_t left)
{
    d2c_pack<T, W> pack;

    if (left >= W) {
#pragma unroll
        for (int i = 0; i < W; i++)
            d2c_put(&pack.element[i], value[i]);
        *reinterpret_cast<d2c_pack<T, W> *>(p) = pack;
    } else {
#pragma unroll
        for (int i = 0; i < W; i++)
            if (i < left)
                d2c_put(p + i, value[i]);
    }
}

/* ---- sums in double ------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ double
d2c_warp_sum_double(double value)
{
#pragma unroll
    for (int offset = D2C_WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(D2C_ALL_LANES, value, offset);
    return value;
}

/* As d2c_block_sum. */
static __device__ __forceinline__ double
d2c_block_sum_double(double value, double *part)
{
    int lane = threadIdx.x % D2C_WARP, warps = blockDim.x / D2C_WARP;

    value = d2c_warp_sum_double(value);
    if (lane == 0)
        part[threadIdx.x / D2C_WARP] = value;
    __syncthreads();
    value = d2c_warp_sum_double(lane < warps ? part[lane] : 0.0);
    __syncthreads();
    return value;
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

/* A pack a thread: each row is divided among `parts` blocks of equal size. */
typedef struct d2c_row_grid {
    unsigned blocks, threads, parts;
} d2c_row_grid;

#define D2C_ROW_THREADS 256

static inline d2c_row_grid
d2c_row_blocks(int64_t rows, int64_t width, int pack)
{
    int64_t packs = d2c_blocks(width, pack);
    d2c_row_grid grid;

    grid.parts = d2c_blocks(packs, D2C_ROW_THREADS);
    grid.threads = d2c_blocks(d2c_blocks(packs, grid.parts), D2C_WARP) * D2C_WARP;
    grid.blocks = (unsigned)(rows * grid.parts);
    return grid;
}

/* The block's row, and where in it the thread's pack starts: at the row's end or behind it where there is none. */
static __device__ __forceinline__ int64_t
d2c_row(unsigned parts)
{
    return blockIdx.x / parts;
}

static __device__ __forceinline__ int64_t
d2c_column(unsigned parts, int pack)
{
    return ((int64_t)(blockIdx.x % parts) * blockDim.x + threadIdx.x) * pack;
}

/* Whether a tensor, absent or not, can be read in packs of `width` elements: its start, and its rows' starts, are
 * multiples of a pack. */
static inline int
d2c_packs(d2c_tensor t, int width)
{
    size_t bytes = (size_t)width * d2c_dtype_size(t.dtype);
    int one_row = t.ndim < 2 || (t.ndim == 2 && t.dim[0] == 1);

    return (uintptr_t)t.data % bytes == 0 && (one_row || t.stride[t.ndim - 2] % width == 0);
}

#endif
