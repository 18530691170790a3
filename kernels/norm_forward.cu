/*
 * norm_forward.cu: layer norms, their modulation by a condition, and the gated residual before them (chunk.cuh).
 *
 * All are bound by memory: a row is read and written once, and kept in registers between.  Bytes of device memory a row
 * of width C, where y and h are bf16: modulate 6C, gate_residual 10C, gate_modulate 12C.  An image's vectors are read
 * once a chunk, mostly from the L2 cache.  At 64 registers a thread an H100's processor holds three blocks of C = 1152,
 * ten of C = 384: some 80 KB of loads, where 20 KB hide the memory's latency.
 */
#include "chunk.cuh"

/* Rows that a block works on at a time: one meeting of the block serves them all. */
#define ROWS 4
/* Rows of a chunk at most: they share one reading of the image's vectors. */
#define CHUNK 16

/* ---- normalising -------------------------------------------------------------------------------------------------- */

/* h = (out - mean) / deviation * (plus + scale) + shift, where out = x or, gated, x + gate * y. */
typedef struct norm_task {
    d2c_chunks chunks;
    const void *x, *y; /* [B, T, C] */
    float *out;        /* [B, T, C]; may be x */
    void *h;           /* [B, T, C] */
    float *stat;       /* [B, T, 2]; NULL: not kept */
    d2c_vectors gate, shift, scale;
    float plus, eps;
} norm_task;

/* x += gate * y, and out = x. */
template <typename Y, int W>
static __device__ __forceinline__ void
add_gated(float (&x)[ROWS][W], const norm_task &task, const float (&gate)[W], int64_t row, int64_t end, int c)
{
    float y[ROWS][W];

    d2c_load_rows(y, static_cast<const Y *>(task.y), task.chunks.width, row, end, c);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int i = 0; i < W; i++)
            x[r][i] += gate[i] * y[r][i];
        if (row + r < end)
            d2c_store(task.out + (row + r) * task.chunks.width + c, x[r]);
    }
}

template <int W>
static __device__ __forceinline__ void
add_columns(float (&sum)[ROWS], const float (&x)[ROWS][W])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int i = 0; i < W; i++)
            sum[r] += x[r][i];
}

template <int W>
static __device__ __forceinline__ void
add_squares(float (&sum)[ROWS], const float (&x)[ROWS][W], const float (&mean)[ROWS])
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int i = 0; i < W; i++)
            sum[r] += (x[r][i] - mean[r]) * (x[r][i] - mean[r]);
}

/* The mean of each row from its sum; 1/deviation from the sum of squares. */
static __device__ __forceinline__ void
finish_means(float (&sum)[ROWS], float one_column)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        sum[r] *= one_column;
}

static __device__ __forceinline__ void
finish_inverses(float (&square)[ROWS], float one_column, float eps)
{
    finish_means(square, one_column);
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        square[r] = rsqrtf(square[r] + eps);
}

static __device__ __forceinline__ void
store_statistics(float *stat, const float (&mean)[ROWS], const float (&inverse)[ROWS], int64_t row,
                 int64_t end)
{
    if (stat == NULL || threadIdx.x != 0)
        return;
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (row + r < end) {
            stat[2 * (row + r)] = mean[r];
            stat[2 * (row + r) + 1] = inverse[r];
        }
}

template <typename H, int W>
static __device__ __forceinline__ void
store_normalised(const norm_task &task, const float (&x)[ROWS][W], const float (&mean)[ROWS],
                 const float (&inverse)[ROWS], const float (&factor)[W], const float (&shift)[W], int64_t row,
                 int64_t end, int c)
{
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        float h[W];

#pragma unroll
        for (int i = 0; i < W; i++)
            h[i] = (x[r][i] - mean[r]) * inverse[r] * factor[i] + shift[i];
        if (row + r < end)
            d2c_store(static_cast<H *>(task.h) + (row + r) * task.chunks.width + c, h);
    }
}

/* What comes before the normalising: nothing; a gated y is added; nor are means taken away. */
enum norm_kind { LAYER_NORM, GATED_NORM, RMS_NORM };

/* X, Y and H are the types of x, y and h.  With W = 4 x and the vectors stay in registers; with W = 1 each pass loads
 * them anew, x from out where that is its sum with the gated y. */
template <typename X, typename Y, typename H, int W, norm_kind KIND>
static __global__ void
__launch_bounds__(D2C_CHUNK_THREADS) normalise(norm_task task)
{
    __shared__ d2c_pack<float, ROWS> part[2][D2C_CHUNK_WARPS];
    const int width = task.chunks.width;
    const int first = d2c_first_columns<W>();
    const d2c_chunk chunk = d2c_chunk_of(task.chunks);
    const X *x_now = static_cast<const X *>(task.x);
    const X *x_again = KIND == GATED_NORM ? reinterpret_cast<const X *>(task.out) : x_now;
    float gate[W], factor[W], shift[W], x[ROWS][W];
    int turn = 0;

    if (W > 1 && first < width) {
        d2c_load_vector(gate, task.gate, 0, 0, chunk.image, first);
        d2c_load_vector(factor, task.scale, task.plus, 1, chunk.image, first);
        d2c_load_vector(shift, task.shift, 0, 0, chunk.image, first);
    }
    for (int64_t row = chunk.first; row < chunk.end; row += ROWS) {
        float mean[ROWS] = {}, inverse[ROWS] = {};

        for (int c = first; c < width; c = d2c_next_columns<W>(c, width)) {
            d2c_load_rows(x, x_now, width, row, chunk.end, c);
            if (KIND == GATED_NORM && W == 1)
                d2c_load_vector(gate, task.gate, 0, 0, chunk.image, c);
            if (KIND == GATED_NORM)
                add_gated<Y>(x, task, gate, row, chunk.end, c);
            if (KIND != RMS_NORM)
                add_columns(mean, x);
        }
        if (KIND != RMS_NORM) {
            d2c_block_sums(mean, part[turn]);
            finish_means(mean, task.chunks.one_column);
            turn ^= 1;
        }
        for (int c = first; c < width; c = d2c_next_columns<W>(c, width)) {
            if (W == 1)
                d2c_load_rows(x, x_again, width, row, chunk.end, c);
            add_squares(inverse, x, mean);
        }
        d2c_block_sums(inverse, part[turn]);
        turn ^= 1;
        finish_inverses(inverse, task.chunks.one_column, task.eps);
        store_statistics(task.stat, mean, inverse, row, chunk.end);
        for (int c = first; c < width; c = d2c_next_columns<W>(c, width)) {
            if (W == 1) {
                d2c_load_rows(x, x_again, width, row, chunk.end, c);
                d2c_load_vector(factor, task.scale, task.plus, 1, chunk.image, c);
                d2c_load_vector(shift, task.shift, 0, 0, chunk.image, c);
            }
            store_normalised<H>(task, x, mean, inverse, factor, shift, row, chunk.end, c);
        }
    }
}

template <typename X, typename Y, typename H, norm_kind KIND>
static d2c_status
launch_normalise(d2c_cuda *cuda, const norm_task &task)
{
    unsigned blocks = d2c_chunk_blocks(task.chunks), threads = d2c_chunk_threads(task.chunks);

    if (task.chunks.by_four)
        return D2C_LAUNCH(cuda, (normalise<X, Y, H, 4, KIND>), blocks, threads, 0, task);
    return D2C_LAUNCH(cuda, (normalise<X, Y, H, 1, KIND>), blocks, threads, 0, task);
}

template <typename H>
static d2c_status
launch_modulate(d2c_cuda *cuda, const norm_task &task)
{
    return launch_normalise<float, float, H, LAYER_NORM>(cuda, task);
}

d2c_status
d2c_cuda_modulate_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor shift,
                          d2c_tensor scale, float eps)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    norm_task task = {};

    task.chunks = d2c_cut(x.dim[0], x.dim[1], x.dim[2], CHUNK);
    task.chunks.by_four &= d2c_packs(y, 4) && d2c_packs(x, 4) && d2c_packs(shift, 4) && d2c_packs(scale, 4);
    task.x = x.data;
    task.h = y.data;
    task.stat = static_cast<float *>(stat.data);
    task.shift = d2c_vectors_of(shift);
    task.scale = d2c_vectors_of(scale);
    task.plus = 1;
    task.eps = eps;
    return D2C_BY_TYPE(y.dtype, launch_modulate, cuda, task);
}

template <typename Y>
static d2c_status
launch_gate_modulate(d2c_cuda *cuda, const norm_task &task, d2c_dtype h)
{
    if (h == D2C_BF16)
        return launch_normalise<float, Y, d2c_b16, GATED_NORM>(cuda, task);
    return launch_normalise<float, Y, float, GATED_NORM>(cuda, task);
}

d2c_status
d2c_cuda_gate_modulate_forward(d2c_backend *be, d2c_tensor out, d2c_tensor h, d2c_tensor stat, d2c_tensor x,
                               d2c_tensor y, d2c_tensor gate, d2c_tensor shift, d2c_tensor scale, float eps)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    norm_task task = {};

    task.chunks = d2c_cut(x.dim[0], x.dim[1], x.dim[2], CHUNK);
    task.chunks.by_four &= d2c_packs(out, 4) && d2c_packs(h, 4) && d2c_packs(x, 4) && d2c_packs(y, 4) &&
                           d2c_packs(gate, 4) && d2c_packs(shift, 4) && d2c_packs(scale, 4);
    task.x = x.data;
    task.y = y.data;
    task.out = static_cast<float *>(out.data);
    task.h = h.data;
    task.stat = static_cast<float *>(stat.data);
    task.gate = d2c_vectors_of(gate);
    task.shift = d2c_vectors_of(shift);
    task.scale = d2c_vectors_of(scale);
    task.plus = 1;
    task.eps = eps;
    return D2C_BY_TYPE(y.dtype, launch_gate_modulate, cuda, task, h.dtype);
}

template <typename X, norm_kind KIND>
static d2c_status
launch_to(d2c_cuda *cuda, const norm_task &task, d2c_dtype y)
{
    if (y == D2C_BF16)
        return launch_normalise<X, float, d2c_b16, KIND>(cuda, task);
    return launch_normalise<X, float, float, KIND>(cuda, task);
}

/* Norms of rows that have no images. */
template <norm_kind KIND>
static d2c_status
launch_rows(d2c_cuda *cuda, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor gamma, d2c_tensor beta,
            float eps)
{
    norm_task task = {};

    task.chunks = d2c_cut(1, x.dim[0], x.dim[1], CHUNK);
    task.chunks.by_four &= d2c_packs(y, 4) && d2c_packs(x, 4) && d2c_packs(gamma, 4) && d2c_packs(beta, 4);
    task.x = x.data;
    task.h = y.data;
    task.stat = static_cast<float *>(stat.data);
    task.shift.data = static_cast<const float *>(beta.data);
    task.scale.data = static_cast<const float *>(gamma.data);
    task.eps = eps;
    return x.dtype == D2C_BF16 ? launch_to<d2c_b16, KIND>(cuda, task, y.dtype)
                               : launch_to<float, KIND>(cuda, task, y.dtype);
}

d2c_status
d2c_cuda_layernorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor stat, d2c_tensor x, d2c_tensor gamma,
                           d2c_tensor beta, float eps)
{
    return launch_rows<LAYER_NORM>(d2c_cuda_enter(be), y, stat, x, gamma, beta, eps);
}

d2c_status
d2c_cuda_rmsnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, float eps)
{
    return launch_rows<RMS_NORM>(d2c_cuda_enter(be), y, d2c_absent(), x, gamma, d2c_absent(), eps);
}

/* ---- the gated residual alone ------------------------------------------------------------------------------------- */

/* x += gate * y, in columns: rows do not depend on each other. */
template <typename Y, int W>
static __global__ void
__launch_bounds__(D2C_CHUNK_THREADS)
    add_gated_rows(d2c_chunks chunks, float *x, const Y *y, d2c_vectors gates)
{
    const d2c_chunk chunk = d2c_chunk_of(chunks);

    for (int c = d2c_first_columns<W>(); c < chunks.width; c = d2c_next_columns<W>(c, chunks.width)) {
        float gate[W];

        d2c_load(gate, gates.data + chunk.image * gates.stride + c);
        for (int64_t row = chunk.first; row < chunk.end; row += ROWS) {
            float v[ROWS][W], add[ROWS][W];

            d2c_load_rows(v, x, chunks.width, row, chunk.end, c);
            d2c_load_rows(add, y, chunks.width, row, chunk.end, c);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
#pragma unroll
                for (int i = 0; i < W; i++)
                    v[r][i] += gate[i] * add[r][i];
                if (row + r < chunk.end)
                    d2c_store(x + (row + r) * chunks.width + c, v[r]);
            }
        }
    }
}

template <typename Y>
static d2c_status
launch_gate(d2c_cuda *cuda, d2c_chunks chunks, d2c_tensor x, d2c_tensor y, d2c_tensor gate)
{
    unsigned blocks = d2c_chunk_blocks(chunks), threads = d2c_chunk_threads(chunks);
    float *stream = static_cast<float *>(x.data);
    const Y *added = static_cast<const Y *>(y.data);

    if (chunks.by_four)
        return D2C_LAUNCH(cuda, (add_gated_rows<Y, 4>), blocks, threads, 0, chunks, stream, added,
                          d2c_vectors_of(gate));
    return D2C_LAUNCH(cuda, (add_gated_rows<Y, 1>), blocks, threads, 0, chunks, stream, added,
                      d2c_vectors_of(gate));
}

d2c_status
d2c_cuda_gate_residual_forward(d2c_backend *be, d2c_tensor x, d2c_tensor y, d2c_tensor gate)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_chunks chunks = d2c_cut(x.dim[0], x.dim[1], x.dim[2], CHUNK);

    chunks.by_four &= d2c_packs(x, 4) && d2c_packs(y, 4) && d2c_packs(gate, 4);
    return D2C_BY_TYPE(y.dtype, launch_gate, cuda, chunks, x, y, gate);
}
