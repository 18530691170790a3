/*
 * bias.cu: sums down columns: the gradient of a bias, and the second stage of the sums of chunks (chunk.cuh).
 *
 * A bias's gradient reads dy [rows, n] once and is bound by that.  What passes between the stages is a float for a
 * column of a chunk: 1/128 of a bf16 dy's bytes where chunks have 256 rows.
 */
#include "chunk.cuh"

/* ---- the second stage ------------------------------------------------------------------------------------------------ */

#define FINISH_WARPS 32
#define FINISH_THREADS 1024

/* A column of an image's sums is the work of `share` warps: each adds up every share-th chunk, the first then adds up
 * what they have. */
static __global__ void
__launch_bounds__(FINISH_THREADS)
    finish(d2c_columns total, d2c_columns partial, int sums, d2c_chunks chunks, int share, int add)
{
    __shared__ float part[FINISH_WARPS][D2C_WARP];
    const int warp = threadIdx.x / D2C_WARP, lane = threadIdx.x % D2C_WARP, own = warp % share;
    const int tile = blockDim.x / share, tiles = (chunks.width + tile - 1) / tile;
    const int64_t image = blockIdx.x / tiles / sums;
    const int i = blockIdx.x / tiles % sums, c = blockIdx.x % tiles * tile + warp / share * D2C_WARP + lane;
    const int64_t stride = i == 0 ? partial.stride[0] : partial.stride[1];
    const float *from = (i == 0 ? partial.sum[0] : partial.sum[1]) + image * chunks.count * stride + c;
    float *to = i == 0 ? total.sum[0] + image * total.stride[0] : total.sum[1] + image * total.stride[1];
    float sum = 0;

    if (c < chunks.width)
#pragma unroll 8
        for (unsigned k = own; k < chunks.count; k += share)
            sum += from[k * stride];
    part[warp][lane] = sum;
    __syncthreads();
    if (own != 0 || c >= chunks.width)
        return;
    for (int w = 1; w < share; w++)
        sum += part[warp + w][lane];
    to[c] = add ? to[c] + sum : sum;
}

d2c_status
d2c_cuda_partial_columns(d2c_cuda *cuda, d2c_columns *partial, const d2c_columns &total, int sums,
                         const d2c_chunks &chunks, int add)
{
    int64_t width = chunks.width;
    void *scratch;

    *partial = total;
    if (chunks.count == 1 && !add)
        return D2C_OK;
    D2C_TRY(d2c_cuda_scratch(cuda, &scratch, chunks.images * chunks.count * sums * width * sizeof(float)));
    for (int i = 0; i < sums; i++) {
        partial->sum[i] = static_cast<float *>(scratch) + i * width;
        partial->stride[i] = sums * width;
    }
    return D2C_OK;
}

d2c_status
d2c_cuda_finish_columns(d2c_cuda *cuda, const d2c_columns &total, const d2c_columns &partial, int sums,
                        const d2c_chunks &chunks, int add)
{
    int share = chunks.count < 16 ? 1 : FINISH_WARPS;
    unsigned threads = share == 1 ? 256 : FINISH_THREADS;
    unsigned blocks = (unsigned)(chunks.images * sums) * d2c_blocks(chunks.width, threads / share);

    if (partial.sum[0] == total.sum[0])
        return D2C_OK;
    return D2C_LAUNCH(cuda, finish, blocks, threads, 0, total, partial, sums, chunks, share, add);
}

/* ---- the gradient of a bias ------------------------------------------------------------------------------------------ */

#define WARPS 8
#define THREADS 256
/* Rows of a chunk at most. */
#define CHUNK 256

/* A block sums W columns a lane over its chunk: warps take turns at the rows. */
template <typename T, int W>
static __global__ void
__launch_bounds__(THREADS) sum_columns(d2c_columns partial, const T *dy, d2c_chunks chunks, unsigned tiles)
{
    __shared__ float part[WARPS][D2C_WARP * W];
    const int warp = threadIdx.x / D2C_WARP, lane = threadIdx.x % D2C_WARP;
    const int width = chunks.width, start = blockIdx.x % tiles * D2C_WARP * W, c = start + lane * W;
    const int64_t chunk = blockIdx.x / tiles, first = chunk * chunks.each;
    const int64_t end = first + chunks.each < chunks.tokens ? first + chunks.each : chunks.tokens;
    float sum[W] = {};

    if (c < width)
#pragma unroll 4
        for (int64_t row = first + warp; row < end; row += WARPS) {
            float v[W];

            d2c_load(v, dy + row * width + c);
#pragma unroll
            for (int i = 0; i < W; i++)
                sum[i] += v[i];
        }
#pragma unroll
    for (int i = 0; i < W; i++)
        part[warp][lane * W + i] = sum[i];
    __syncthreads();
    for (int i = threadIdx.x; i < D2C_WARP * W && start + i < width; i += THREADS) {
        float total = part[0][i];

        for (int w = 1; w < WARPS; w++)
            total += part[w][i];
        partial.sum[0][chunk * partial.stride[0] + start + i] = total;
    }
}

/* Chunks of a size that fills a device where there are enough rows and columns. */
static d2c_chunks
cut_bias(int64_t rows, int64_t width, unsigned tiles)
{
    d2c_chunks chunks = {};

    chunks.images = 1;
    chunks.tokens = rows;
    chunks.each = CHUNK;
    chunks.width = (int)width;
    while (chunks.each > WARPS && rows / chunks.each * tiles < 512)
        chunks.each /= 2;
    chunks.count = d2c_blocks(rows, chunks.each);
    return chunks;
}

template <typename T, int W>
static d2c_status
launch_sum_columns(d2c_cuda *cuda, d2c_tensor grad, d2c_tensor dy)
{
    unsigned tiles = d2c_blocks(dy.dim[1], D2C_WARP * W);
    d2c_chunks chunks = cut_bias(dy.dim[0], dy.dim[1], tiles);
    d2c_columns partial = {}, total = {{static_cast<float *>(grad.data)}, {0}};

    D2C_TRY(d2c_cuda_partial_columns(cuda, &partial, total, 1, chunks, 1));
    D2C_TRY(D2C_LAUNCH(cuda, (sum_columns<T, W>), chunks.count * tiles, THREADS, 0, partial,
                       static_cast<const T *>(dy.data), chunks, tiles));
    return d2c_cuda_finish_columns(cuda, total, partial, 1, chunks, 1);
}

template <typename T>
static d2c_status
bias_gradient(d2c_cuda *cuda, d2c_tensor grad, d2c_tensor dy)
{
    constexpr int pack = D2C_PACK(sizeof(T));

    if (dy.dim[1] % pack == 0 && d2c_packs(dy, pack))
        return launch_sum_columns<T, pack>(cuda, grad, dy);
    return launch_sum_columns<T, 1>(cuda, grad, dy);
}

d2c_status
d2c_cuda_bias_gradient(d2c_cuda *cuda, d2c_tensor grad, d2c_tensor dy)
{
    return D2C_BY_TYPE(dy.dtype, bias_gradient, cuda, grad, dy);
}
