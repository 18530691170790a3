/*
 * embedding.cu: tables, time, patches and texts.
 *
 * All are bound by memory or, at their usual sizes, by the launch.
 */
#include "divide.cuh"
#include "pack.cuh"

#define THREADS 256

/* ---- tables -------------------------------------------------------------------------------------------------------- */

/* y [N, C] = table [V, C] at index [N].  A device cannot complain: an index outside the table gives a row of NaN, which
 * the loss then shows. */
template <int W>
static __global__ void
gather_kernel(float *y, const float *table, const int64_t *index, int64_t table_rows, int64_t width)
{
    int64_t row = d2c_row(), at = d2c_column(W), from = index[row];
    float value[W];

    if (at >= width)
        return;
    if (from >= 0 && from < table_rows) {
        d2c_load<W>(value, table + from * width + at);
    } else {
#pragma unroll
        for (int i = 0; i < W; i++)
            value[i] = nanf("");
    }
    d2c_store<W>(y + row * width + at, value);
}

d2c_status
d2c_cuda_gather(d2c_backend *be, d2c_tensor y, d2c_tensor table, d2c_tensor index)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int wide = d2c_packs(y, 4) && d2c_packs(table, 4);
    d2c_row_grid grid = d2c_row_blocks(y.dim[0], y.dim[1], wide ? 4 : 1);

    return D2C_LAUNCH(cuda, (wide ? gather_kernel<4> : gather_kernel<1>), grid.blocks, grid.threads, 0,
                      (float *)y.data, (const float *)table.data, (const int64_t *)index.data, table.dim[0],
                      y.dim[1]);
}

/* dtable [V, C] += dy [N, C] at index [N].  A warp owns a piece of one row of the table: it goes through the indices, 32
 * at a time, and adds the rows of dy that are its own, in order.  So dy is read once, and nothing is written twice.  An
 * index outside the table is no warp's: its row is left out. */
template <int W>
static __global__ void
scatter_kernel(float *dtable, const float *dy, const int64_t *index, int64_t count, int64_t table_rows,
               int64_t width, unsigned parts)
{
    int64_t warp = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / D2C_WARP;
    int lane = threadIdx.x % D2C_WARP, inside, changed = 0;
    int64_t row = warp / parts, at = (warp % parts * D2C_WARP + lane) * W;
    float sum[W] = {0.0f}, value[W];

    if (row >= table_rows)
        return;
    inside = at < width;
    dtable += row * width + at;
    for (int64_t first = 0; first < count; first += D2C_WARP) {
        int mine = first + lane < count && index[first + lane] == row;
        unsigned matches = __ballot_sync(D2C_ALL_LANES, mine);

        for (; inside && matches != 0; matches &= matches - 1) {
            int64_t from = first + __ffs((int)matches) - 1;

            if (!changed)
                d2c_load<W>(sum, dtable);
            changed = 1;
            d2c_load<W>(value, dy + from * width + at);
#pragma unroll
            for (int i = 0; i < W; i++)
                sum[i] += value[i];
        }
    }
    if (changed)
        d2c_store<W>(dtable, sum);
}

d2c_status
d2c_cuda_scatter_add(d2c_backend *be, d2c_tensor dtable, d2c_tensor dy, d2c_tensor index)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t rows = dtable.dim[0], width = dtable.dim[1];
    int wide = d2c_packs(dtable, 4) && d2c_packs(dy, 4);
    unsigned parts = d2c_blocks(width, D2C_WARP * (wide ? 4 : 1));

    return D2C_LAUNCH(cuda, (wide ? scatter_kernel<4> : scatter_kernel<1>),
                      d2c_blocks(rows * parts, THREADS / D2C_WARP), THREADS, 0, (float *)dtable.data,
                      (const float *)dy.data, (const int64_t *)index.data, dy.dim[0], rows, width, parts);
}

/* ---- time ---------------------------------------------------------------------------------------------------------- */

/* y [B, 2 half] = cos(t f), sin(t f).  In double: an angle near 1000 is right only to 6e-5 in f32. */
template <typename Y>
static __global__ void
timestep_kernel(Y *y, const float *t, int64_t batch, int64_t half)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, b = i / half, k = i % half;
    double angle;

    if (b >= batch)
        return;
    angle = t[b] * exp(-9.21034037197618273607 / (double)half * (double)k); /* log 10000 */
    d2c_put(y + b * 2 * half + k, (float)cos(angle));
    d2c_put(y + b * 2 * half + half + k, (float)sin(angle));
}

template <typename Y>
static d2c_status
timestep_embedding(d2c_cuda *cuda, d2c_tensor y, d2c_tensor t)
{
    int64_t batch = y.dim[0], half = y.dim[1] / 2;

    return D2C_LAUNCH(cuda, timestep_kernel<Y>, d2c_blocks(batch * half, THREADS), THREADS, 0, (Y *)y.data,
                      (const float *)t.data, batch, half);
}

d2c_status
d2c_cuda_timestep_embedding(d2c_backend *be, d2c_tensor y, d2c_tensor t)
{
    return D2C_BY_TYPE(y.dtype, timestep_embedding, d2c_cuda_enter(be), y, t);
}

/* ---- patches ------------------------------------------------------------------------------------------------------- */

/* A picture is [C, H, W], its tokens [T, patch * patch * C'] with C' >= C. */
typedef struct patches {
    uint32_t channels, token_channels, plane, token_size;
    int channels_last;
    d2c_divisor by_token, by_area, by_patch, by_token_channels, by_across, by_width, by_plane;
} patches;

/* Everything that a thread needs to know; x is the picture, y its tokens. */
static patches
make_patches(d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order)
{
    int64_t area = (int64_t)patch * patch;
    patches p = {};

    p.channels = (uint32_t)x.dim[1];
    p.token_channels = (uint32_t)(y.dim[2] / area);
    p.plane = (uint32_t)(x.dim[2] * x.dim[3]);
    p.token_size = (uint32_t)y.dim[2];
    p.channels_last = order == D2C_PATCH_CHANNEL_LAST;
    p.by_token = d2c_make_divisor(y.dim[2]);
    p.by_area = d2c_make_divisor(area);
    p.by_patch = d2c_make_divisor(patch);
    p.by_token_channels = d2c_make_divisor(p.token_channels);
    p.by_across = d2c_make_divisor(x.dim[3] / patch);
    p.by_width = d2c_make_divisor(x.dim[3]);
    p.by_plane = d2c_make_divisor(p.plane);
    return p;
}

/* Element `at` of a picture's tokens: where in the picture it comes from; its channel may be one that there is not. */
static __device__ __forceinline__ uint32_t
picture_position(const patches &p, uint32_t at, uint32_t *channel)
{
    uint32_t element, pixel, row, column, i, j;
    uint32_t token = d2c_divide(at, p.by_token, &element);

    if (p.channels_last)
        pixel = d2c_divide(element, p.by_token_channels, channel);
    else
        *channel = d2c_divide(element, p.by_area, &pixel);
    row = d2c_divide(token, p.by_across, &column);
    i = d2c_divide(pixel, p.by_patch, &j);
    row = row * p.by_patch.by + i;
    column = column * p.by_patch.by + j;
    return *channel * p.plane + row * p.by_width.by + column;
}

/* The inverse. */
static __device__ __forceinline__ uint32_t
token_position(const patches &p, uint32_t at)
{
    uint32_t place, row, column, i, j, pixel, token;
    uint32_t channel = d2c_divide(at, p.by_plane, &place);

    row = d2c_divide(place, p.by_width, &column);
    row = d2c_divide(row, p.by_patch, &i);
    column = d2c_divide(column, p.by_patch, &j);
    token = row * p.by_across.by + column;
    pixel = i * p.by_patch.by + j;
    return token * p.token_size +
           (p.channels_last ? pixel * p.token_channels + channel : channel * p.by_area.by + pixel);
}

/* A thread an element of y: writes are in order, reads come from a few rows of the picture. */
template <typename Y, typename X>
static __global__ void
patchify_kernel(Y *y, const X *x, patches p)
{
    int64_t picture = d2c_row(), at = d2c_column(1), size = (int64_t)p.plane * p.token_channels;
    uint32_t channel, from;

    if (at >= size)
        return;
    from = picture_position(p, (uint32_t)at, &channel);
    x += picture * p.plane * p.channels;
    d2c_put(y + picture * size + at, channel < p.channels ? d2c_get(x + from) : 0.0f);
}

/* A thread an element of x, likewise. */
template <typename X, typename Y>
static __global__ void
unpatchify_kernel(X *x, const Y *y, patches p)
{
    int64_t picture = d2c_row(), at = d2c_column(1), size = (int64_t)p.plane * p.channels;

    if (at >= size)
        return;
    y += picture * p.plane * p.token_channels;
    d2c_put(x + picture * size + at, d2c_get(y + token_position(p, (uint32_t)at)));
}

template <typename Y, typename X>
static d2c_status
patchify(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, patches p)
{
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], (int64_t)p.plane * p.token_channels, 1);

    return D2C_LAUNCH(cuda, (patchify_kernel<Y, X>), grid.blocks, grid.threads, 0, (Y *)y.data,
                      (const X *)x.data, p);
}

template <typename X, typename Y>
static d2c_status
unpatchify(d2c_cuda *cuda, d2c_tensor x, d2c_tensor y, patches p)
{
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], (int64_t)p.plane * p.channels, 1);

    return D2C_LAUNCH(cuda, (unpatchify_kernel<X, Y>), grid.blocks, grid.threads, 0, (X *)x.data,
                      (const Y *)y.data, p);
}

template <typename Y>
static d2c_status
patchify_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, patches p)
{
    return x.dtype == D2C_BF16 ? patchify<Y, d2c_b16>(cuda, y, x, p) : patchify<Y, float>(cuda, y, x, p);
}

template <typename X>
static d2c_status
unpatchify_to(d2c_cuda *cuda, d2c_tensor x, d2c_tensor y, patches p)
{
    return y.dtype == D2C_BF16 ? unpatchify<X, d2c_b16>(cuda, x, y, p) : unpatchify<X, float>(cuda, x, y, p);
}

d2c_status
d2c_cuda_patchify(d2c_backend *be, d2c_tensor y, d2c_tensor x, int patch, d2c_patch_order order)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    D2C_TRY(d2c_check_divisible(cuda, y.dim[1] * y.dim[2]));
    return D2C_BY_TYPE(y.dtype, patchify_to, cuda, y, x, make_patches(x, y, patch, order));
}

d2c_status
d2c_cuda_unpatchify(d2c_backend *be, d2c_tensor x, d2c_tensor y, int patch, d2c_patch_order order)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    D2C_TRY(d2c_check_divisible(cuda, y.dim[1] * y.dim[2]));
    return D2C_BY_TYPE(x.dtype, unpatchify_to, cuda, x, y, make_patches(x, y, patch, order));
}

/* ---- texts --------------------------------------------------------------------------------------------------------- */

/* y [B, W L] = x [B, L, W] * mask [B, L] turned over; a block's threads share the lines that they read. */
template <typename Y, typename X>
static __global__ void
unfold_kernel(Y *y, const X *x, const float *mask, int64_t width, d2c_divisor by_tokens)
{
    int64_t text = d2c_row(), at = d2c_column(1), size = width * by_tokens.by;
    uint32_t w, l;

    if (at >= size)
        return;
    w = d2c_divide((uint32_t)at, by_tokens, &l);
    d2c_put(y + text * size + at, d2c_get(x + text * size + l * width + w) * mask[text * by_tokens.by + l]);
}

template <typename Y, typename X>
static d2c_status
text_unfold(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    d2c_row_grid grid = d2c_row_blocks(x.dim[0], x.dim[1] * x.dim[2], 1);

    return D2C_LAUNCH(cuda, (unfold_kernel<Y, X>), grid.blocks, grid.threads, 0, (Y *)y.data,
                      (const X *)x.data, (const float *)mask.data, x.dim[2], d2c_make_divisor(x.dim[1]));
}

template <typename Y>
static d2c_status
text_unfold_to(d2c_cuda *cuda, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    return x.dtype == D2C_BF16 ? text_unfold<Y, d2c_b16>(cuda, y, x, mask)
                               : text_unfold<Y, float>(cuda, y, x, mask);
}

d2c_status
d2c_cuda_text_unfold(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor mask)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    D2C_TRY(d2c_check_divisible(cuda, x.dim[1] * x.dim[2]));
    return D2C_BY_TYPE(y.dtype, text_unfold_to, cuda, y, x, mask);
}
