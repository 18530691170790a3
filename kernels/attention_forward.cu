/*
 * attention_forward.cu: attention of bf16 on tensor cores (attention.cuh says when).
 *
 * A block owns 64 or 128 queries and passes over the keys and values in tiles of 64, the next one on its way while one
 * is multiplied.  Softmax is taken on the way: a query's sums are those of exponentials less the largest score so far,
 * and are scaled down when a larger one comes.  Exponentials are rounded to bf16 only as operands of the second product;
 * their sum, by which the result is divided at the end, is not.
 *
 * At 256 tokens of width 64 or 72 a pass is bound by device memory: it reads qkv and writes o once, 8 B*T*C bytes; the
 * blocks of one unit follow one another, so that keys and values come from the second-level cache after the first.  With
 * more tokens it is bound by the tensor cores, which is why a warp then has two groups of queries: what it loads of the
 * keys from shared memory serves both, and shared memory keeps up.
 */
#include "attention_tile.cuh"

#define TILE 64

/* Groups of 16 keys whose scores are in registers at once. */
#define AT_ONCE(groups, bias) ((bias) ? 2 : 4 / (groups))

/* Queries that a block owns. */
#define ROWS(groups) (16 * (groups)*D2C_TILE_WARPS)

template <int STEPS> struct key_tile {
    d2c_b16 keys[TILE * D2C_TILE_PITCH(STEPS)], values[TILE * D2C_TILE_PITCH(STEPS)];
};

/* Shared memory: the queries, and two tiles of keys and values, of which one is computed with. */
template <int STEPS, int GROUPS> struct forward_memory {
    d2c_b16 queries[ROWS(GROUPS) * D2C_TILE_PITCH(STEPS)];
    struct key_tile<STEPS> tile[2];
};

/* What a warp keeps of its queries. */
template <int STEPS, int GROUPS> struct queries {
    uint32_t q[GROUPS][STEPS][4];
    float sum[GROUPS][2 * STEPS][4]; /* exponentials times values */
    float total[GROUPS][2];          /* this lane's part of the sum of exponentials */
    float top[GROUPS][2];            /* the largest score so far */
};

/* Scores of 16 keys from `first` on become logarithms to base 2, with the bias. */
template <int GROUPS>
static __device__ __forceinline__ void
add_bias(float (*s)[2][4], const d2c_attention *a, const float *bias, int query, int first)
{
    int lane = threadIdx.x % D2C_WARP;

    for (int group = 0; group < GROUPS; group++)
        for (int i = 0; i < 8; i++) {
            int row = query + 16 * group + i % 4 / 2 * 8 + lane / 4;
            int key = first + i / 4 * 8 + lane % 4 * 2 + i % 2;
            float b = 0;

            if (row < a->tokens && key < a->tokens)
                b = bias[row * a->bias_stride[2] + key * a->bias_stride[3]];
            s[group][i / 4][i % 4] = D2C_LOG2E * fmaf(s[group][i / 4][i % 4], a->scale, b);
        }
}

/* Scores of keys beyond the unit's tokens: such keys get no weight. */
template <int GROUPS>
static __device__ __forceinline__ void
hide_beyond(float (*s)[2][4], int first, int tokens)
{
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll
    for (int group = 0; group < GROUPS; group++)
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (first + i / 4 * 8 + lane % 4 * 2 + i % 2 >= tokens)
                s[group][i / 4][i % 4] = -INFINITY;
}

/*
 * Scores, which times log2_scale are logarithms to base 2, become exponentials less the new largest score, and the sums
 * are brought to that base.
 */
template <int STEPS, int GROUPS, int COUNT>
static __device__ __forceinline__ void
exponentials(struct queries<STEPS, GROUPS> *own, float (*s)[GROUPS][2][4], float log2_scale)
{
#pragma unroll
    for (int row = 0; row < 2 * GROUPS; row++) {
        int group = row / 2, half = row % 2;
        float top = own->top[group][half], fade, base, part = 0;

#pragma unroll
        for (int i = 0; i < 2 * COUNT; i++)
            top = fmaxf(top, fmaxf(s[i / 2][group][i % 2][2 * half], s[i / 2][group][i % 2][2 * half + 1]));
        top = d2c_row_max(top);
        base = top * log2_scale;
        fade = d2c_exp2(fmaf(own->top[group][half], log2_scale, -base));
#pragma unroll
        for (int i = 0; i < 4 * COUNT; i++) {
            float *e = &s[i / 4][group][i / 2 % 2][2 * half + i % 2];

            *e = d2c_exp2(fmaf(*e, log2_scale, -base));
            part += *e;
        }
        own->top[group][half] = top;
        own->total[group][half] = fmaf(own->total[group][half], fade, part);
#pragma unroll
        for (int n = 0; n < 2 * STEPS; n++) {
            own->sum[group][n][2 * half] *= fade;
            own->sum[group][n][2 * half + 1] *= fade;
        }
    }
}

/* Adds keys, from `first` on, and their values. */
template <int STEPS, int GROUPS, bool BIAS>
static __device__ __forceinline__ void
add_keys(struct queries<STEPS, GROUPS> *own, const d2c_b16 *keys, const d2c_b16 *values,
         const d2c_attention *a, const float *bias, float log2_scale, int query, int first)
{
    const int step = 16 * D2C_TILE_PITCH(STEPS), count = AT_ONCE(GROUPS, BIAS);
    float s[count][GROUPS][2][4];

#pragma unroll
    for (int i = 0; i < count; i++) {
        d2c_tile_dots<STEPS, GROUPS, true>(s[i], own->q, NULL, keys + i * step);
        if (BIAS)
            add_bias<GROUPS>(s[i], a, bias, query, first + 16 * i);
        if (first + 16 * i + 16 > a->tokens)
            hide_beyond<GROUPS>(s[i], first + 16 * i, a->tokens);
    }
    exponentials<STEPS, GROUPS, count>(own, s, log2_scale);
#pragma unroll
    for (int i = 0; i < count; i++)
        d2c_tile_add<STEPS, GROUPS>(own->sum, s[i], values + i * step);
}

/* Divides by the sums of exponentials, and writes lse where it is wanted. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
finish(struct queries<STEPS, GROUPS> *own, float (*factor)[2], float *lse, float log2_scale, int query,
       int tokens)
{
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll
    for (int row = 0; row < 2 * GROUPS; row++) {
        int group = row / 2, half = row % 2, at = query + 16 * group + 8 * half + lane / 4;
        float total = d2c_row_sum(own->total[group][half]);

        factor[group][half] = 1.0f / total;
        if (lse != NULL && lane % 4 == 0 && at < tokens)
            lse[at] = D2C_LN2 * fmaf(own->top[group][half], log2_scale, log2f(total));
    }
}

/* Begins to copy a tile of keys and values from `row` on. */
template <int STEPS>
static __device__ __forceinline__ void
begin_tile(d2c_copies *copies, struct key_tile<STEPS> *tile, const d2c_side<d2c_b16> *keys, int row,
           const d2c_attention *a)
{
    d2c_tile_begin<STEPS, TILE>(copies, tile->keys, keys->first, keys->first_stride, row, a);
    d2c_tile_begin<STEPS, TILE>(copies, tile->values, keys->second, keys->second_stride, row, a);
}

/* Takes the queries; there are no keys yet. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
begin(struct queries<STEPS, GROUPS> *own, const d2c_b16 *rows)
{
    d2c_tile_take<STEPS, GROUPS>(own->q, rows);
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        own->top[group][0] = own->top[group][1] = -INFINITY;
        own->total[group][0] = own->total[group][1] = 0;
#pragma unroll
        for (int i = 0; i < 8 * STEPS; i++)
            own->sum[group][i / 4][i % 4] = 0;
    }
}

/* How many blocks a multiprocessor should have room for: a bound on registers. */
#define BOUNDS __launch_bounds__(D2C_TILE_THREADS, BIAS || STEPS * GROUPS > 5 ? 2 : 3)

/* `blocks` blocks make up a unit. */
template <int STEPS, int GROUPS, bool BIAS>
static __global__ void BOUNDS
attention_forward(d2c_b16 *o, float *lse, const d2c_b16 *qkv, d2c_attention a, unsigned blocks)
{
    typedef struct forward_memory<STEPS, GROUPS> block_memory;
    const int pitch = D2C_TILE_PITCH(STEPS), step = 16 * AT_ONCE(GROUPS, BIAS);
    int unit = blockIdx.x / blocks, first = blockIdx.x % blocks * ROWS(GROUPS), now = 0;
    int warp = threadIdx.x / D2C_WARP * 16 * GROUPS, mine = first + warp;
    d2c_side<d2c_b16> keys = d2c_keys(qkv, &a, unit);
    const float *bias = BIAS ? d2c_unit_bias(&a, unit) : NULL;
    float log2_scale = BIAS ? 1.0f : a.scale * D2C_LOG2E, factor[GROUPS][2];
    struct queries<STEPS, GROUPS> own;
    d2c_copies copies = {};

    D2C_SHARED(block_memory, shared);

    d2c_tile_begin<STEPS, ROWS(GROUPS)>(&copies, shared->queries, qkv + d2c_unit_at(&a, unit, 3, 0),
                                        d2c_row_stride(&a, 3), first, &a);
    begin_tile<STEPS>(&copies, &shared->tile[0], &keys, 0, &a);
    d2c_copy_wait(&copies);
    __syncthreads();
    begin<STEPS, GROUPS>(&own, shared->queries + warp * pitch);
    for (int tile = 0; tile < a.tokens; tile += TILE, now ^= 1) {
        const struct key_tile<STEPS> *at = &shared->tile[now];

        if (tile + TILE < a.tokens)
            begin_tile<STEPS>(&copies, &shared->tile[now ^ 1], &keys, tile + TILE, &a);
#pragma unroll 1
        for (int key = 0; key < TILE && tile + key < a.tokens; key += step)
            add_keys<STEPS, GROUPS, BIAS>(&own, at->keys + key * pitch, at->values + key * pitch, &a, bias,
                                          log2_scale, mine, tile + key);
        d2c_copy_wait(&copies);
        __syncthreads();
    }
    finish<STEPS, GROUPS>(&own, factor, lse == NULL ? NULL : lse + (int64_t)unit * a.tokens, log2_scale, mine,
                          a.tokens);
    d2c_tile_store<STEPS, GROUPS>(o + d2c_unit_at(&a, unit, 1, 0), d2c_row_stride(&a, 1), mine, &a,
                                  shared->queries + warp * pitch, own.sum, factor);
}

/* ---- host side ----------------------------------------------------------------------------------------------------- */

template <int STEPS, int GROUPS, bool BIAS>
static d2c_status
launch(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    size_t bytes = sizeof(struct forward_memory<STEPS, GROUPS>);
    unsigned blocks = d2c_blocks(a->tokens, ROWS(GROUPS));

    D2C_TRY(d2c_attention_reserve(cuda, attention_forward<STEPS, GROUPS, BIAS>, bytes));
    return D2C_LAUNCH(cuda, (attention_forward<STEPS, GROUPS, BIAS>), a->units * blocks, D2C_TILE_THREADS,
                      bytes, (d2c_b16 *)data->o, data->lse, (const d2c_b16 *)data->qkv, *a, blocks);
}

d2c_status
d2c_attention_fast_forward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    return D2C_TILE_CHOOSE(launch, cuda, a, data);
}
