/*
 * norm_backward.cu: gradients of layer norms, of their modulation, and of the gated residual (chunk.cuh).
 *
 * One kernel does a row's sums and the sums down the image's columns, so that each tensor is read once: a second pass
 * would have to fetch dy and x from device memory again, since the images that a device works on at a time are larger
 * than its L2 cache.  Bytes of device memory a row of width C, where dy and y are bf16: modulate 14C, gate_residual 8C,
 * a plain layer norm between bf16 tensors 6C; and for the sums 8C, or 4C, twice a chunk.
 */
#include "chunk.cuh"

/* Rows of a chunk at most: what is left for the second stage is then little. */
#define CHUNK 64

/* ---- norms --------------------------------------------------------------------------------------------------------- */

/* Rows at a time: two, with two sums each. */
#define NORM_ROWS 2

/*
 * dx = (add ? dx : 0) + (g - mean(g) - xhat * mean(g * xhat)) / deviation, where g = dy * (plus + scale) and xhat is
 * the normalised x.  Sums down columns: of dy, and of dy * xhat.
 */
typedef struct norm_task {
    d2c_chunks chunks;
    const void *dy, *x; /* [B, T, C] */
    void *dx;           /* [B, T, C] */
    const float *stat;  /* [B, T, 2] */
    d2c_vectors scale;
    d2c_columns sums; /* of every chunk; NULL: not wanted */
    float plus;
    int add;
} norm_task;

/* Some rows in the thread's columns. */
template <int W> struct norm_rows {
    float mean[NORM_ROWS], inverse[NORM_ROWS];
    float dy[NORM_ROWS][W], xhat[NORM_ROWS][W];
    float dx[NORM_ROWS][W]; /* before */
};

template <typename Y, typename X, typename D, int W>
static __device__ __forceinline__ void
load_norm_rows(norm_rows<W> *v, const norm_task &task, int64_t row, int64_t end, int c)
{
    const int width = task.chunks.width;

    d2c_load_rows(v->dy, static_cast<const Y *>(task.dy), width, row, end, c);
    d2c_load_rows(v->xhat, static_cast<const X *>(task.x), width, row, end, c);
    if (task.add)
        d2c_load_rows(v->dx, static_cast<const D *>(task.dx), width, row, end, c);
#pragma unroll
    for (int r = 0; r < NORM_ROWS; r++)
#pragma unroll
        for (int i = 0; i < W; i++) {
            v->xhat[r][i] = (v->xhat[r][i] - v->mean[r]) * v->inverse[r];
            if (!task.add)
                v->dx[r][i] = 0;
        }
}

template <int W>
static __device__ __forceinline__ void
load_statistics(norm_rows<W> *v, const float *stat, int64_t row, int64_t end)
{
#pragma unroll
    for (int r = 0; r < NORM_ROWS; r++) {
        int64_t from = row + r < end ? row + r : end - 1;

        v->mean[r] = stat[2 * from];
        v->inverse[r] = stat[2 * from + 1];
    }
}

/* Sums along the rows: of g, then of g * xhat. */
template <int W>
static __device__ __forceinline__ void
add_along(float (&sum)[2 * NORM_ROWS], const norm_rows<W> &v, const float (&factor)[W])
{
#pragma unroll
    for (int r = 0; r < NORM_ROWS; r++)
#pragma unroll
        for (int i = 0; i < W; i++) {
            float g = v.dy[r][i] * factor[i];

            sum[r] += g;
            sum[NORM_ROWS + r] += g * v.xhat[r][i];
        }
}

/* Sums down the columns: of dy, and of dy * xhat. */
template <int W>
static __device__ __forceinline__ void
add_down(float (&shift)[W], float (&scale)[W], const norm_rows<W> &v, int64_t row, int64_t end)
{
#pragma unroll
    for (int r = 0; r < NORM_ROWS; r++)
        if (row + r < end)
#pragma unroll
            for (int i = 0; i < W; i++) {
                shift[i] += v.dy[r][i];
                scale[i] += v.dy[r][i] * v.xhat[r][i];
            }
}

/* Leaves a sum down the block's columns, or adds to what it has left before. */
template <int W>
static __device__ __forceinline__ void
leave(float *sums, int64_t stride, float (&sum)[W], int c, int more)
{
    float before[W] = {};

    if (sums == NULL)
        return;
    sums += blockIdx.x * stride + c;
    if (more)
        d2c_load(before, sums);
#pragma unroll
    for (int i = 0; i < W; i++)
        sum[i] += before[i];
    d2c_store(sums, sum);
}

template <typename D, int W>
static __device__ __forceinline__ void
store_dx(const norm_task &task, norm_rows<W> &v, const float (&factor)[W], const float (&sum)[2 * NORM_ROWS],
         int64_t row, int64_t end, int c)
{
    const float one = task.chunks.one_column;

#pragma unroll
    for (int r = 0; r < NORM_ROWS; r++) {
        float mean = sum[r] * one, projected = sum[NORM_ROWS + r] * one;

#pragma unroll
        for (int i = 0; i < W; i++)
            v.dx[r][i] += v.inverse[r] * (v.dy[r][i] * factor[i] - mean - v.xhat[r][i] * projected);
        if (row + r < end)
            d2c_store(static_cast<D *>(task.dx) + (row + r) * task.chunks.width + c, v.dx[r]);
    }
}

/* Y, X and D are the types of dy, x and dx.  With W = 4 rows, factor and sums stay in registers; with W = 1 they are
 * loaded in each pass, and the sums down columns are left and taken up again. */
template <typename Y, typename X, typename D, int W>
static __global__ void
__launch_bounds__(D2C_CHUNK_THREADS) norm_backward(norm_task task)
{
    __shared__ d2c_pack<float, 2 * NORM_ROWS> part[2][D2C_CHUNK_WARPS];
    const int width = task.chunks.width, first = d2c_first_columns<W>();
    const d2c_chunk chunk = d2c_chunk_of(task.chunks);
    float factor[W], shift[W] = {}, scale[W] = {};
    int turn = 0;

    if (W > 1 && first < width)
        d2c_load_vector(factor, task.scale, task.plus, 1, chunk.image, first);
    for (int64_t row = chunk.first; row < chunk.end; row += NORM_ROWS, turn ^= 1) {
        norm_rows<W> v;
        float sum[2 * NORM_ROWS] = {};

        load_statistics(&v, task.stat, row, chunk.end);
        for (int c = first; c < width; c = d2c_next_columns<W>(c, width)) {
            load_norm_rows<Y, X, D>(&v, task, row, chunk.end, c);
            add_down(shift, scale, v, row, chunk.end);
            if (W == 1) {
                d2c_load_vector(factor, task.scale, task.plus, 1, chunk.image, c);
                leave(task.sums.sum[0], task.sums.stride[0], shift, c, row > chunk.first);
                leave(task.sums.sum[1], task.sums.stride[1], scale, c, row > chunk.first);
                shift[0] = scale[0] = 0;
            }
            add_along(sum, v, factor);
        }
        d2c_block_sums(sum, part[turn]);
        for (int c = first; c < width; c = d2c_next_columns<W>(c, width)) {
            if (W == 1) {
                load_norm_rows<Y, X, D>(&v, task, row, chunk.end, c);
                d2c_load_vector(factor, task.scale, task.plus, 1, chunk.image, c);
            }
            store_dx<D>(task, v, factor, sum, row, chunk.end, c);
        }
    }
    if (W > 1 && first < width) {
        leave(task.sums.sum[0], task.sums.stride[0], shift, first, 0);
        leave(task.sums.sum[1], task.sums.stride[1], scale, first, 0);
    }
}

template <typename Y, typename X, typename D>
static d2c_status
launch_norm_backward(d2c_cuda *cuda, const norm_task &task)
{
    unsigned blocks = d2c_chunk_blocks(task.chunks), threads = d2c_chunk_threads(task.chunks);

    if (task.chunks.by_four)
        return D2C_LAUNCH(cuda, (norm_backward<Y, X, D, 4>), blocks, threads, 0, task);
    return D2C_LAUNCH(cuda, (norm_backward<Y, X, D, 1>), blocks, threads, 0, task);
}

template <typename Y>
static d2c_status
launch_modulate_backward(d2c_cuda *cuda, const norm_task &task)
{
    return launch_norm_backward<Y, float, float>(cuda, task);
}

d2c_status
d2c_cuda_modulate_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dshift, d2c_tensor dscale,
                           d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor scale)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_columns total = d2c_columns_of(dshift, dscale);
    norm_task task = {};

    task.chunks = d2c_cut(x.dim[0], x.dim[1], x.dim[2], CHUNK);
    task.chunks.by_four &= d2c_packs(dx, 4) && d2c_packs(dshift, 4) && d2c_packs(dscale, 4) &&
                           d2c_packs(dy, 4) && d2c_packs(x, 4) && d2c_packs(scale, 4);
    task.dy = dy.data;
    task.x = x.data;
    task.dx = dx.data;
    task.stat = static_cast<const float *>(stat.data);
    task.scale = d2c_vectors_of(scale);
    task.plus = 1;
    task.add = 1;
    D2C_TRY(d2c_cuda_partial_columns(cuda, &task.sums, total, 2, task.chunks, 0));
    D2C_TRY(D2C_BY_TYPE(dy.dtype, launch_modulate_backward, cuda, task));
    return d2c_cuda_finish_columns(cuda, total, task.sums, 2, task.chunks, 0);
}

template <typename Y, typename X>
static d2c_status
launch_by_dx(d2c_cuda *cuda, const norm_task &task, d2c_dtype dx)
{
    if (dx == D2C_BF16)
        return launch_norm_backward<Y, X, d2c_b16>(cuda, task);
    return launch_norm_backward<Y, X, float>(cuda, task);
}

template <typename Y>
static d2c_status
launch_layernorm_backward(d2c_cuda *cuda, const norm_task &task, d2c_dtype x, d2c_dtype dx)
{
    if (x == D2C_BF16)
        return launch_by_dx<Y, d2c_b16>(cuda, task, dx);
    return launch_by_dx<Y, float>(cuda, task, dx);
}

d2c_status
d2c_cuda_layernorm_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dgamma, d2c_tensor dbeta,
                            d2c_tensor dy, d2c_tensor x, d2c_tensor stat, d2c_tensor gamma)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_columns total = d2c_columns_of(dbeta, dgamma);
    norm_task task = {};

    task.chunks = d2c_cut(1, x.dim[0], x.dim[1], CHUNK);
    task.chunks.by_four &= d2c_packs(dx, 4) && d2c_packs(dgamma, 4) && d2c_packs(dbeta, 4) &&
                           d2c_packs(dy, 4) && d2c_packs(x, 4) && d2c_packs(gamma, 4);
    task.dy = dy.data;
    task.x = x.data;
    task.dx = dx.data;
    task.stat = static_cast<const float *>(stat.data);
    task.scale.data = static_cast<const float *>(gamma.data);
    if (dgamma.data == NULL)
        return D2C_BY_TYPE(dy.dtype, launch_layernorm_backward, cuda, task, x.dtype, dx.dtype);
    D2C_TRY(d2c_cuda_partial_columns(cuda, &task.sums, total, 2, task.chunks, 1));
    D2C_TRY(D2C_BY_TYPE(dy.dtype, launch_layernorm_backward, cuda, task, x.dtype, dx.dtype));
    return d2c_cuda_finish_columns(cuda, total, task.sums, 2, task.chunks, 1);
}

/* ---- the gated residual -------------------------------------------------------------------------------------------- */

#define GATE_ROWS 4

typedef struct gate_task {
    d2c_chunks chunks;
    const float *dx; /* [B, T, C] */
    const void *y;   /* [B, T, C] */
    void *dy;        /* [B, T, C] */
    d2c_vectors gate;
    d2c_columns sums; /* of every chunk */
} gate_task;

/* dy = gate * dx, and the sums of dx * y down columns; Y and D are the types of y and dy. */
template <typename Y, typename D, int W>
static __global__ void
__launch_bounds__(D2C_CHUNK_THREADS) gate_backward(gate_task task)
{
    const d2c_chunk chunk = d2c_chunk_of(task.chunks);
    const int width = task.chunks.width;

    for (int c = d2c_first_columns<W>(); c < width; c = d2c_next_columns<W>(c, width)) {
        float gate[W], sum[W] = {};

        d2c_load_vector(gate, task.gate, 0, 0, chunk.image, c);
        for (int64_t row = chunk.first; row < chunk.end; row += GATE_ROWS) {
            float dx[GATE_ROWS][W], y[GATE_ROWS][W];

            d2c_load_rows(dx, task.dx, width, row, chunk.end, c);
            d2c_load_rows(y, static_cast<const Y *>(task.y), width, row, chunk.end, c);
#pragma unroll
            for (int r = 0; r < GATE_ROWS; r++) {
                if (row + r >= chunk.end)
                    break;
#pragma unroll
                for (int i = 0; i < W; i++) {
                    sum[i] += dx[r][i] * y[r][i];
                    dx[r][i] *= gate[i];
                }
                d2c_store(static_cast<D *>(task.dy) + (row + r) * width + c, dx[r]);
            }
        }
        leave(task.sums.sum[0], task.sums.stride[0], sum, c, 0);
    }
}

template <typename Y, typename D>
static d2c_status
launch_gate_backward(d2c_cuda *cuda, const gate_task &task)
{
    unsigned blocks = d2c_chunk_blocks(task.chunks), threads = d2c_chunk_threads(task.chunks);

    if (task.chunks.by_four)
        return D2C_LAUNCH(cuda, (gate_backward<Y, D, 4>), blocks, threads, 0, task);
    return D2C_LAUNCH(cuda, (gate_backward<Y, D, 1>), blocks, threads, 0, task);
}

template <typename Y>
static d2c_status
launch_by_dy(d2c_cuda *cuda, const gate_task &task, d2c_dtype dy)
{
    if (dy == D2C_BF16)
        return launch_gate_backward<Y, d2c_b16>(cuda, task);
    return launch_gate_backward<Y, float>(cuda, task);
}

d2c_status
d2c_cuda_gate_residual_backward(d2c_backend *be, d2c_tensor dy, d2c_tensor dgate, d2c_tensor dx, d2c_tensor y,
                                d2c_tensor gate)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_columns total = d2c_columns_of(dgate, d2c_absent());
    gate_task task = {};

    task.chunks = d2c_cut(dx.dim[0], dx.dim[1], dx.dim[2], CHUNK);
    task.chunks.by_four &=
        d2c_packs(dy, 4) && d2c_packs(dgate, 4) && d2c_packs(dx, 4) && d2c_packs(y, 4) && d2c_packs(gate, 4);
    task.dx = static_cast<const float *>(dx.data);
    task.y = y.data;
    task.dy = dy.data;
    task.gate = d2c_vectors_of(gate);
    D2C_TRY(d2c_cuda_partial_columns(cuda, &task.sums, total, 1, task.chunks, 0));
    D2C_TRY(D2C_BY_TYPE(y.dtype, launch_by_dy, cuda, task, dy.dtype));
    return d2c_cuda_finish_columns(cuda, total, task.sums, 1, task.chunks, 0);
}
