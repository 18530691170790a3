/*
 * epilogue.cu: what comes after a product that cuBLASLt has no epilogue for.
 *
 * Bound by memory: an element is read once and written once or twice, a pack a thread; 4 bytes in bf16, 8 in f32.
 */
#include "activation.cuh"
#include "pack.cuh"
#include "product.h"

/* pre [N, C] = from [N, C], unless it is absent; y [N, C] = act(from). */
template <typename Y, typename P, typename F, int W>
static __global__ void
finish_kernel(Y *y, int64_t y_stride, P *pre, int64_t pre_stride, const F *from, int64_t from_stride,
              int64_t width, d2c_act act)
{
    int64_t row = d2c_row(), at = d2c_column(W);
    float value[W];

    if (at >= width)
        return;
    d2c_load<W>(value, from + row * from_stride + at);
    if (pre != NULL)
        d2c_store<W>(pre + row * pre_stride + at, value);
    d2c_act_values(value, act);
    d2c_store<W>(y + row * y_stride + at, value);
}

template <typename Y, typename P, typename F>
static d2c_status
finish(d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor from, d2c_act act)
{
    const int widest = D2C_PACK(sizeof(Y) + sizeof(P) + sizeof(F) > 6 ? 4 : 2);
    int wide = d2c_packs(y, widest) && d2c_packs(pre, widest) && d2c_packs(from, widest);
    d2c_row_grid grid = d2c_row_blocks(y.dim[0], y.dim[1], wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? finish_kernel<Y, P, F, widest> : finish_kernel<Y, P, F, 1>), grid.blocks,
                      grid.threads, 0, (Y *)y.data, y.stride[0], (P *)pre.data, pre.stride[0],
                      (const F *)from.data, from.stride[0], y.dim[1], act);
}

template <typename Y, typename P>
static d2c_status
finish_from(d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor from, d2c_act act)
{
    return from.dtype == D2C_BF16 ? finish<Y, P, d2c_b16>(cuda, y, pre, from, act)
                                  : finish<Y, P, float>(cuda, y, pre, from, act);
}

/* An absent pre goes with y's type. */
template <typename Y>
static d2c_status
finish_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor from, d2c_act act)
{
    d2c_dtype type = pre.data != NULL ? pre.dtype : y.dtype;

    return type == D2C_BF16 ? finish_from<Y, d2c_b16>(cuda, y, pre, from, act)
                            : finish_from<Y, float>(cuda, y, pre, from, act);
}

/* Dense rows are one long row. */
static int
is_dense(d2c_tensor t)
{
    return t.data == NULL || t.stride[0] == t.dim[1];
}

static d2c_tensor
join_rows(d2c_tensor t)
{
    t.dim[1] *= t.dim[0];
    t.dim[0] = 1;
    return t;
}

d2c_status
d2c_cuda_finish_rows(d2c_cuda *cuda, d2c_tensor y, d2c_tensor pre, d2c_tensor from, d2c_act act)
{
    if (is_dense(y) && is_dense(pre) && is_dense(from)) {
        y = join_rows(y);
        pre = join_rows(pre);
        from = join_rows(from);
    }
    return D2C_BY_TYPE(y.dtype, finish_to, cuda, y, pre, from, act);
}
