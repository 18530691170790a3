/*
 * pack.cuh: memory read and written in packs of W elements, rows divided among blocks, and sums of a block.
 *
 * A pack is one access of up to 16 bytes; its address is a multiple of its size.  The host decides (d2c_packs): a kernel
 * is compiled for the widest pack of its types (D2C_PACK), and for W = 1, which takes any address and any width.
 */
#ifndef D2C_KERNELS_PACK_CUH
#define D2C_KERNELS_PACK_CUH

#include "kernel.cuh"

/* W elements as they lie in memory. */
template <typename T, int W> struct alignas(W * sizeof(T)) d2c_pack {
    T element[W];
};

/* The widest pack whose largest element type has `size` bytes. */
#define D2C_PACK(size) (16 / (int)(size))

/* The pack at p. */
template <int W, typename T>
static __device__ __forceinline__ d2c_pack<T, W>
d2c_read(const T *p)
{
    d2c_pack<T, W> pack = *reinterpret_cast<const d2c_pack<T, W> *>(p);

    return pack;
}

/* p [W] = the pack */
template <typename T, int W>
static __device__ __forceinline__ void
d2c_write(T *p, const d2c_pack<T, W> &pack)
{
    *reinterpret_cast<d2c_pack<T, W> *>(p) = pack;
}

/* value [W] = the pack's elements */
template <int W, typename T>
static __device__ __forceinline__ void
d2c_unpack(float (&value)[W], const d2c_pack<T, W> &pack)
{
#pragma unroll
    for (int i = 0; i < W; i++)
        value[i] = d2c_get(&pack.element[i]);
}

/* value [W] = p [W] */
template <int W, typename T>
static __device__ __forceinline__ void
d2c_load(float (&value)[W], const T *p)
{
    d2c_pack<T, W> pack = d2c_read<W>(p);

    d2c_unpack<W, T>(value, pack);
}

/* p [W] = value [W] */
template <int W, typename T>
static __device__ __forceinline__ void
d2c_store(T *p, const float (&value)[W])
{
    d2c_pack<T, W> pack;

#pragma unroll
    for (int i = 0; i < W; i++)
        d2c_put(&pack.element[i], value[i]);
    d2c_write(p, pack);
}

/* ---- sums of a block ----------------------------------------------------------------------------------------------- */

/* The fold over a one-dimensional block, for every thread; `nothing` changes no value that it is folded with.  `part` is
 * shared memory of a number a warp (32 at most), which the block may use again at once. */
template <typename T, typename Fold>
static __device__ __forceinline__ T
d2c_block_fold(T value, T nothing, T *part, Fold fold)
{
    int lane = threadIdx.x % D2C_WARP, warps = blockDim.x / D2C_WARP;

    value = d2c_warp_fold(value, fold);
    if (lane == 0)
        part[threadIdx.x / D2C_WARP] = value;
    __syncthreads();
    value = d2c_warp_fold(lane < warps ? part[lane] : nothing, fold);
    __syncthreads();
    return value;
}

template <typename T>
static __device__ __forceinline__ T
d2c_block_sum(T value, T *part)
{
    return d2c_block_fold(value, T(0), part, d2c_plus<T>());
}

/* ---- rows ---------------------------------------------------------------------------------------------------------- */

/* A pack a thread: x counts the rows, y and z the parts of a row, which are blocks of equal size.  (Dividing blockIdx.x
 * instead is slower, and of a pack's store at such an address nvcc 13.0 makes one for each element.) */
typedef struct d2c_row_grid {
    dim3 blocks;
    unsigned threads;
} d2c_row_grid;

#define D2C_ROW_THREADS 256
#define D2C_ROW_PARTS 32768 /* a grid's y and z end at 65535 */

static inline d2c_row_grid
d2c_row_blocks(int64_t rows, int64_t width, int pack)
{
    int64_t packs = (width + pack - 1) / pack;
    unsigned parts = d2c_blocks(packs, D2C_ROW_THREADS);
    d2c_row_grid grid;

    grid.threads = d2c_blocks(d2c_blocks(packs, parts), D2C_WARP) * D2C_WARP;
    grid.blocks.x = (unsigned)rows;
    grid.blocks.z = d2c_blocks(parts, D2C_ROW_PARTS);
    grid.blocks.y = d2c_blocks(parts, grid.blocks.z);
    return grid;
}

/* The block's row, and where in it the thread's pack starts: at the row's end or behind it where there is none. */
static __device__ __forceinline__ int64_t
d2c_row(void)
{
    return blockIdx.x;
}

static __device__ __forceinline__ int64_t
d2c_column(int pack)
{
    int64_t part = (int64_t)blockIdx.z * gridDim.y + blockIdx.y;

    return (part * blockDim.x + threadIdx.x) * pack;
}

/* Whether a tensor, absent or not, is made of whole packs of `width` elements: its start, its rows' starts and its
 * rows' width are multiples of a pack. */
static inline int
d2c_packs(d2c_tensor t, int width)
{
    size_t bytes = (size_t)width * d2c_dtype_size(t.dtype);

    return t.data == NULL ||
           ((uintptr_t)t.data % bytes == 0 && t.dim[t.ndim - 1] % width == 0 &&
            (t.ndim == 1 || (t.ndim == 2 && t.dim[0] == 1) || t.stride[t.ndim - 2] % width == 0));
}

#endif
