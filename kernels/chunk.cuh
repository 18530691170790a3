/*
 * chunk.cuh: what kernels over rows [B, T, C], with sums along rows and down an image's columns, are written with.
 *
 * A block works on a chunk: some consecutive rows of one image.  A thread has the same W columns of every row, so that
 * what an image's rows share (shift, scale, gate) and the sums down its columns stay in registers, and every tensor is
 * read from device memory once; sums along a row are the block's.  There are two variants, chosen by shape and
 * alignment:
 *
 *  - W = 4: the block is as wide as the row (C a multiple of 4, 2048 at most) and moves four elements at a time: 16
 *    bytes of f32, and 8 of the bf16 beside it, so that a thread's columns are the same in both.
 *  - W = 1: any width and alignment; a thread walks over its columns, and does so again in each pass.
 *
 * Sums down columns: each block leaves those of its chunk as a row of d2c_columns, and d2c_cuda_finish_columns adds up
 * an image's rows.  How rows are cut into chunks depends on the shape alone.
 */
#ifndef D2C_KERNELS_CHUNK_CUH
#define D2C_KERNELS_CHUNK_CUH

#include "pack.cuh"

#define D2C_CHUNK_WARPS 16
#define D2C_CHUNK_THREADS (D2C_CHUNK_WARPS * D2C_WARP)

/* Images of `tokens` rows of `width` columns, cut into chunks of `each` rows. */
typedef struct d2c_chunks {
    int64_t images, tokens;
    unsigned each, count; /* rows of a chunk, chunks of an image */
    int width;
    float one_column; /* 1 / width */
    int by_four;      /* W = 4 */
} d2c_chunks;

/* A block's rows. */
typedef struct d2c_chunk {
    int64_t image, first, end;
} d2c_chunk;

static __device__ __forceinline__ d2c_chunk
d2c_chunk_of(const d2c_chunks &chunks)
{
    d2c_chunk chunk;
    int64_t stop;

    chunk.image = blockIdx.x / chunks.count;
    chunk.first = chunk.image * chunks.tokens + (int64_t)(blockIdx.x % chunks.count) * chunks.each;
    chunk.end = chunk.first + chunks.each;
    stop = (chunk.image + 1) * chunks.tokens;
    if (chunk.end > stop)
        chunk.end = stop;
    return chunk;
}

/* The thread's first columns, and those after c; with W = 4 there are none. */
template <int W>
static __device__ __forceinline__ int
d2c_first_columns(void)
{
    return (int)threadIdx.x * W;
}

template <int W>
static __device__ __forceinline__ int
d2c_next_columns(int c, int width)
{
    return W > 1 ? width : c + (int)blockDim.x;
}

/* Columns c.. of R rows from `row` on.  Past the chunk's end they are its last row's once more: no load is out of
 * range, and there are no branches between loads. */
template <int R, int W, typename T>
static __device__ __forceinline__ void
d2c_load_rows(float (&v)[R][W], const T *x, int width, int64_t row, int64_t end, int c)
{
#pragma unroll
    for (int r = 0; r < R; r++)
        d2c_load(v[r], x + (row + r < end ? row + r : end - 1) * width + c);
}

/* A vector for each image, or one for all of them. */
typedef struct d2c_vectors {
    const float *data; /* [B, C]; NULL: absent */
    int64_t stride;
} d2c_vectors;

/* v = plus + the image's vector, in columns c..; `absent` where there is none. */
template <int W>
static __device__ __forceinline__ void
d2c_load_vector(float (&v)[W], const d2c_vectors &a, float plus, float absent, int64_t image, int c)
{
#pragma unroll
    for (int i = 0; i < W; i++)
        v[i] = absent;
    if (a.data == NULL)
        return;
    d2c_load(v, a.data + image * a.stride + c);
#pragma unroll
    for (int i = 0; i < W; i++)
        v[i] += plus;
}

/* The block's sums of N numbers, for every thread, in a fixed order.  `part` may be used again after the block's next
 * barrier: callers alternate between two. */
template <int N>
static __device__ __forceinline__ void
d2c_block_sums(float (&v)[N], d2c_pack<float, N> *part)
{
    int warps = blockDim.x / D2C_WARP;

#pragma unroll
    for (int offset = D2C_WARP / 2; offset > 0; offset /= 2)
#pragma unroll
        for (int i = 0; i < N; i++)
            v[i] += __shfl_xor_sync(D2C_ALL_LANES, v[i], offset);
    if (threadIdx.x % D2C_WARP == 0)
        d2c_store(part[threadIdx.x / D2C_WARP].element, v);
    __syncthreads();
    d2c_load(v, part[0].element);
#pragma unroll 4
    for (int w = 1; w < warps; w++) {
        float other[N];

        d2c_load(other, part[w].element);
#pragma unroll
        for (int i = 0; i < N; i++)
            v[i] += other[i];
    }
}

/* ---- host side ----------------------------------------------------------------------------------------------------- */

static inline d2c_vectors
d2c_vectors_of(d2c_tensor t)
{
    d2c_vectors v = {static_cast<const float *>(t.data), t.ndim == 2 ? t.stride[0] : 0};

    return v;
}

/* Chunks of `most` rows at most, and enough of them to fill a device where there are enough rows.  by_four is yet to be
 * joined with each tensor's d2c_packs. */
static inline d2c_chunks
d2c_cut(int64_t images, int64_t tokens, int64_t width, unsigned most)
{
    d2c_chunks chunks = {};

    chunks.images = images;
    chunks.tokens = tokens;
    chunks.each = most;
    chunks.width = (int)width;
    chunks.one_column = 1.0f / width;
    chunks.by_four = width % 4 == 0 && width <= 4 * D2C_CHUNK_THREADS;
    while (chunks.each > 4 && images * tokens / chunks.each < 512)
        chunks.each /= 2;
    chunks.count = d2c_blocks(tokens, chunks.each);
    return chunks;
}

/* The grid and block of a kernel that has a block for each chunk. */
static inline unsigned
d2c_chunk_blocks(const d2c_chunks &chunks)
{
    return (unsigned)(chunks.images * chunks.count);
}

static inline unsigned
d2c_chunk_threads(const d2c_chunks &chunks)
{
    unsigned threads = D2C_WARP * d2c_blocks(chunks.width, chunks.by_four ? 4 * D2C_WARP : D2C_WARP);

    return threads < D2C_CHUNK_THREADS ? threads : D2C_CHUNK_THREADS;
}

/* ---- sums down columns, bias.cu -------------------------------------------------------------------------------------- */

/* Up to two sums [C] for each chunk or image: of number n, sum i starts at sum[i] + n * stride[i]. */
typedef struct d2c_columns {
    float *sum[2];
    int64_t stride[2];
} d2c_columns;

static inline d2c_columns
d2c_columns_of(d2c_tensor a, d2c_tensor b)
{
    d2c_vectors first = d2c_vectors_of(a), second = d2c_vectors_of(b);
    d2c_columns columns = {{static_cast<float *>(a.data), static_cast<float *>(b.data)},
                           {first.stride, second.stride}};

    return columns;
}

/* Where the first `sums` sums of every chunk go: scratch memory, or the total itself where it is set and an image is
 * one chunk. */
d2c_status d2c_cuda_partial_columns(d2c_cuda *cuda, d2c_columns *partial, const d2c_columns &total, int sums,
                                    const d2c_chunks &chunks, int add);

/* An image's totals are set to the sums of its chunks', or these are added to them. */
d2c_status d2c_cuda_finish_columns(d2c_cuda *cuda, const d2c_columns &total, const d2c_columns &partial,
                                   int sums, const d2c_chunks &chunks, int add);

#endif
