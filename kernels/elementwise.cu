/*
 * elementwise.cu: activations, sums of arrays, conversions.
 *
 * All are bound by memory: every element is read once and written once, a pack a thread.  An output may be one of the
 * inputs, for a thread writes only what it has read.
 */
#include "activation.cuh"
#include "pack.cuh"

#define THREADS 256

/* ---- activations --------------------------------------------------------------------------------------------------- */

/* y [n] = act(x [n]): 4 bytes an element in bf16, 8 in f32. */
template <typename Y, typename X, int W>
static __global__ void
act_kernel(Y *y, const X *x, int64_t n, d2c_act act)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    float value[W];

    if (at >= n)
        return;
    d2c_load<W>(value, x + at);
    d2c_act_values(value, act);
    d2c_store<W>(y + at, value);
}

template <typename Y, typename X>
static d2c_status
act_forward(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    const int widest = D2C_PACK(sizeof(Y) > sizeof(X) ? sizeof(Y) : sizeof(X));
    int wide = d2c_packs(y, widest) && d2c_packs(x, widest);
    int64_t n = x.dim[0];

    return D2C_LAUNCH(cuda, (wide ? act_kernel<Y, X, widest> : act_kernel<Y, X, 1>),
                      d2c_blocks(n, THREADS * (wide ? widest : 1)), THREADS, 0, (Y *)y.data,
                      (const X *)x.data, n, act);
}

template <typename Y>
static d2c_status
act_forward_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    return x.dtype == D2C_BF16 ? act_forward<Y, d2c_b16>(cuda, y, x, act)
                               : act_forward<Y, float>(cuda, y, x, act);
}

d2c_status
d2c_cuda_act_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_act act)
{
    return D2C_BY_TYPE(y.dtype, act_forward_to, d2c_cuda_enter(be), y, x, act);
}

/* dx [n] = dy [n] * act'(x [n]): 6 bytes an element in bf16, 12 in f32. */
template <typename DX, typename DY, typename X, int W>
static __global__ void
act_slope_kernel(DX *dx, const DY *dy, const X *x, int64_t n, d2c_act act)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    float gradient[W], value[W];

    if (at >= n)
        return;
    d2c_load<W>(gradient, dy + at);
    d2c_load<W>(value, x + at);
    d2c_with_act(act, [&](auto known) {
#pragma unroll
        for (int i = 0; i < W; i++)
            gradient[i] *= d2c_act_slope(value[i], known.act);
    });
    d2c_store<W>(dx + at, gradient);
}

template <typename DX, typename DY, typename X>
static d2c_status
act_backward(d2c_cuda *cuda, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    const int widest = D2C_PACK(sizeof(DX) + sizeof(DY) + sizeof(X) > 6 ? 4 : 2);
    int wide = d2c_packs(dx, widest) && d2c_packs(dy, widest) && d2c_packs(x, widest);
    int64_t n = x.dim[0];

    return D2C_LAUNCH(cuda, (wide ? act_slope_kernel<DX, DY, X, widest> : act_slope_kernel<DX, DY, X, 1>),
                      d2c_blocks(n, THREADS * (wide ? widest : 1)), THREADS, 0, (DX *)dx.data,
                      (const DY *)dy.data, (const X *)x.data, n, act);
}

template <typename DX, typename DY>
static d2c_status
act_backward_by(d2c_cuda *cuda, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    return x.dtype == D2C_BF16 ? act_backward<DX, DY, d2c_b16>(cuda, dx, dy, x, act)
                               : act_backward<DX, DY, float>(cuda, dx, dy, x, act);
}

template <typename DX>
static d2c_status
act_backward_to(d2c_cuda *cuda, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    return dy.dtype == D2C_BF16 ? act_backward_by<DX, d2c_b16>(cuda, dx, dy, x, act)
                                : act_backward_by<DX, float>(cuda, dx, dy, x, act);
}

d2c_status
d2c_cuda_act_backward(d2c_backend *be, d2c_tensor dx, d2c_tensor dy, d2c_tensor x, d2c_act act)
{
    return D2C_BY_TYPE(dx.dtype, act_backward_to, d2c_cuda_enter(be), dx, dy, x, act);
}

/* y [N, C] = act(gate) * value, rows `stride` apart: 6 bytes an element in bf16, 12 in f32. */
template <typename Y, typename G, typename V, int W>
static __global__ void
glu_kernel(Y *y, const G *gate, int64_t gate_stride, const V *value, int64_t value_stride, int64_t width,
           d2c_act act)
{
    int64_t row = d2c_row(), at = d2c_column(W);
    float product[W], factor[W];

    if (at >= width)
        return;
    d2c_load<W>(product, gate + row * gate_stride + at);
    d2c_load<W>(factor, value + row * value_stride + at);
    d2c_act_values(product, act);
#pragma unroll
    for (int i = 0; i < W; i++)
        product[i] *= factor[i];
    d2c_store<W>(y + row * width + at, product);
}

template <typename Y, typename G, typename V>
static d2c_status
glu(d2c_cuda *cuda, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    const int widest = D2C_PACK(sizeof(Y) + sizeof(G) + sizeof(V) > 6 ? 4 : 2);
    int wide = d2c_packs(y, widest) && d2c_packs(gate, widest) && d2c_packs(value, widest);
    d2c_row_grid grid = d2c_row_blocks(y.dim[0], y.dim[1], wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? glu_kernel<Y, G, V, widest> : glu_kernel<Y, G, V, 1>), grid.blocks,
                      grid.threads, 0, (Y *)y.data, (const G *)gate.data, gate.stride[0],
                      (const V *)value.data, value.stride[0], y.dim[1], act);
}

template <typename Y, typename G>
static d2c_status
glu_of(d2c_cuda *cuda, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    return value.dtype == D2C_BF16 ? glu<Y, G, d2c_b16>(cuda, y, gate, value, act)
                                   : glu<Y, G, float>(cuda, y, gate, value, act);
}

template <typename Y>
static d2c_status
glu_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    return gate.dtype == D2C_BF16 ? glu_of<Y, d2c_b16>(cuda, y, gate, value, act)
                                  : glu_of<Y, float>(cuda, y, gate, value, act);
}

d2c_status
d2c_cuda_glu_forward(d2c_backend *be, d2c_tensor y, d2c_tensor gate, d2c_tensor value, d2c_act act)
{
    return D2C_BY_TYPE(y.dtype, glu_to, d2c_cuda_enter(be), y, gate, value, act);
}

/* ---- sums ---------------------------------------------------------------------------------------------------------- */

/* y [n] = a x [n] + b y [n]: 12 bytes an element, 8 where b is 0. */
template <int W>
static __global__ void
axpby_kernel(float *y, float a, const float *x, float b, int64_t n)
{
    int64_t at = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * W;
    float value[W], old[W] = {0.0f};

    if (at >= n)
        return;
    d2c_load<W>(value, x + at);
    if (b != 0.0f)
        d2c_load<W>(old, y + at);
#pragma unroll
    for (int i = 0; i < W; i++)
        value[i] = b != 0.0f ? fmaf(a, value[i], b * old[i]) : a * value[i];
    d2c_store<W>(y + at, value);
}

d2c_status
d2c_cuda_axpby(d2c_backend *be, d2c_tensor y, float a, d2c_tensor x, float b)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int wide = d2c_packs(y, 4) && d2c_packs(x, 4);
    int64_t n = x.dim[0];

    return D2C_LAUNCH(cuda, (wide ? axpby_kernel<4> : axpby_kernel<1>),
                      d2c_blocks(n, THREADS * (wide ? 4 : 1)), THREADS, 0, (float *)y.data, a,
                      (const float *)x.data, b, n);
}

/* x [B, n] += added [n]: 8 bytes an element, for `added` stays in the cache. */
template <int W>
static __global__ void
add_rows_kernel(float *x, const float *added, int64_t n)
{
    int64_t at = d2c_column(W);
    float value[W], more[W];

    if (at >= n)
        return;
    x += d2c_row() * n;
    d2c_load<W>(value, x + at);
    d2c_load<W>(more, added + at);
#pragma unroll
    for (int i = 0; i < W; i++)
        value[i] += more[i];
    d2c_store<W>(x + at, value);
}

d2c_status
d2c_cuda_add_rows(d2c_backend *be, d2c_tensor x, d2c_tensor rows)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t n = rows.dim[0] * rows.dim[1];
    int wide = d2c_packs(x, 4) && d2c_packs(rows, 4);
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], n, wide ? 4 : 1);

    return D2C_LAUNCH(cuda, (wide ? add_rows_kernel<4> : add_rows_kernel<1>), grid.blocks, grid.threads, 0,
                      (float *)x.data, (const float *)rows.data, n);
}

/* ---- conversions --------------------------------------------------------------------------------------------------- */

/* Rows of `width` elements, each with its own stride. */
template <typename Y, typename X, int W>
static __global__ void
cast_kernel(Y *y, int64_t y_stride, const X *x, int64_t x_stride, int64_t width)
{
    int64_t row = d2c_row(), at = d2c_column(W);
    float value[W];

    if (at >= width)
        return;
    d2c_load<W>(value, x + row * x_stride + at);
    d2c_store<W>(y + row * y_stride + at, value);
}

template <typename Y, typename X>
static d2c_status
cast(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x)
{
    const int widest = D2C_PACK(sizeof(Y) > sizeof(X) ? sizeof(Y) : sizeof(X));
    int wide = d2c_packs(y, widest) && d2c_packs(x, widest);
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], x.dim[1], wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? cast_kernel<Y, X, widest> : cast_kernel<Y, X, 1>), grid.blocks,
                      grid.threads, 0, (Y *)y.data, y.stride[0], (const X *)x.data, x.stride[0], x.dim[1]);
}

template <typename Y>
static d2c_status
cast_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x)
{
    if (x.dtype == D2C_F16)
        return cast<Y, d2c_h16>(cuda, y, x);
    return x.dtype == D2C_BF16 ? cast<Y, d2c_b16>(cuda, y, x) : cast<Y, float>(cuda, y, x);
}

/* Dense rows are one long row. */
static void
join_rows(d2c_tensor *y, d2c_tensor *x)
{
    if (x->stride[0] != x->dim[1] || y->stride[0] != y->dim[1])
        return;
    x->dim[1] = y->dim[1] = x->dim[0] * x->dim[1];
    x->dim[0] = y->dim[0] = 1;
}

d2c_status
d2c_cuda_cast(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    join_rows(&y, &x);
    return y.dtype == D2C_F16 ? cast_to<d2c_h16>(cuda, y, x) : D2C_BY_TYPE(y.dtype, cast_to, cuda, y, x);
}
