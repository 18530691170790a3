/*
 * attention_backward.cu: the gradient of attention of bf16 on tensor cores (attention.cuh says when).
 *
 * Two kernels, in which every sum is one block's: the first owns queries and gives dQ, the second owns keys and gives dK
 * and dV.  Both pass over the other side's rows in tiles and compute again, in registers,
 *
 *     P = exp(scale Q K^T + bias - lse)     dS = P * (dO V^T - delta)     delta = the rows' sums of dO * O
 *     dQ = scale dS K                       dK = scale dS^T Q             dV = P^T dO
 *
 * with P and dS rounded to bf16 only as operands of the second products.  delta is the first kernel's by-product, which
 * the second reads.  The kernel that owns keys multiplies the transposes, K Q^T and V dO^T: so in both what has been a
 * product becomes the next one's operand where it is.
 *
 * These are seven products for the five that a single kernel needs; that one would have to add up dQ over blocks, in
 * memory and in a fixed order.  At 256 tokens of width 64 or 72 the kernels move 12 tensors [B, T, C], 24 B*T*C bytes,
 * through device memory, and take about as long for the products; with more tokens the products dominate.
 */
#include "attention_tile.cuh"

/* Rows of a tile; wide heads have smaller ones, for the sake of devices with little shared memory. */
#define TILE(steps) ((steps) > 5 ? 32 : 64)

/* Groups of 16 rows of a tile that are computed with at once. */
#define AT_ONCE(steps, groups) ((steps) > 6 ? 1 : 2 / (groups))

/* Rows that a block owns. */
#define ROWS(groups) (16 * (groups)*D2C_TILE_WARPS)

/* Owned rows that are not held in registers are loaded again for every product. */
#define HELD(steps) ((steps) <= 5)

/* A tile of the other side: queries with dout, or keys with values. */
template <int STEPS> struct side_tile {
    d2c_b16 first[TILE(STEPS) * D2C_TILE_PITCH(STEPS)], second[TILE(STEPS) * D2C_TILE_PITCH(STEPS)];
    float lse[TILE(STEPS)], delta[TILE(STEPS)]; /* of queries */
};

/* Shared memory: the rows that the block owns, and two tiles, of which one is computed with. */
template <int STEPS, int GROUPS> struct backward_memory {
    d2c_b16 first[ROWS(GROUPS) * D2C_TILE_PITCH(STEPS)], second[ROWS(GROUPS) * D2C_TILE_PITCH(STEPS)];
    struct side_tile<STEPS> tile[2];
};

/* What a warp keeps of the rows it owns. */
template <int STEPS, int GROUPS> struct owned {
    uint32_t first[GROUPS][STEPS][4], second[GROUPS][STEPS][4];
    float base[GROUPS][2], delta[GROUPS][2]; /* of queries; base is lse as a logarithm to base 2 */
    float sum_first[GROUPS][2 * STEPS][4];   /* dS, or its transpose, times the first of the other side */
    float sum_second[GROUPS][2 * STEPS][4];  /* of keys: the transpose of P times dout */
};

/* Takes the owned rows into registers where they are held; the sums start at 0. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
begin(struct owned<STEPS, GROUPS> *own, const d2c_b16 *first, const d2c_b16 *second)
{
    if (HELD(STEPS)) {
        d2c_tile_take<STEPS, GROUPS>(own->first, first);
        d2c_tile_take<STEPS, GROUPS>(own->second, second);
    }
#pragma unroll
    for (int i = 0; i < 8 * STEPS * GROUPS; i++)
        own->sum_first[i / (8 * STEPS)][i / 4 % (2 * STEPS)][i % 4] =
            own->sum_second[i / (8 * STEPS)][i / 4 % (2 * STEPS)][i % 4] = 0;
}

/* ---- queries' statistics ------------------------------------------------------------------------------------------- */

/* Sums up dout * o of the warp's queries, of whose dout the lane has pairs as in an A.  o is read as it lies: two
 * neighbouring pieces of 16 bytes make up a sector, and each is needed once. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
find_delta(struct owned<STEPS, GROUPS> *own, const d2c_b16 *dout_rows, const d2c_b16 *o, int query,
           const d2c_attention *a)
{
    const int pitch = D2C_TILE_PITCH(STEPS);
    int lane = threadIdx.x % D2C_WARP;
    int64_t stride = d2c_row_stride(a, 1);

#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        float *delta = own->delta[group];

        delta[0] = delta[1] = 0;
#pragma unroll
        for (int i = 0; i < 4 * STEPS; i++) {
            int row = query + 16 * group + i % 2 * 8 + lane / 4, column = i / 2 * 8 + lane % 4 * 2;
            uint32_t g = d2c_get_pair(dout_rows + (row - query) * pitch + column), y = 0;

            if (row < a->tokens && column < a->width)
                y = d2c_get_pair(o + row * stride + column);
            delta[i % 2] = fmaf(d2c_low(g), d2c_low(y), fmaf(d2c_high(g), d2c_high(y), delta[i % 2]));
        }
        delta[0] = d2c_row_sum(delta[0]);
        delta[1] = d2c_row_sum(delta[1]);
    }
}

/* Reads lse of the warp's queries; leaves delta, where the kernel that owns keys finds it. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
share_statistics(struct owned<STEPS, GROUPS> *own, float *delta, const float *lse, int query, int tokens)
{
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll
    for (int i = 0; i < 2 * GROUPS; i++) {
        int row = query + 8 * i + lane / 4;

        own->base[i / 2][i % 2] = row < tokens ? D2C_LOG2E * lse[row] : 0;
        if (row < tokens && lane % 4 == 0)
            delta[row] = own->delta[i / 2][i % 2];
    }
}

/* ---- scores and their gradients ------------------------------------------------------------------------------------ */

/* Bias of a pair of rows, as a logarithm to base 2. */
static __device__ __forceinline__ float
bias_of(const float *bias, const d2c_attention *a, int query, int key)
{
    if (query >= a->tokens || key >= a->tokens)
        return 0;
    return D2C_LOG2E * bias[query * a->bias_stride[2] + key * a->bias_stride[3]];
}

/*
 * Turns s, products of first rows, into P, and ds, products of second rows, into dS.  mine: the first owned row; first:
 * the first of 16 rows of the other side, whose lse and delta are given where they are queries.
 */
template <int STEPS, int GROUPS, bool KEYS, bool BIAS>
static __device__ __forceinline__ void
find_weights(const struct owned<STEPS, GROUPS> *own, float (*s)[2][4], float (*ds)[2][4],
             const d2c_attention *a, const float *bias, const float *other_lse, const float *other_delta,
             int mine, int first)
{
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll
    for (int i = 0; i < 4; i++) {
        int column = i / 2 * 8 + lane % 4 * 2 + i % 2;
        float base = KEYS ? D2C_LOG2E * other_lse[column] : 0, delta = KEYS ? other_delta[column] : 0;

#pragma unroll
        for (int j = 0; j < 2 * GROUPS; j++) {
            int row = mine + 8 * j + lane / 4, at = j % 2 * 2 + i % 2;
            float *score = &s[j / 2][i / 2][at], *gradient = &ds[j / 2][i / 2][at], b = 0, p;

            if (!KEYS) {
                base = own->base[j / 2][j % 2];
                delta = own->delta[j / 2][j % 2];
            }
            if (BIAS)
                b = KEYS ? bias_of(bias, a, first + column, row) : bias_of(bias, a, row, first + column);
            p = d2c_exp2(fmaf(*score, a->scale * D2C_LOG2E, b - base));
            if (!KEYS && first + column >= a->tokens)
                p = 0; /* the exponential of a key that is not there may be infinite */
            *score = p;
            *gradient = p * (*gradient - delta);
        }
    }
}

/* Adds what rows of a tile give to the sums: those from `row` on, which are the unit's from `first` on. */
template <int STEPS, int GROUPS, bool KEYS, bool BIAS>
static __device__ __forceinline__ void
add_rows(struct owned<STEPS, GROUPS> *own, const d2c_b16 *own_first, const d2c_b16 *own_second,
         const struct side_tile<STEPS> *tile, int row, const d2c_attention *a, const float *bias, int mine,
         int first)
{
    const int step = 16 * D2C_TILE_PITCH(STEPS), count = AT_ONCE(STEPS, GROUPS);
    const d2c_b16 *tile_first = tile->first + row * D2C_TILE_PITCH(STEPS);
    const d2c_b16 *tile_second = tile->second + row * D2C_TILE_PITCH(STEPS);
    float s[count][GROUPS][2][4], ds[count][GROUPS][2][4];

#pragma unroll
    for (int i = 0; i < count; i++) {
        d2c_tile_dots<STEPS, GROUPS, HELD(STEPS)>(s[i], own->first, own_first, tile_first + i * step);
        d2c_tile_dots<STEPS, GROUPS, HELD(STEPS)>(ds[i], own->second, own_second, tile_second + i * step);
    }
#pragma unroll
    for (int i = 0; i < count; i++)
        find_weights<STEPS, GROUPS, KEYS, BIAS>(own, s[i], ds[i], a, bias, tile->lse + row + 16 * i,
                                                tile->delta + row + 16 * i, mine, first + 16 * i);
#pragma unroll
    for (int i = 0; i < count; i++) {
        d2c_tile_add<STEPS, GROUPS>(own->sum_first, ds[i], tile_first + i * step);
        if (KEYS)
            d2c_tile_add<STEPS, GROUPS>(own->sum_second, s[i], tile_second + i * step);
    }
}

/* ---- kernels ------------------------------------------------------------------------------------------------------- */

/* Begins to copy COUNT rows of one side from `row` on. */
template <int STEPS, int COUNT>
static __device__ __forceinline__ void
begin_rows(d2c_copies *copies, d2c_b16 *first, d2c_b16 *second, const d2c_side<d2c_b16> *side, int row,
           const d2c_attention *a)
{
    d2c_tile_begin<STEPS, COUNT>(copies, first, side->first, side->first_stride, row, a);
    d2c_tile_begin<STEPS, COUNT>(copies, second, side->second, side->second_stride, row, a);
}

/* Begins to copy a tile from `row` on.  lse and delta of queries beyond the tokens are 0, and so, as their dout is, is
 * all that they add. */
template <int STEPS, bool KEYS>
static __device__ __forceinline__ void
begin_tile(d2c_copies *copies, struct side_tile<STEPS> *tile, const d2c_side<d2c_b16> *side, const float *lse,
           const float *delta, int row, const d2c_attention *a)
{
    const int rows = TILE(STEPS);
    int i = threadIdx.x;

    begin_rows<STEPS, rows>(copies, tile->first, tile->second, side, row, a);
    if (KEYS && i < rows) {
        d2c_copy_begin<4>(copies, tile->lse + i, lse + row + i, row + i < a->tokens);
        d2c_copy_begin<4>(copies, tile->delta + i, delta + row + i, row + i < a->tokens);
    }
}

/* Writes what the warp has summed up, dQ or dK and dV, by way of the rows that it owned. */
template <int STEPS, int GROUPS, bool KEYS>
static __device__ __forceinline__ void
store_sums(const struct owned<STEPS, GROUPS> *own, d2c_b16 *dqkv, d2c_b16 *own_first, d2c_b16 *own_second,
           int unit, int mine, const d2c_attention *a)
{
    int64_t stride = d2c_row_stride(a, 3);
    float scale[GROUPS][2], one[GROUPS][2];

#pragma unroll
    for (int i = 0; i < 2 * GROUPS; i++) {
        scale[i / 2][i % 2] = a->scale;
        one[i / 2][i % 2] = 1;
    }
    d2c_tile_store<STEPS, GROUPS>(dqkv + d2c_unit_at(a, unit, 3, KEYS ? 1 : 0), stride, mine, a, own_first,
                                  own->sum_first, scale);
    if (KEYS)
        d2c_tile_store<STEPS, GROUPS>(dqkv + d2c_unit_at(a, unit, 3, 2), stride, mine, a, own_second,
                                      own->sum_second, one);
}

/* Two blocks' registers fit on a multiprocessor. */
#define BOUNDS __launch_bounds__(D2C_TILE_THREADS, 2)

/* KEYS: the block owns keys, else queries.  `blocks` of them make up a unit. */
template <int STEPS, int GROUPS, bool KEYS, bool BIAS>
static __global__ void BOUNDS
attention_backward(d2c_b16 *dqkv, float *delta, const d2c_b16 *dout, const d2c_b16 *o, const float *lse,
                   const d2c_b16 *qkv, d2c_attention a, unsigned blocks)
{
    typedef struct backward_memory<STEPS, GROUPS> block_memory;
    const int rows = ROWS(GROUPS), size = TILE(STEPS), step = 16 * AT_ONCE(STEPS, GROUPS);
    int unit = blockIdx.x / blocks, first = blockIdx.x % blocks * rows, now = 0;
    int warp = threadIdx.x / D2C_WARP * 16 * GROUPS, mine = first + warp;
    d2c_side<d2c_b16> queries = d2c_queries(qkv, dout, &a, unit), keys = d2c_keys(qkv, &a, unit);
    const float *bias = BIAS ? d2c_unit_bias(&a, unit) : NULL;
    struct owned<STEPS, GROUPS> own;
    d2c_copies copies = {};

    D2C_SHARED(block_memory, shared);
    d2c_b16 *own_first = shared->first + warp * D2C_TILE_PITCH(STEPS);
    d2c_b16 *own_second = shared->second + warp * D2C_TILE_PITCH(STEPS);

    lse += (int64_t)unit * a.tokens;
    delta += (int64_t)unit * a.tokens;
    begin_rows<STEPS, rows>(&copies, shared->first, shared->second, KEYS ? &keys : &queries, first, &a);
    begin_tile<STEPS, KEYS>(&copies, &shared->tile[0], KEYS ? &queries : &keys, lse, delta, 0, &a);
    d2c_copy_wait(&copies);
    __syncthreads();
    begin<STEPS, GROUPS>(&own, own_first, own_second);
    if (!KEYS) {
        find_delta<STEPS, GROUPS>(&own, own_second, o + d2c_unit_at(&a, unit, 1, 0), mine, &a);
        share_statistics<STEPS, GROUPS>(&own, delta, lse, mine, a.tokens);
    }
    for (int tile = 0; tile < a.tokens; tile += size, now ^= 1) {
        if (tile + size < a.tokens)
            begin_tile<STEPS, KEYS>(&copies, &shared->tile[now ^ 1], KEYS ? &queries : &keys, lse, delta,
                                    tile + size, &a);
#pragma unroll 1
        for (int row = 0; row < size && tile + row < a.tokens; row += step)
            add_rows<STEPS, GROUPS, KEYS, BIAS>(&own, own_first, own_second, &shared->tile[now], row, &a,
                                                bias, mine, tile + row);
        d2c_copy_wait(&copies);
        __syncthreads();
    }
    store_sums<STEPS, GROUPS, KEYS>(&own, dqkv, own_first, own_second, unit, mine, &a);
}

/* ---- host side ----------------------------------------------------------------------------------------------------- */

template <int STEPS, int GROUPS, bool KEYS, bool BIAS>
static d2c_status
launch(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    size_t bytes = sizeof(struct backward_memory<STEPS, GROUPS>);
    unsigned blocks = d2c_blocks(a->tokens, ROWS(GROUPS));

    D2C_TRY(d2c_attention_reserve(cuda, attention_backward<STEPS, GROUPS, KEYS, BIAS>, bytes));
    return D2C_LAUNCH(cuda, (attention_backward<STEPS, GROUPS, KEYS, BIAS>), a->units * blocks,
                      D2C_TILE_THREADS, bytes, (d2c_b16 *)data->dqkv, data->delta,
                      (const d2c_b16 *)data->dout, (const d2c_b16 *)data->o, data->lse,
                      (const d2c_b16 *)data->qkv, *a, blocks);
}

/* Both kernels.  GROUPS is that of the one that owns queries; the other's sums leave no room for a second group. */
template <int STEPS, int GROUPS, bool BIAS>
static d2c_status
launch_both(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    D2C_TRY((launch<STEPS, GROUPS, false, BIAS>(cuda, a, data)));
    return launch<STEPS, 1, true, BIAS>(cuda, a, data);
}

d2c_status
d2c_attention_fast_backward(d2c_cuda *cuda, const d2c_attention *a, const d2c_attention_data *data)
{
    return D2C_TILE_CHOOSE(launch_both, cuda, a, data);
}
