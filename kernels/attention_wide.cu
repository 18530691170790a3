/*
 * attention_wide.cu: attention of wide heads, forward: an autoencoder's one head of 512, over 1024 or 4096 pixels.
 *
 * A head that is wide has products large enough for the library: scores are one, o the other.  They are made for as many
 * queries at a time as the second-level cache keeps the scores of; more there never are.  Softmax reads a row of scores
 * twice, the second time from the nearer cache.  Its weights are rounded to bf16 as the operand of a bf16 product.
 */
#include "attention.cuh"
#include "pack.cuh"
#include "product.h"

#define THREADS 256

/* For scores: half of an H100's second-level cache. */
#define SCORE_BYTES ((int64_t)24 << 20)

/* Queries at a time are a multiple of this: whole tiles of the library's kernels. */
#define SCORE_ROWS 128

/* ---- softmax --------------------------------------------------------------------------------------------------------- */

/* One unit's scores from query `first` on. */
typedef struct score_rows {
    float *scores; /* [rows, pitch] */
    float *lse;    /* of the first; NULL: not wanted */
    int tokens, first;
    int64_t pitch;
    float scale;
    const float *bias; /* NULL: none */
    int64_t bias_row, bias_column;
} score_rows;

static __device__ __forceinline__ float
score_at(const score_rows &s, int64_t row, int key)
{
    float score = s.scores[row * s.pitch + key] * s.scale;

    return s.bias == NULL ? score : score + s.bias[(s.first + row) * s.bias_row + key * s.bias_column];
}

/* weights [rows, pitch], which may be the scores: a block a row, a thread every THREADSth key. */
template <typename T>
static __global__ void
__launch_bounds__(THREADS) softmax_kernel(T *weights, score_rows s)
{
    __shared__ float part[D2C_WARP];
    const int64_t row = blockIdx.x;
    float own = -INFINITY, total = 0, top;

    for (int key = threadIdx.x; key < s.tokens; key += THREADS) {
        float score = score_at(s, row, key), larger = fmaxf(own, score);

        total = fmaf(total, expf(own - larger), expf(score - larger));
        own = larger;
    }
    top = d2c_block_fold(own, -INFINITY, part, [](float a, float b) { return fmaxf(a, b); });
    total = d2c_block_sum(total == 0.0f ? 0.0f : total * expf(own - top), part);
    for (int key = threadIdx.x; key < s.tokens; key += THREADS)
        d2c_put(weights + row * s.pitch + key, expf(score_at(s, row, key) - top) / total);
    if (s.lse != NULL && threadIdx.x == 0)
        s.lse[row] = top + logf(total);
}

/* ---- products -------------------------------------------------------------------------------------------------------- */

/* A call, and its scratch memory. */
typedef struct wide {
    d2c_cuda *cuda;
    const d2c_attention *a;
    const d2c_attention_data *data;
    d2c_dtype dtype;
    int64_t pitch, rows; /* rows: queries at a time */
    float *scores;       /* [rows, pitch] */
    void *weights;       /* [rows, pitch] of dtype; f32: the scores */
} wide;

/* Row `token` of q (part 0), k or v of a unit. */
static const void *
part_at(const wide *w, int unit, int part, int64_t token)
{
    const d2c_attention *a = w->a;
    int64_t at = (unit / a->heads * (int64_t)a->tokens + token) * 3 + part;

    at = (at * a->heads + unit % a->heads) * a->width;
    return (const char *)w->data->qkv + (size_t)at * d2c_dtype_size(w->dtype);
}

static void *
out_at(const wide *w, int unit, int64_t token)
{
    const d2c_attention *a = w->a;
    int64_t at = ((unit / a->heads * (int64_t)a->tokens + token) * a->heads + unit % a->heads) * a->width;

    return (char *)w->data->o + (size_t)at * d2c_dtype_size(w->dtype);
}

/* scores = q k^T */
static d2c_status
find_scores(const wide *w, int unit, int64_t first, int64_t rows)
{
    d2c_matmul p = {};
    d2c_matmul_data at = {};

    p.m = rows;
    p.n = w->a->tokens;
    p.k = w->a->width;
    p.a_stride = p.b_stride = (int64_t)3 * w->a->heads * w->a->width;
    p.b_turned = 1;
    p.c_stride = w->pitch;
    p.operand_type = w->dtype;
    p.result_type = D2C_F32;
    at.a = part_at(w, unit, 0, first);
    at.b = part_at(w, unit, 1, 0);
    at.c = w->scores;
    return d2c_matmul_run(w->cuda, &p, &at);
}

template <typename T>
static d2c_status
find_weights(const wide *w, int unit, int64_t first, int64_t rows)
{
    const d2c_attention *a = w->a;
    score_rows s = {};

    s.scores = w->scores;
    s.lse = w->data->lse == NULL ? NULL : w->data->lse + (int64_t)unit * a->tokens + first;
    s.tokens = a->tokens;
    s.first = (int)first;
    s.pitch = w->pitch;
    s.scale = a->scale;
    if (a->bias != NULL)
        s.bias = a->bias + unit / a->heads * a->bias_stride[0] + unit % a->heads * a->bias_stride[1];
    s.bias_row = a->bias_stride[2];
    s.bias_column = a->bias_stride[3];
    return D2C_LAUNCH(w->cuda, softmax_kernel<T>, (unsigned)rows, THREADS, 0, static_cast<T *>(w->weights),
                      s);
}

/* o = weights v */
static d2c_status
find_result(const wide *w, int unit, int64_t first, int64_t rows)
{
    d2c_matmul p = {};
    d2c_matmul_data at = {};

    p.m = rows;
    p.n = w->a->width;
    p.k = w->a->tokens;
    p.a_stride = w->pitch;
    p.b_stride = (int64_t)3 * w->a->heads * w->a->width;
    p.c_stride = (int64_t)w->a->heads * w->a->width;
    p.operand_type = p.result_type = w->dtype;
    at.a = w->weights;
    at.b = part_at(w, unit, 2, 0);
    at.c = out_at(w, unit, first);
    return d2c_matmul_run(w->cuda, &p, &at);
}

static d2c_status
run_unit(const wide *w, int unit)
{
    int64_t first;

    for (first = 0; first < w->a->tokens; first += w->rows) {
        int64_t left = w->a->tokens - first, rows = left < w->rows ? left : w->rows;

        D2C_TRY(find_scores(w, unit, first, rows));
        D2C_TRY(D2C_BY_TYPE(w->dtype, find_weights, w, unit, first, rows));
        D2C_TRY(find_result(w, unit, first, rows));
    }
    return D2C_OK;
}

/* Queries at a time; rows of scores start at multiples of 16 bytes in bf16, too. */
static d2c_status
take_scratch(wide *w)
{
    int64_t most, bytes;
    void *block;

    w->pitch = d2c_round_up(w->a->tokens, 8);
    most = SCORE_BYTES / (w->pitch * (int64_t)sizeof(float)) / SCORE_ROWS * SCORE_ROWS;
    w->rows = most < SCORE_ROWS ? SCORE_ROWS : most;
    if (w->rows > w->a->tokens)
        w->rows = w->a->tokens;
    bytes = w->rows * w->pitch * (int64_t)sizeof(float);
    D2C_TRY(d2c_cuda_scratch(w->cuda, &block, (size_t)(w->dtype == D2C_F32 ? bytes : bytes + bytes / 2)));
    w->scores = static_cast<float *>(block);
    w->weights = w->dtype == D2C_F32 ? block : (char *)block + bytes;
    return D2C_OK;
}

d2c_status
d2c_attention_wide_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data,
                           d2c_dtype dtype)
{
    wide w = {cuda, a, data, dtype, 0, 0, NULL, NULL};

    D2C_TRY(take_scratch(&w));
    for (int unit = 0; unit < a->units; unit++)
        D2C_TRY(run_unit(&w, unit));
    return D2C_OK;
}
