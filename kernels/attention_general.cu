/*
 * attention_general.cu: attention without tensor cores: f32, and bf16 of any width and address.
 *
 * The same passes as in attention_forward.cu and attention_backward.cu, which see, on floats in shared memory.  A block's
 * threads are 16 rows of 8: thread (y, x) computes scores of the rows y, y + 16, .. that the block owns with the tile's
 * rows x, x + 8, x + 16, x + 24, and sums of the same rows for columns 4x .. 4x + 3 of every 32.  A warp has all threads
 * of a row, so the weights between the two products pass through shared memory without a barrier of the block.
 *
 * Bound by shared memory: the forward pass reads 8 vectors of 16 bytes for 64 multiplications of a thread.
 */
#include "attention.cuh"

#define LANES 8
#define ROWS 16
#define THREADS (ROWS * LANES)
#define TILE 32

/* Two blocks' registers fit on a multiprocessor. */
#define BOUNDS __launch_bounds__(THREADS, 2)

/* Floats from one row to the next in shared memory: no bank conflicts in vectors of 4 from 8 rows, and in single ones of
 * 8 from 4 rows. */
#define PITCH(groups) (32 * (groups) + 4)
#define WEIGHT_PITCH (TILE + 8)

static __device__ __forceinline__ int
row_of_thread(void)
{
    return threadIdx.x / LANES;
}

static __device__ __forceinline__ int
lane_of_row(void)
{
    return threadIdx.x % LANES;
}

static __device__ __forceinline__ float4
vector_at(const float *p)
{
    return *reinterpret_cast<const float4 *>(p);
}

static __device__ __forceinline__ float
row_sum(float value)
{
#pragma unroll
    for (int flip = 1; flip < LANES; flip *= 2)
        value += __shfl_xor_sync(D2C_ALL_LANES, value, flip);
    return value;
}

static __device__ __forceinline__ float
row_max(float value)
{
#pragma unroll
    for (int flip = 1; flip < LANES; flip *= 2)
        value = fmaxf(value, __shfl_xor_sync(D2C_ALL_LANES, value, flip));
    return value;
}

/* Copies COUNT rows from `first` on of a unit to shared memory; what lies beyond the tokens or the width becomes 0. */
template <typename T, int GROUPS, int COUNT>
static __device__ __forceinline__ void
load_rows(float *to, const T *unit, int64_t stride, int first, const d2c_attention *a)
{
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll 4
    for (int row = threadIdx.x / D2C_WARP; row < COUNT; row += THREADS / D2C_WARP)
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            int column = group * D2C_WARP + lane;
            bool inside = first + row < a->tokens && column < a->width;

            to[row * PITCH(GROUPS) + column] = inside ? d2c_get(unit + (first + row) * stride + column) : 0;
        }
}

/* s [COUNT][4] = dot products of the thread's rows with rows of the tile. */
template <int GROUPS, int COUNT>
static __device__ __forceinline__ void
dots(float (*s)[4], const float *own, const float *tile, int width)
{
    const int pitch = PITCH(GROUPS);

    own += row_of_thread() * pitch;
    tile += lane_of_row() * pitch;
#pragma unroll
    for (int i = 0; i < 4 * COUNT; i++)
        s[i / 4][i % 4] = 0;
#pragma unroll 2
    for (int d = 0; d < width; d += 4) {
        float4 x[4];

#pragma unroll
        for (int j = 0; j < 4; j++)
            x[j] = vector_at(tile + j * LANES * pitch + d);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float4 y = vector_at(own + i * ROWS * pitch + d);

#pragma unroll
            for (int j = 0; j < 4; j++)
                s[i][j] = fmaf(y.x, x[j].x, fmaf(y.y, x[j].y, fmaf(y.z, x[j].z, fmaf(y.w, x[j].w, s[i][j]))));
        }
    }
}

/* weights [rows][TILE] = s, for all threads of each row. */
template <int COUNT>
static __device__ __forceinline__ void
share_weights(float *weights, const float (*s)[4])
{
#pragma unroll
    for (int i = 0; i < 4 * COUNT; i++)
        weights[(row_of_thread() + i / 4 * ROWS) * WEIGHT_PITCH + lane_of_row() + i % 4 * LANES] =
            s[i / 4][i % 4];
}

/* sum [COUNT][GROUPS][4] += the rows' weights times the tile. */
template <int GROUPS, int COUNT>
static __device__ __forceinline__ void
add_weighted(float (*sum)[GROUPS][4], const float *weights, const float *tile)
{
    weights += row_of_thread() * WEIGHT_PITCH;
    tile += lane_of_row() * 4;
#pragma unroll 1
    for (int row = 0; row < TILE; row += 4) {
        float w[COUNT][4];

#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            float4 four = vector_at(weights + i * ROWS * WEIGHT_PITCH + row);

            w[i][0] = four.x;
            w[i][1] = four.y;
            w[i][2] = four.z;
            w[i][3] = four.w;
        }
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++) {
            float4 x = vector_at(tile + (row + k / GROUPS) * PITCH(GROUPS) + k % GROUPS * 32);

#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                float *s = sum[i][k % GROUPS];

                s[0] = fmaf(w[i][k / GROUPS], x.x, s[0]);
                s[1] = fmaf(w[i][k / GROUPS], x.y, s[1]);
                s[2] = fmaf(w[i][k / GROUPS], x.z, s[2]);
                s[3] = fmaf(w[i][k / GROUPS], x.w, s[3]);
            }
        }
    }
}

/* Writes the thread's sums, rows from `first` on of a unit, times factors. */
template <typename T, int GROUPS, int COUNT>
static __device__ __forceinline__ void
store_sums(T *unit, int64_t stride, int first, const d2c_attention *a, const float (*sum)[GROUPS][4],
           const float *factor)
{
#pragma unroll
    for (int i = 0; i < COUNT; i++)
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++) {
            int row = first + row_of_thread() + i * ROWS, column = k / 4 * 32 + lane_of_row() * 4 + k % 4;

            if (row < a->tokens && column < a->width)
                d2c_put(unit + row * stride + column, sum[i][k / 4][k % 4] * factor[i]);
        }
}

/* The bias of a pair of rows; NULL: none. */
static __device__ __forceinline__ float
bias_of(const float *bias, const d2c_attention *a, int query, int key)
{
    if (bias == NULL || query >= a->tokens || key >= a->tokens)
        return 0;
    return bias[query * a->bias_stride[2] + key * a->bias_stride[3]];
}

/* ---- forward ------------------------------------------------------------------------------------------------------- */

/* Queries of a thread; the sums of wide heads leave no room for four. */
#define QUERIES(groups) ((groups) > 4 ? 2 : 4)

template <int GROUPS> struct general_queries {
    float sum[QUERIES(GROUPS)][GROUPS][4]; /* exponentials times values */
    float total[QUERIES(GROUPS)];          /* this thread's part of the sum of exponentials */
    float top[QUERIES(GROUPS)];            /* the largest score so far */
};

/* Shared memory. */
template <int GROUPS> struct general_forward_memory {
    float queries[QUERIES(GROUPS) * ROWS * PITCH(GROUPS)];
    float keys[TILE * PITCH(GROUPS)], values[TILE * PITCH(GROUPS)];
    float weights[QUERIES(GROUPS) * ROWS * WEIGHT_PITCH];
};

/* Scores become exponentials less the new largest score, and the sums are brought to that base. */
template <int GROUPS>
static __device__ __forceinline__ void
exponentials(struct general_queries<GROUPS> *own, float (*s)[4], const d2c_attention *a, const float *bias,
             int first, int tile)
{
#pragma unroll
    for (int i = 0; i < QUERIES(GROUPS); i++) {
        float top = own->top[i], fade;

#pragma unroll
        for (int j = 0; j < 4; j++) {
            int key = tile + lane_of_row() + j * LANES;

            s[i][j] = fmaf(s[i][j], a->scale, bias_of(bias, a, first + row_of_thread() + i * ROWS, key));
            if (key >= a->tokens)
                s[i][j] = -INFINITY;
            top = fmaxf(top, s[i][j]);
        }
        top = row_max(top);
        fade = expf(own->top[i] - top);
        own->top[i] = top;
        own->total[i] *= fade;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            s[i][j] = expf(s[i][j] - top);
            own->total[i] += s[i][j];
        }
#pragma unroll
        for (int k = 0; k < 4 * GROUPS; k++)
            own->sum[i][k / 4][k % 4] *= fade;
    }
}

template <int GROUPS>
static __device__ __forceinline__ void
begin(struct general_queries<GROUPS> *own)
{
#pragma unroll
    for (int i = 0; i < QUERIES(GROUPS); i++) {
        own->top[i] = -INFINITY;
        own->total[i] = 0;
#pragma unroll
        for (int j = 0; j < 4 * GROUPS; j++)
            own->sum[i][j / 4][j % 4] = 0;
    }
}

/* Divides by the sums of exponentials, and writes lse where it is wanted. */
template <typename T, int GROUPS>
static __device__ __forceinline__ void
finish(const struct general_queries<GROUPS> *own, T *o, float *lse, int unit, int first,
       const d2c_attention *a)
{
    float factor[QUERIES(GROUPS)];

#pragma unroll
    for (int i = 0; i < QUERIES(GROUPS); i++) {
        int row = first + row_of_thread() + i * ROWS;
        float total = row_sum(own->total[i]);

        factor[i] = 1.0f / total;
        if (lse != NULL && row < a->tokens && lane_of_row() == 0)
            lse[(int64_t)unit * a->tokens + row] = own->top[i] + logf(total);
    }
    store_sums<T, GROUPS, QUERIES(GROUPS)>(o + d2c_unit_at(a, unit, 1, 0), d2c_row_stride(a, 1), first, a,
                                           own->sum, factor);
}

/* `blocks` blocks make up a unit. */
template <typename T, int GROUPS>
static __global__ void BOUNDS
general_forward(T *o, float *lse, const T *qkv, d2c_attention a, unsigned blocks)
{
    typedef struct general_forward_memory<GROUPS> block_memory;
    const int count = QUERIES(GROUPS), rows = count * ROWS;
    int unit = blockIdx.x / blocks, first = blockIdx.x % blocks * rows;
    d2c_side<T> keys = d2c_keys(qkv, &a, unit);
    const float *bias = a.bias == NULL ? NULL : d2c_unit_bias(&a, unit);
    struct general_queries<GROUPS> own;

    D2C_SHARED(block_memory, shared);

    load_rows<T, GROUPS, rows>(shared->queries, qkv + d2c_unit_at(&a, unit, 3, 0), d2c_row_stride(&a, 3),
                               first, &a);
    begin<GROUPS>(&own);
    for (int tile = 0; tile < a.tokens; tile += TILE) {
        float s[count][4];

        load_rows<T, GROUPS, TILE>(shared->keys, keys.first, keys.first_stride, tile, &a);
        load_rows<T, GROUPS, TILE>(shared->values, keys.second, keys.second_stride, tile, &a);
        __syncthreads();
        dots<GROUPS, count>(s, shared->queries, shared->keys, a.width);
        exponentials<GROUPS>(&own, s, &a, bias, first, tile);
        share_weights<count>(shared->weights, s);
        __syncwarp();
        add_weighted<GROUPS, count>(own.sum, shared->weights, shared->values);
        __syncthreads();
    }
    finish<T, GROUPS>(&own, o, lse, unit, first, &a);
}

/* ---- backward ------------------------------------------------------------------------------------------------------ */

#define OWNED 2 /* rows of a thread */

/* Shared memory: rows of queries with dout, or of keys with values; those that the block owns, and a tile. */
template <int GROUPS> struct general_backward_memory {
    float own_first[OWNED * ROWS * PITCH(GROUPS)], own_second[OWNED * ROWS * PITCH(GROUPS)];
    float tile_first[TILE * PITCH(GROUPS)], tile_second[TILE * PITCH(GROUPS)];
    float p[OWNED * ROWS * WEIGHT_PITCH], ds[OWNED * ROWS * WEIGHT_PITCH];
    float lse[TILE], delta[TILE]; /* of the tile's queries */
};

/* Sums up dout * o of the thread's queries and leaves it for the kernel that owns keys. */
template <typename T, int GROUPS>
static __device__ __forceinline__ void
find_delta(float *own_delta, float *delta, const float *dout, const T *o, int first, const d2c_attention *a)
{
    int64_t stride = d2c_row_stride(a, 1);

#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        int at = row_of_thread() + i * ROWS, row = first + at;
        float sum = 0;

        for (int column = lane_of_row(); row < a->tokens && column < a->width; column += LANES)
            sum = fmaf(dout[at * PITCH(GROUPS) + column], d2c_get(o + row * stride + column), sum);
        own_delta[i] = row_sum(sum);
        if (row < a->tokens && lane_of_row() == 0)
            delta[row] = own_delta[i];
    }
}

/* Copies rows of one side from `first` on. */
template <typename T, int GROUPS, int COUNT>
static __device__ __forceinline__ void
load_side(float *to_first, float *to_second, const d2c_side<T> *side, int first, const d2c_attention *a)
{
    load_rows<T, GROUPS, COUNT>(to_first, side->first, side->first_stride, first, a);
    load_rows<T, GROUPS, COUNT>(to_second, side->second, side->second_stride, first, a);
}

/* What a block knows of the rows that it weighs. */
typedef struct weighing {
    const float *bias;
    const float *tile_lse, *tile_delta;     /* of the tile's rows, where they are queries */
    float own_lse[OWNED], own_delta[OWNED]; /* of the owned rows, where they are */
    int first, tile;                        /* row of the first of each */
} weighing;

/* Turns s into P and ds, products of dout and values, into dS. */
template <bool KEYS>
static __device__ __forceinline__ void
find_weights(float (*s)[4], float (*ds)[4], const weighing *w, const d2c_attention *a)
{
#pragma unroll
    for (int i = 0; i < OWNED; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int at = lane_of_row() + j * LANES, mine = w->first + row_of_thread() + i * ROWS,
                other = w->tile + at;
            float lse = KEYS ? w->tile_lse[at] : w->own_lse[i];
            float delta = KEYS ? w->tile_delta[at] : w->own_delta[i];
            float b = bias_of(w->bias, a, KEYS ? other : mine, KEYS ? mine : other);

            s[i][j] = expf(fmaf(s[i][j], a->scale, b - lse));
            if (!KEYS && other >= a->tokens)
                s[i][j] = 0; /* the exponential of a key that is not there may be infinite */
            ds[i][j] = s[i][j] * (ds[i][j] - delta);
        }
}

/* lse and delta of a tile's queries; beyond the tokens they are 0, and so, as their dout is, is all that they add. */
static __device__ __forceinline__ void
load_statistics(float *to_lse, float *to_delta, const float *lse, const float *delta, int tile, int tokens)
{
    int i = threadIdx.x;

    if (i < TILE) {
        to_lse[i] = tile + i < tokens ? lse[tile + i] : 0;
        to_delta[i] = tile + i < tokens ? delta[tile + i] : 0;
    }
}

/* What passes over the owned rows adds up to: dS, or its transpose, times first rows; P's transpose times dout. */
template <int GROUPS> struct general_sums {
    float first[OWNED][GROUPS][4], second[OWNED][GROUPS][4];
};

/* Adds what the tile in shared memory gives. */
template <int GROUPS, bool KEYS>
static __device__ __forceinline__ void
add_tile(struct general_sums<GROUPS> *sum, struct general_backward_memory<GROUPS> *shared, const weighing *w,
         const d2c_attention *a)
{
    float s[OWNED][4], ds[OWNED][4];

    dots<GROUPS, OWNED>(s, shared->own_first, shared->tile_first, a->width);
    dots<GROUPS, OWNED>(ds, shared->own_second, shared->tile_second, a->width);
    find_weights<KEYS>(s, ds, w, a);
    share_weights<OWNED>(shared->ds, ds);
    if (KEYS)
        share_weights<OWNED>(shared->p, s);
    __syncwarp();
    add_weighted<GROUPS, OWNED>(sum->first, shared->ds, shared->tile_first);
    if (KEYS)
        add_weighted<GROUPS, OWNED>(sum->second, shared->p, shared->tile_second);
}

/* Writes the sums: dQ, or dK and dV. */
template <typename T, int GROUPS, bool KEYS>
static __device__ __forceinline__ void
store_gradients(T *dqkv, const struct general_sums<GROUPS> *sum, int unit, int first, const d2c_attention *a)
{
    int64_t stride = d2c_row_stride(a, 3);
    float scale[OWNED], one[OWNED];

#pragma unroll
    for (int i = 0; i < OWNED; i++) {
        scale[i] = a->scale;
        one[i] = 1;
    }
    store_sums<T, GROUPS, OWNED>(dqkv + d2c_unit_at(a, unit, 3, KEYS ? 1 : 0), stride, first, a, sum->first,
                                 scale);
    if (KEYS)
        store_sums<T, GROUPS, OWNED>(dqkv + d2c_unit_at(a, unit, 3, 2), stride, first, a, sum->second, one);
}

/* KEYS: the block owns keys, else queries.  `blocks` of them make up a unit. */
template <typename T, int GROUPS, bool KEYS>
static __global__ void BOUNDS
general_backward(T *dqkv, float *delta, const T *dout, const T *o, const float *lse, const T *qkv,
                 d2c_attention a, unsigned blocks)
{
    typedef struct general_backward_memory<GROUPS> block_memory;
    const int rows = OWNED * ROWS;
    int unit = blockIdx.x / blocks, first = blockIdx.x % blocks * rows;
    d2c_side<T> queries = d2c_queries(qkv, dout, &a, unit), keys = d2c_keys(qkv, &a, unit);
    struct general_sums<GROUPS> sum = {};
    weighing w = {};

    D2C_SHARED(block_memory, shared);

    lse += (int64_t)unit * a.tokens;
    delta += (int64_t)unit * a.tokens;
    w.bias = a.bias == NULL ? NULL : d2c_unit_bias(&a, unit);
    w.tile_lse = shared->lse;
    w.tile_delta = shared->delta;
    w.first = first;
    load_side<T, GROUPS, rows>(shared->own_first, shared->own_second, KEYS ? &keys : &queries, first, &a);
    if (!KEYS) {
        __syncthreads();
        find_delta<T, GROUPS>(w.own_delta, delta, shared->own_second, o + d2c_unit_at(&a, unit, 1, 0), first,
                              &a);
        for (int i = 0; i < OWNED; i++)
            if (first + row_of_thread() + i * ROWS < a.tokens)
                w.own_lse[i] = lse[first + row_of_thread() + i * ROWS];
    }
    for (w.tile = 0; w.tile < a.tokens; w.tile += TILE) {
        load_side<T, GROUPS, TILE>(shared->tile_first, shared->tile_second, KEYS ? &queries : &keys, w.tile,
                                   &a);
        if (KEYS)
            load_statistics(shared->lse, shared->delta, lse, delta, w.tile, a.tokens);
        __syncthreads();
        add_tile<GROUPS, KEYS>(&sum, shared, &w, &a);
        __syncthreads();
    }
    store_gradients<T, GROUPS, KEYS>(dqkv, &sum, unit, first, &a);
}

/* ---- host side ----------------------------------------------------------------------------------------------------- */

template <typename T, int GROUPS>
static d2c_status
launch_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    size_t bytes = sizeof(struct general_forward_memory<GROUPS>);
    unsigned blocks = d2c_blocks(a->tokens, QUERIES(GROUPS) * ROWS);

    D2C_TRY(d2c_attention_reserve(cuda, general_forward<T, GROUPS>, bytes));
    return D2C_LAUNCH(cuda, (general_forward<T, GROUPS>), a->units * blocks, THREADS, bytes, (T *)data->o,
                      data->lse, (const T *)data->qkv, *a, blocks);
}

template <typename T, int GROUPS, bool KEYS>
static d2c_status
launch_backward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    size_t bytes = sizeof(struct general_backward_memory<GROUPS>);
    unsigned blocks = d2c_blocks(a->tokens, OWNED * ROWS);

    D2C_TRY(d2c_attention_reserve(cuda, general_backward<T, GROUPS, KEYS>, bytes));
    return D2C_LAUNCH(cuda, (general_backward<T, GROUPS, KEYS>), a->units * blocks, THREADS, bytes,
                      (T *)data->dqkv, data->delta, (const T *)data->dout, (const T *)data->o, data->lse,
                      (const T *)data->qkv, *a, blocks);
}

template <typename T, int GROUPS>
static d2c_status
launch_both(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    D2C_TRY((launch_backward<T, GROUPS, false>(cuda, a, data)));
    return launch_backward<T, GROUPS, true>(cuda, a, data);
}

/* Calls the launch for the fewest columns, in units of 32, that take the width.  There are fewer kernels of bf16, which
 * rarely comes here. */
#define BY_WIDTH(launch, dtype, cuda, a, data)                                                               \
    ((dtype) == D2C_BF16                                                                                     \
         ? ((a)->width <= 128 ? launch<d2c_b16, 4>(cuda, a, data) : launch<d2c_b16, 8>(cuda, a, data))       \
     : (a)->width <= 64  ? launch<float, 2>(cuda, a, data)                                                   \
     : (a)->width <= 96  ? launch<float, 3>(cuda, a, data)                                                   \
     : (a)->width <= 128 ? launch<float, 4>(cuda, a, data)                                                   \
                         : launch<float, 8>(cuda, a, data))

static d2c_status
check_width(d2c_cuda *cuda, int width)
{
    if (width <= D2C_ATTENTION_WIDEST)
        return D2C_OK;
    d2c_fail(&cuda->base.error, D2C_UNSUPPORTED, "training of attention with heads of width %d", width);
    d2c_detail(&cuda->base.error, "On a CUDA device a head that is trained is at most %d wide.",
               D2C_ATTENTION_WIDEST);
    return D2C_UNSUPPORTED;
}

d2c_status
d2c_attention_general_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data,
                              d2c_dtype dtype)
{
    return BY_WIDTH(launch_forward, dtype, cuda, a, data);
}

d2c_status
d2c_attention_general_backward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data,
                               d2c_dtype dtype)
{
    D2C_TRY(check_width(cuda, a->width));
    return BY_WIDTH(launch_both, dtype, cuda, a, data);
}
