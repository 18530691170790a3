/*
 * convolution.cu: convolutions of images, channels last, as products of unfolded rows.
 *
 * A row of a tile holds all that one pixel of y is the sum of: the window over x, in the order of the weights' rows.  A
 * tile is as many rows as the second-level cache keeps; the product (layer.h) reads it there.  Unfolding moves a pixel
 * of x as often as windows cover it, from the cache as well, but for the first time.  Tiles are cut so that every image of
 * a batch goes through products of the same sizes, and its bits do not depend on its place: a tile is some whole images,
 * of which the batch has a multiple, or a part of one.  Rows whose bytes are no multiple of 16 are continued with zeros, the weights' rows likewise, for
 * products of such rows are slow or not to be had.
 */
#include "divide.cuh"
#include "layer.h"
#include "pack.cuh"

/* Two thirds of an H100's second-level cache: 14336 rows of the nine windows over 128 channels in bf16. */
#define TILE_BYTES ((int64_t)32 << 20)

/* Rows of a tile are a multiple of this: whole tiles of the library's kernels. */
#define TILE_ROWS 256

/* ---- unfolding ------------------------------------------------------------------------------------------------------- */

/* Rows of the tile in which a thread has the same columns. */
#define ROWS 8

/* x [H, W, I] onwards, and where rows of the tile come from in it. */
typedef struct unfolding {
    int height, across, channels;
    int window_height, stride, top, left;
    uint32_t first; /* pixel of the first row in its image */
    uint32_t rows;  /* of the tile */
    uint32_t width; /* of the tile; the window's elements, then zeros */
    d2c_divisor by_channels, by_window, by_pixels, by_across; /* I, the window's width, P * Q, Q */
} unfolding;

/* A pixel of y in its image. */
typedef struct pixel {
    uint32_t image, row, column;
} pixel;

static __device__ __forceinline__ pixel
pixel_at(const unfolding &u, uint32_t row)
{
    uint32_t place;
    pixel at;

    at.image = d2c_divide(u.first + row, u.by_pixels, &place);
    at.row = d2c_divide(place, u.by_across, &at.column);
    return at;
}

static __device__ __forceinline__ void
next_pixel(const unfolding &u, pixel *at)
{
    if (++at->column < u.by_across.by)
        return;
    at->column = 0;
    if (++at->row * u.by_across.by < u.by_pixels.by)
        return;
    at->row = 0;
    at->image++;
}

/* The pack of x at the tap (i, j) of a pixel's window; zeros outside of x. */
template <typename T, int W>
static __device__ __forceinline__ d2c_pack<T, W>
window_pack(const T *x, const unfolding &u, const pixel &at, int i, int j, int channel)
{
    int row = (int)at.row * u.stride - u.top + i, column = (int)at.column * u.stride - u.left + j;
    d2c_pack<T, W> nothing = {};

    if (i >= u.window_height || row < 0 || row >= u.height || column < 0 || column >= u.across)
        return nothing;
    return d2c_read<W>(x + (((int64_t)at.image * u.height + row) * u.across + column) * u.channels + channel);
}

/* tile [rows, width]; W divides the channels. */
template <typename T, int W>
static __global__ void
unfold_kernel(T *tile, const T *x, unfolding u)
{
    uint32_t at = (uint32_t)d2c_column(W), row = (uint32_t)d2c_row() * ROWS, channel, j;
    uint32_t i = d2c_divide(d2c_divide(at, u.by_channels, &channel), u.by_window, &j);
    d2c_pack<T, W> pack[ROWS];
    pixel from;

    if (at >= u.width)
        return;
    from = pixel_at(u, row);
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (row + r < u.rows)
            pack[r] = window_pack<T, W>(x, u, from, (int)i, (int)j, (int)channel);
        next_pixel(u, &from);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
        if (row + r < u.rows)
            d2c_write(tile + (int64_t)(row + r) * u.width + at, pack[r]);
}

template <typename T>
static d2c_status
unfold(d2c_cuda *cuda, d2c_tensor tile, d2c_tensor x, const unfolding &u)
{
    constexpr int widest = D2C_PACK(sizeof(T));
    int wide = d2c_packs(x, widest);
    d2c_row_grid grid = d2c_row_blocks(d2c_blocks(u.rows, ROWS), u.width, wide ? widest : 1);

    return D2C_LAUNCH(cuda, (wide ? unfold_kernel<T, widest> : unfold_kernel<T, 1>), grid.blocks,
                      grid.threads, 0, (T *)tile.data, (const T *)x.data, u);
}

/* ---- tiles ----------------------------------------------------------------------------------------------------------- */

/* A call. */
typedef struct convolution {
    d2c_tensor x, y, flat; /* flat: y as [B * P * Q, O] */
    d2c_window window;
    int64_t width; /* of a tile */
    int64_t rows;  /* of a tile, or all of an image's tiles but the last */
    int64_t each;  /* rows that tiles start anew after: of the tile, or of an image */
} convolution;

/* How many images there are in a tile: as many as fit and divide the batch. */
static int64_t
images_of_tile(int64_t images, int64_t pixels, int64_t most)
{
    int64_t n = most / pixels < images ? most / pixels : images;

    while (images % n != 0)
        n--;
    return n;
}

static void
cut_tiles(convolution *c, int64_t row_bytes)
{
    int64_t pixels = c->y.dim[1] * c->y.dim[2], most = TILE_BYTES / row_bytes / TILE_ROWS * TILE_ROWS, tiles;

    if (most < TILE_ROWS)
        most = TILE_ROWS;
    tiles = (pixels + most - 1) / most;
    c->rows = tiles == 1 ? images_of_tile(c->y.dim[0], pixels, most) * pixels
                         : d2c_round_up((pixels + tiles - 1) / tiles, TILE_ROWS);
    c->each = tiles == 1 ? c->rows : pixels;
}

/* The layer of the first tile, with all scratch memory: the tile and, where they are continued, the weights. */
static d2c_status
open_layer(d2c_layer *l, d2c_cuda *cuda, const convolution *c, const d2c_weight *w, d2c_act act)
{
    int64_t size = (int64_t)d2c_dtype_size(c->x.dtype), tile = d2c_round_up(c->rows * c->width * size, 256);
    d2c_tensor weights;

    d2c_layer_forward(l, cuda, d2c_layer_rows(c->flat, 0, c->rows), d2c_absent(),
                      d2c_tensor2(NULL, c->x.dtype, c->rows, c->width), w, act);
    l->small = d2c_layer_is_small(d2c_tensor_count(c->flat));
    l->operand_bytes = tile;
    if (l->b.dim[1] != c->width)
        l->operand_bytes += d2c_round_up(l->b.dim[0] * c->width * size, 256);
    D2C_TRY(d2c_layer_scratch(l));
    l->a.data = l->operand;
    if (l->b.dim[1] == c->width)
        return D2C_OK;
    weights = d2c_rows(l->operand + tile, l->b.dtype, l->b.dim[0], l->b.dim[1], c->width);
    D2C_TRY(d2c_cuda_zero(&cuda->base, weights.data, (size_t)(l->b.dim[0] * c->width * size)));
    D2C_TRY(d2c_cuda_cast(&cuda->base, weights, l->b));
    l->b = weights;
    return D2C_OK;
}

/* Where the tile whose first row is `first` comes from; x becomes the images from the first row's on. */
static unfolding
describe(const convolution *c, d2c_tensor *x, int64_t first, int64_t rows)
{
    int64_t pixels = c->y.dim[1] * c->y.dim[2], image = first / pixels;
    unfolding u = {};

    *x = c->x;
    x->data = (char *)x->data + (size_t)(image * x->stride[0]) * d2c_dtype_size(x->dtype);
    u.height = (int)x->dim[1];
    u.across = (int)x->dim[2];
    u.channels = (int)x->dim[3];
    u.window_height = c->window.height;
    u.stride = c->window.stride;
    u.top = c->window.top;
    u.left = c->window.left;
    u.first = (uint32_t)(first % pixels);
    u.rows = (uint32_t)rows;
    u.width = (uint32_t)c->width;
    u.by_channels = d2c_make_divisor(x->dim[3]);
    u.by_window = d2c_make_divisor(c->window.width);
    u.by_pixels = d2c_make_divisor(pixels);
    u.by_across = d2c_make_divisor(c->y.dim[2]);
    return u;
}

static d2c_status
run_tile(d2c_layer *l, const convolution *c, int64_t first, int64_t rows)
{
    d2c_tensor x;
    unfolding u = describe(c, &x, first, rows);

    l->a.dim[0] = rows;
    l->out = d2c_layer_rows(c->flat, first, rows);
    D2C_TRY(D2C_BY_TYPE(x.dtype, unfold, l->cuda, l->a, x, u));
    return d2c_layer_run(l);
}

/* A tile after the other, in one piece of memory. */
static d2c_status
run_tiles(d2c_layer *l, const convolution *c)
{
    int64_t start, first;

    for (start = 0; start < c->flat.dim[0]; start += c->each)
        for (first = 0; first < c->each; first += c->rows) {
            int64_t left = c->each - first;

            D2C_TRY(run_tile(l, c, start + first, left < c->rows ? left : c->rows));
        }
    return D2C_OK;
}

/* ---- the op ---------------------------------------------------------------------------------------------------------- */

d2c_status
d2c_cuda_conv2d_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_weight *w,
                        const d2c_window *window, d2c_act act)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t size = (int64_t)d2c_dtype_size(x.dtype);
    convolution c = {};
    d2c_layer l;

    c.x = x;
    c.y = y;
    c.flat = d2c_tensor2(y.data, y.dtype, y.dim[0] * y.dim[1] * y.dim[2], y.dim[3]);
    c.window = *window;
    c.width = d2c_round_up(w->value.dim[1], 16 / size);
    cut_tiles(&c, c.width * size);
    D2C_TRY(d2c_check_divisible(cuda, x.dim[1] * x.dim[2]));
    D2C_TRY(d2c_check_divisible(cuda, y.dim[1] * y.dim[2] + c.rows));
    D2C_TRY(d2c_check_divisible(cuda, c.width));
    D2C_TRY(open_layer(&l, cuda, &c, w, act));
    return run_tiles(&l, &c);
}
