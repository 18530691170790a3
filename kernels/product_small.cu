/*
 * product_small.cu: the product that multiplies what cuBLASLt has no kernel for: bf16 matrices whose rows start at odd
 * elements.
 *
 * No such matrix is large (labels, odd patches), so it is written to be right and not to be fast: a block has a tile of
 * 32 x 32 results, and reads what they need through shared memory, 32 at a time of the sum.  A result is one thread's
 * sum, in order.
 */
#include "kernel.cuh"
#include "product.h"

#define TILE 32
#define THREADS_Y 8

/* Element (row, column) of a matrix lies at row * row_stride + column * column_stride. */
template <typename T> struct matrix {
    T *data;
    int64_t row_stride, column_stride;
};

/* tile [TILE][TILE] = the part of the matrix at row, column; 0 outside its rows x columns.  Threads side by side read
 * along a row as it lies in memory. */
template <typename T>
static __device__ __forceinline__ void
load_tile(float (*tile)[TILE + 1], matrix<const T> a, int64_t row, int64_t column, int64_t rows,
          int64_t columns)
{
    for (int i = threadIdx.y; i < TILE; i += THREADS_Y) {
        int down = a.column_stride == 1 ? i : (int)threadIdx.x;
        int across = a.column_stride == 1 ? (int)threadIdx.x : i;
        int inside = row + down < rows && column + across < columns;

        tile[down][across] =
            inside ? d2c_get(a.data + (row + down) * a.row_stride + (column + across) * a.column_stride)
                   : 0.0f;
    }
}

/* c [m, n] = a [m, k] b [k, n] + bias [n], or is added to. */
template <typename T, typename R>
static __global__ void
small_kernel(matrix<R> c, matrix<const T> a, matrix<const T> b, const R *bias, int64_t m, int64_t n,
             int64_t k, int accumulate)
{
    __shared__ float a_tile[TILE][TILE + 1], b_tile[TILE][TILE + 1];
    int64_t row = (int64_t)blockIdx.x * TILE, column = (int64_t)blockIdx.y * TILE;
    float sum[TILE / THREADS_Y] = {0.0f};

    for (int64_t at = 0; at < k; at += TILE) {
        load_tile(a_tile, a, row, at, m, k);
        load_tile(b_tile, b, at, column, k, n);
        __syncthreads();
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int r = 0; r < TILE / THREADS_Y; r++)
                sum[r] = fmaf(a_tile[threadIdx.y + r * THREADS_Y][i], b_tile[i][threadIdx.x], sum[r]);
        __syncthreads();
    }
    column += threadIdx.x;
#pragma unroll
    for (int r = 0; r < TILE / THREADS_Y; r++) {
        int64_t at = row + threadIdx.y + r * THREADS_Y;
        R *p = c.data + at * c.row_stride + column;

        if (at < m && column < n)
            d2c_put(p, sum[r] + (bias != NULL ? d2c_get(bias + column) : 0.0f) +
                           (accumulate ? d2c_get(p) : 0.0f));
    }
}

template <typename T>
static matrix<T>
matrix_at(T *data, int64_t stride, int turned)
{
    matrix<T> made = {data, turned ? 1 : stride, turned ? stride : 1};

    return made;
}

template <typename T, typename R>
static d2c_status
multiply(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at)
{
    dim3 grid(d2c_blocks(p->m, TILE), d2c_blocks(p->n, TILE)), block(TILE, THREADS_Y);

    return D2C_LAUNCH(cuda, (small_kernel<T, R>), grid, block, 0, matrix_at((R *)at->c, p->c_stride, 0),
                      matrix_at((const T *)at->a, p->a_stride, p->a_turned),
                      matrix_at((const T *)at->b, p->b_stride, p->b_turned),
                      p->has_bias ? (const R *)at->bias : NULL, p->m, p->n, p->k, p->accumulate);
}

template <typename R>
static d2c_status
multiply_into(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at)
{
    return p->operand_type == D2C_BF16 ? multiply<d2c_b16, R>(cuda, p, at) : multiply<float, R>(cuda, p, at);
}

d2c_status
d2c_cuda_matmul_small(d2c_cuda *cuda, const d2c_matmul *p, const d2c_matmul_data *at)
{
    return D2C_BY_TYPE(p->result_type, multiply_into, cuda, p, at);
}
