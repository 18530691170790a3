/*
 * attention_tile.cuh: tiles of rows for the attention kernels on tensor cores.
 *
 * STEPS is the width in steps of 16, the depth of one product; rows are padded with zeros to it in shared memory (72 to
 * 80), and are an odd number of 16 bytes apart.  A warp owns GROUPS groups of 16 rows.  Products with 16 rows of a tile
 * are two Cs a group, [GROUPS][2][4], columns 0..7 and 8..15.
 */
#ifndef D2C_KERNELS_ATTENTION_TILE_CUH
#define D2C_KERNELS_ATTENTION_TILE_CUH

#include "attention.cuh"
#include "tensor_core.cuh"

#define D2C_TILE_WARPS 4
#define D2C_TILE_THREADS (D2C_TILE_WARPS * D2C_WARP)
#define D2C_TILE_PITCH(steps) (16 * (steps) + 8)

/* Begins to copy 8 * LANES columns from `column` on of ROWS rows, LANES lanes to a row. */
template <int STEPS, int ROWS, int LANES>
static __device__ __forceinline__ void
d2c_tile_begin_columns(d2c_copies *copies, d2c_b16 *tile, const d2c_b16 *unit, int64_t stride, int first,
                       int column, const d2c_attention *a)
{
    const int step = D2C_TILE_THREADS / LANES;
    int row = threadIdx.x / LANES;
    const d2c_b16 *from;

    static_assert(ROWS % step == 0, "every thread copies as much as the others");
    column += threadIdx.x % LANES * 8;
    from = unit + (first + row) * stride + column;
    tile += row * D2C_TILE_PITCH(STEPS) + column;
#pragma unroll
    for (int i = 0; i < ROWS; i += step)
        d2c_copy_begin<16>(copies, tile + i * D2C_TILE_PITCH(STEPS), from + i * stride,
                           first + row + i < a->tokens && column < a->width);
}

/* Begins to copy ROWS rows from row `first` of a unit on; they are `stride` elements apart.  Eight lanes read 128 bytes
 * of a row, fewer what is left of it. */
template <int STEPS, int ROWS>
static __device__ __forceinline__ void
d2c_tile_begin(d2c_copies *copies, d2c_b16 *tile, const d2c_b16 *unit, int64_t stride, int first,
               const d2c_attention *a)
{
#pragma unroll
    for (int i = 0; i < STEPS / 4; i++)
        d2c_tile_begin_columns<STEPS, ROWS, 8>(copies, tile, unit, stride, first, 64 * i, a);
    if constexpr (STEPS % 4 >= 2)
        d2c_tile_begin_columns<STEPS, ROWS, 4>(copies, tile, unit, stride, first, STEPS / 4 * 64, a);
    if constexpr (STEPS % 2 == 1)
        d2c_tile_begin_columns<STEPS, ROWS, 2>(copies, tile, unit, stride, first, STEPS / 2 * 32, a);
}

/* Takes the warp's own rows into registers, as As. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
d2c_tile_take(uint32_t (*own)[STEPS][4], const d2c_b16 *rows)
{
#pragma unroll
    for (int group = 0; group < GROUPS; group++)
#pragma unroll
        for (int step = 0; step < STEPS; step++)
            d2c_load_a(own[group][step], rows + 16 * group * D2C_TILE_PITCH(STEPS) + 16 * step,
                       D2C_TILE_PITCH(STEPS));
}

/* s = the warp's own rows times 16 rows of a tile: dot products of rows with rows.  The own rows are in registers, or
 * are taken again from `own_rows`. */
template <int STEPS, int GROUPS, bool HELD>
static __device__ __forceinline__ void
d2c_tile_dots(float (*s)[2][4], const uint32_t (*own)[STEPS][4], const d2c_b16 *own_rows, const d2c_b16 *rows)
{
    const int pitch = D2C_TILE_PITCH(STEPS);

#pragma unroll
    for (int i = 0; i < 8 * GROUPS; i++)
        s[i / 8][i / 4 % 2][i % 4] = 0;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        uint32_t b[4], a[4];

        d2c_load_b_transposed(b, rows + 16 * step, pitch);
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            if constexpr (!HELD)
                d2c_load_a(a, own_rows + 16 * group * pitch + 16 * step, pitch);
            d2c_multiply(s[group][0], HELD ? own[group][step] : a, b[0], b[1]);
            d2c_multiply(s[group][1], HELD ? own[group][step] : a, b[2], b[3]);
        }
    }
}

/* sum += the weights p, rounded to bf16, times 16 rows of a tile. */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
d2c_tile_add(float (*sum)[2 * STEPS][4], const float (*p)[2][4], const d2c_b16 *rows)
{
    uint32_t a[GROUPS][4];

#pragma unroll
    for (int group = 0; group < GROUPS; group++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[group][i] = d2c_pair(p[group][i / 2][i % 2 * 2], p[group][i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        uint32_t b[4];

        d2c_load_b(b, rows + 16 * step, D2C_TILE_PITCH(STEPS));
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            d2c_multiply(sum[group][2 * step], a[group], b[0], b[1]);
            d2c_multiply(sum[group][2 * step + 1], a[group], b[2], b[3]);
        }
    }
}

/*
 * Writes the warp's sums, row by row times their factors, as rows from `first` on of a unit.  They pass through shared
 * memory of the warp's own, so that what goes to device memory are whole rows in pieces of 16 bytes.
 */
template <int STEPS, int GROUPS>
static __device__ __forceinline__ void
d2c_tile_store(d2c_b16 *unit, int64_t stride, int first, const d2c_attention *a, d2c_b16 *through,
               const float (*sum)[2 * STEPS][4], const float (*factor)[2])
{
    const int pitch = D2C_TILE_PITCH(STEPS), pieces = 2 * STEPS;
    int lane = threadIdx.x % D2C_WARP;

#pragma unroll
    for (int group = 0; group < GROUPS; group++)
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int n = 0; n < 2 * STEPS; n++)
                d2c_put_pair(through + (16 * group + 8 * half + lane / 4) * pitch + 8 * n + lane % 4 * 2,
                             d2c_pair(sum[group][n][2 * half] * factor[group][half],
                                      sum[group][n][2 * half + 1] * factor[group][half]));
    __syncwarp();
#pragma unroll
    for (int i = 0; i < GROUPS * STEPS; i++) {
        int piece = i * D2C_WARP + lane, row = piece / pieces, column = piece % pieces * 8;

        if (first + row < a->tokens && column < a->width)
            d2c_move_16(unit + (first + row) * stride + column, through + row * pitch + column);
    }
}

/* The sum of a value over the four lanes that share a row of a C. */
static __device__ __forceinline__ float
d2c_row_sum(float value)
{
    value += __shfl_xor_sync(D2C_ALL_LANES, value, 1);
    return value + __shfl_xor_sync(D2C_ALL_LANES, value, 2);
}

static __device__ __forceinline__ float
d2c_row_max(float value)
{
    value = fmaxf(value, __shfl_xor_sync(D2C_ALL_LANES, value, 1));
    return fmaxf(value, __shfl_xor_sync(D2C_ALL_LANES, value, 2));
}

/* Calls launch<STEPS, GROUPS, BIAS> for a call's width.  SiT's widths have kernels of their own for many tokens; a bias,
 * which SiT has not, has few. */
#define D2C_TILE_CHOOSE(launch, cuda, a, data)                                                               \
    ((a)->bias != NULL                                                                                       \
         ? ((a)->width <= 64 ? launch<4, 1, true>(cuda, a, data) : launch<8, 1, true>(cuda, a, data))        \
     : (a)->width <= 32 ? launch<2, 1, false>(cuda, a, data)                                                 \
     : (a)->width <= 48 ? launch<3, 1, false>(cuda, a, data)                                                 \
     : (a)->width <= 64                                                                                      \
         ? ((a)->tokens > 64 ? launch<4, 2, false>(cuda, a, data) : launch<4, 1, false>(cuda, a, data))      \
     : (a)->width <= 80                                                                                      \
         ? ((a)->tokens > 64 ? launch<5, 2, false>(cuda, a, data) : launch<5, 1, false>(cuda, a, data))      \
     : (a)->width <= 96 ? launch<6, 1, false>(cuda, a, data)                                                 \
                        : launch<8, 1, false>(cuda, a, data))

#endif
