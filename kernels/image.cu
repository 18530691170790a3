/*
 * image.cu: images, channels last, made larger and smaller.
 *
 * Bound by memory: a pack of channels is read once, from the cache where windows overlap, and written once or four times.
 */
#include "divide.cuh"
#include "pack.cuh"

/* ---- larger ---------------------------------------------------------------------------------------------------------- */

/* y [B, 2H, 2W, C] = x [B, H, W, C]; a row of the grid is one of the B * H, n = W * C elements long. */
template <typename T, int W>
static __global__ void
upsample_kernel(T *y, const T *x, int64_t n, d2c_divisor by_channels)
{
    int64_t row = d2c_row(), at = d2c_column(W);
    uint32_t channel, column;
    d2c_pack<T, W> pack;

    if (at >= n)
        return;
    column = d2c_divide((uint32_t)at, by_channels, &channel);
    pack = d2c_read<W>(x + row * n + at);
    y += row * 4 * n + (int64_t)column * 2 * by_channels.by + channel;
    d2c_write(y, pack);
    d2c_write(y + by_channels.by, pack);
    d2c_write(y + 2 * n, pack);
    d2c_write(y + 2 * n + by_channels.by, pack);
}

template <typename T>
static d2c_status
upsample(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x)
{
    constexpr int widest = D2C_PACK(sizeof(T));
    int wide = d2c_packs(y, widest) && d2c_packs(x, widest);
    int64_t n = x.dim[2] * x.dim[3];
    d2c_row_grid grid = d2c_row_blocks(x.dim[0] * x.dim[1], n, wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? upsample_kernel<T, widest> : upsample_kernel<T, 1>), grid.blocks,
                      grid.threads, 0, (T *)y.data, (const T *)x.data, n, d2c_make_divisor(x.dim[3]));
}

d2c_status
d2c_cuda_upsample_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    D2C_TRY(d2c_check_divisible(cuda, x.dim[2] * x.dim[3]));
    return D2C_BY_TYPE(y.dtype, upsample, cuda, y, x);
}

/* ---- smaller --------------------------------------------------------------------------------------------------------- */

/* x [B, H, W, C], and y's rows of n = Q * C elements, P to an image. */
typedef struct pooling {
    d2c_window window;
    d2c_pool_kind kind;
    int height, width, channels;
    int64_t down, n;
    d2c_divisor by_channels;
} pooling;

/* value = the larger of both, or the sum; a NaN stays. */
template <int W>
static __device__ __forceinline__ void
join(float (&value)[W], const float (&other)[W], d2c_pool_kind kind)
{
#pragma unroll
    for (int i = 0; i < W; i++)
        if (kind == D2C_POOL_MEAN)
            value[i] += other[i];
        else if (other[i] > value[i] || other[i] != other[i])
            value[i] = other[i];
}

/* Every window has an element within x, for its padding is less than its size. */
template <typename T, int W>
static __global__ void
pool_kernel(T *y, const T *x, pooling p)
{
    int64_t row = d2c_row(), at = d2c_column(W), image = row / p.down;
    uint32_t channel, column;
    float value[W], other[W];
    int top, left, count = 0;

    if (at >= p.n)
        return;
    column = d2c_divide((uint32_t)at, p.by_channels, &channel);
    top = (int)(row % p.down) * p.window.stride - p.window.top;
    left = (int)column * p.window.stride - p.window.left;
    x += image * p.height * p.width * p.channels + channel;
#pragma unroll
    for (int i = 0; i < W; i++)
        value[i] = p.kind == D2C_POOL_MEAN ? 0.0f : -INFINITY;
    for (int r = max(top, 0); r < min(top + p.window.height, p.height); r++)
        for (int c = max(left, 0); c < min(left + p.window.width, p.width); c++) {
            d2c_load(other, x + ((int64_t)r * p.width + c) * p.channels);
            join(value, other, p.kind);
            count++;
        }
#pragma unroll
    for (int i = 0; i < W; i++)
        if (p.kind == D2C_POOL_MEAN)
            value[i] /= (float)count;
    d2c_store(y + row * p.n + at, value);
}

template <typename T>
static d2c_status
pool(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, const pooling &p)
{
    constexpr int widest = D2C_PACK(sizeof(T));
    int wide = d2c_packs(y, widest) && d2c_packs(x, widest);
    d2c_row_grid grid = d2c_row_blocks(y.dim[0] * y.dim[1], p.n, wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? pool_kernel<T, widest> : pool_kernel<T, 1>), grid.blocks, grid.threads, 0,
                      (T *)y.data, (const T *)x.data, p);
}

d2c_status
d2c_cuda_pool_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window,
                      d2c_pool_kind kind)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    pooling p = {};

    p.window = *window;
    p.kind = kind;
    p.height = (int)x.dim[1];
    p.width = (int)x.dim[2];
    p.channels = (int)x.dim[3];
    p.down = y.dim[1];
    p.n = y.dim[2] * y.dim[3];
    p.by_channels = d2c_make_divisor(x.dim[3]);
    D2C_TRY(d2c_check_divisible(cuda, p.n));
    D2C_TRY(d2c_check_divisible(cuda, x.dim[1] * x.dim[2]));
    return D2C_BY_TYPE(y.dtype, pool, cuda, y, x, p);
}
