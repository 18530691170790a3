/*
 * groupnorm.cu: group norms of images, channels last, with the activation behind them.
 *
 * Bound by memory: x is read twice and y written once; an image of up to some 30 MB comes from the second-level cache
 * the second time.  A block works on a chunk of one image's pixels and a tile of channels, of which a thread has the
 * same W at every pixel that it reads:
 *
 *  - column_kernel leaves each channel's mean over the chunk, and the sum of squares around it: pixels are taken in
 *    fours, around whose own mean squares are summed, so that nothing cancels however far the mean is from 0.
 *  - group_kernel makes of these the mean and 1/deviation of each group.
 *  - normalise_kernel.
 *
 * How pixels are cut into chunks depends on the shape alone.
 */
#include "activation.cuh"
#include "pack.cuh"

#define THREADS 256
#define MOST_ACROSS 32 /* threads along the channels */
#define ROWS 4         /* pixels at a time */
#define CHUNK 1024     /* pixels of a chunk at most */

/* Mean and sum of squares around it, or mean and 1/deviation. */
typedef struct moments {
    float mean, square;
} moments;

/* Images of `pixels` rows of `channels`, cut into `chunks` of `each` rows and `tiles` of `across` times W channels. */
typedef struct cut {
    int64_t pixels;
    int channels, groups, width; /* width: channels of a group */
    int across;                  /* a power of two */
    unsigned each, chunks, tiles;
} cut;

/* What a thread of the first and last kernel works on. */
typedef struct place {
    int64_t image, chunk;     /* counted through all images */
    int64_t first, step, end; /* its pixels, through all images */
    int64_t pixels;           /* of the chunk */
    int lane, lanes, column;  /* column: the first of its W channels; there may be no such */
} place;

template <int W>
static __device__ __forceinline__ place
place_of(const cut &c)
{
    place p;
    int64_t stop;

    p.chunk = blockIdx.x;
    p.image = p.chunk / c.chunks;
    p.lane = (int)threadIdx.x / c.across;
    p.lanes = THREADS / c.across;
    p.column = ((int)blockIdx.y * c.across + (int)threadIdx.x % c.across) * W;
    p.first = p.image * c.pixels + (p.chunk - p.image * c.chunks) * c.each;
    stop = (p.image + 1) * c.pixels;
    p.end = p.first + c.each < stop ? p.first + c.each : stop;
    p.pixels = p.end - p.first;
    p.first += p.lane;
    p.step = p.lanes;
    return p;
}

/* ---- statistics -------------------------------------------------------------------------------------------------------- */

/* Adds R pixels, the thread's next ones, to its W channels' moments over `count` pixels. */
template <int R, int W, typename X>
static __device__ __forceinline__ void
add_pixels(moments (&own)[W], float *count, const X *x, int64_t stride)
{
    float v[R][W], share = R / (*count + R), weight = *count * share;

#pragma unroll
    for (int r = 0; r < R; r++)
        d2c_load(v[r], x + r * stride);
#pragma unroll
    for (int i = 0; i < W; i++) {
        float mean = 0, square = 0, off;

#pragma unroll
        for (int r = 0; r < R; r++)
            mean += v[r][i];
        mean *= 1.0f / R;
#pragma unroll
        for (int r = 0; r < R; r++)
            square = fmaf(v[r][i] - mean, v[r][i] - mean, square);
        off = mean - own[i].mean;
        own[i].mean = fmaf(off, share, own[i].mean);
        own[i].square += fmaf(off * weight, off, square);
    }
    *count += R;
}

/* The moments of a tile's channels, from those that each lane has. */
template <int W> struct lane_moments {
    moments own[THREADS * W]; /* [lanes][across * W] */
    float count[THREADS];     /* [lanes] */
};

template <int W>
static __device__ __forceinline__ moments
join_lanes(const lane_moments<W> *all, const place &p, int tile)
{
    moments joined = {0, 0};

    for (int lane = 0; lane < p.lanes; lane++)
        joined.mean = fmaf(all->count[lane], all->own[lane * tile + threadIdx.x].mean, joined.mean);
    joined.mean /= (float)p.pixels;
    for (int lane = 0; lane < p.lanes; lane++) {
        moments m = all->own[lane * tile + threadIdx.x];
        float off = m.mean - joined.mean;

        joined.square += fmaf(all->count[lane] * off, off, m.square);
    }
    return joined;
}

/* part [B * chunks, C] */
template <typename X, int W>
static __global__ void
__launch_bounds__(THREADS) column_kernel(moments *part, const X *x, cut c)
{
    __shared__ lane_moments<W> all;
    const place p = place_of<W>(c);
    const int tile = c.across * W, column = (int)blockIdx.y * tile + (int)threadIdx.x;
    moments own[W] = {};
    float count = 0;
    int64_t pixel = p.first;

    for (; p.column < c.channels && pixel + (ROWS - 1) * p.step < p.end; pixel += ROWS * p.step)
        add_pixels<ROWS>(own, &count, x + pixel * c.channels + p.column, p.step * c.channels);
    for (; p.column < c.channels && pixel < p.end; pixel += p.step)
        add_pixels<1>(own, &count, x + pixel * c.channels + p.column, 0);
#pragma unroll
    for (int i = 0; i < W; i++)
        all.own[threadIdx.x * W + i] = own[i];
    if (threadIdx.x % c.across == 0)
        all.count[p.lane] = count;
    __syncthreads();
    if ((int)threadIdx.x < tile && column < c.channels)
        part[p.chunk * c.channels + column] = join_lanes(&all, p, tile);
}

/* Pixels of chunk number k of an image. */
static __device__ __forceinline__ float
chunk_pixels(const cut &c, int64_t k)
{
    int64_t left = c.pixels - k * c.each;

    return (float)(left < c.each ? left : c.each);
}

/* stat [B, groups]: a block a group.  Sums of numbers that may be far from 0 are taken in double. */
static __global__ void
__launch_bounds__(THREADS) group_kernel(moments *stat, const moments *part, cut c, float eps)
{
    __shared__ double block_part[D2C_WARP];
    const int64_t image = blockIdx.x / c.groups, group = blockIdx.x % c.groups;
    const int64_t count = (int64_t)c.chunks * c.width;
    double mean = 0, square = 0, all = (double)c.pixels * c.width;

    part += image * c.chunks * c.channels + group * c.width;
    for (int64_t e = threadIdx.x; e < count; e += THREADS) {
        int64_t k = e / c.width;

        mean += (double)chunk_pixels(c, k) * part[k * c.channels + e % c.width].mean;
    }
    mean = d2c_block_sum(mean, block_part) / all;
    for (int64_t e = threadIdx.x; e < count; e += THREADS) {
        int64_t k = e / c.width;
        moments m = part[k * c.channels + e % c.width];

        square += m.square + chunk_pixels(c, k) * (m.mean - mean) * (m.mean - mean);
    }
    square = d2c_block_sum(square, block_part) / all;
    if (threadIdx.x == 0)
        stat[blockIdx.x] = {(float)mean, rsqrtf((float)square + eps)};
}

/* ---- normalising ------------------------------------------------------------------------------------------------------- */

/* What a thread's W channels are changed with. */
template <int W> struct change {
    float mean[W], factor[W], shift[W];
};

template <int W>
static __device__ __forceinline__ void
load_change(change<W> *to, const moments *stat, const float *gamma, const float *beta, const cut &c,
            int column)
{
    d2c_load(to->factor, gamma + column);
    d2c_load(to->shift, beta + column);
#pragma unroll
    for (int i = 0; i < W; i++) {
        moments m = stat[(column + i) / c.width];

        to->mean[i] = m.mean;
        to->factor[i] *= m.square;
    }
}

template <typename Y, int W>
static __device__ __forceinline__ void
store_changed(Y *y, float (&v)[W], const change<W> &by, d2c_act act)
{
#pragma unroll
    for (int i = 0; i < W; i++)
        v[i] = fmaf(v[i] - by.mean[i], by.factor[i], by.shift[i]);
    d2c_act_values(v, act);
    d2c_store(y, v);
}

template <typename Y, typename X, int W>
static __global__ void
__launch_bounds__(THREADS) normalise_kernel(Y *y, const X *x, const moments *stat, const float *gamma,
                                            const float *beta, cut c, d2c_act act)
{
    const place p = place_of<W>(c);
    change<W> by;

    if (p.column >= c.channels)
        return;
    load_change(&by, stat + p.image * c.groups, gamma, beta, c, p.column);
    for (int64_t pixel = p.first; pixel < p.end; pixel += ROWS * p.step) {
        float v[ROWS][W];

#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (pixel + r * p.step < p.end)
                d2c_load(v[r], x + (pixel + r * p.step) * c.channels + p.column);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
            if (pixel + r * p.step < p.end)
                store_changed(y + (pixel + r * p.step) * c.channels + p.column, v[r], by, act);
    }
}

/* ---- host side --------------------------------------------------------------------------------------------------------- */

/* Chunks that fill a device where there are enough pixels. */
static cut
make_cut(d2c_tensor x, int groups, int pack)
{
    int packs = (int)x.dim[2] / pack;
    cut c = {};

    c.pixels = x.dim[1];
    c.channels = (int)x.dim[2];
    c.groups = groups;
    c.width = c.channels / groups;
    for (c.across = 1; c.across < packs && c.across < MOST_ACROSS; c.across *= 2)
        ;
    c.tiles = d2c_blocks(packs, c.across);
    c.each = CHUNK;
    while (c.each > ROWS * THREADS / (unsigned)c.across && x.dim[0] * c.pixels / c.each * c.tiles < 512)
        c.each /= 2;
    c.chunks = d2c_blocks(c.pixels, c.each);
    return c;
}

typedef struct group_task {
    d2c_tensor y, x, gamma, beta;
    int groups;
    float eps;
    d2c_act act;
} group_task;

template <typename Y, typename X, int W>
static d2c_status
launch(d2c_cuda *cuda, const group_task &t)
{
    cut c = make_cut(t.x, t.groups, W);
    int64_t images = t.x.dim[0], parts = images * c.chunks * c.channels;
    dim3 grid((unsigned)(images * c.chunks), c.tiles);
    void *scratch;
    moments *part, *stat;

    D2C_TRY(d2c_cuda_scratch(cuda, &scratch, (size_t)(parts + images * t.groups) * sizeof(moments)));
    part = static_cast<moments *>(scratch);
    stat = part + parts;
    D2C_TRY(D2C_LAUNCH(cuda, (column_kernel<X, W>), grid, THREADS, 0, part, (const X *)t.x.data, c));
    D2C_TRY(D2C_LAUNCH(cuda, group_kernel, (unsigned)(images * t.groups), THREADS, 0, stat, part, c, t.eps));
    return D2C_LAUNCH(cuda, (normalise_kernel<Y, X, W>), grid, THREADS, 0, (Y *)t.y.data, (const X *)t.x.data,
                      stat, (const float *)t.gamma.data, (const float *)t.beta.data, c, t.act);
}

/* gamma and beta are read 16 bytes at a time, too. */
template <typename Y, typename X>
static d2c_status
groupnorm(d2c_cuda *cuda, const group_task &t)
{
    constexpr int widest = D2C_PACK(sizeof(Y) > sizeof(X) ? sizeof(Y) : sizeof(X));

    if (d2c_packs(t.y, widest) && d2c_packs(t.x, widest) && (uintptr_t)t.gamma.data % (4 * widest) == 0 &&
        (uintptr_t)t.beta.data % (4 * widest) == 0)
        return launch<Y, X, widest>(cuda, t);
    return launch<Y, X, 1>(cuda, t);
}

template <typename Y>
static d2c_status
groupnorm_to(d2c_cuda *cuda, const group_task &t)
{
    return t.x.dtype == D2C_BF16 ? groupnorm<Y, d2c_b16>(cuda, t) : groupnorm<Y, float>(cuda, t);
}

d2c_status
d2c_cuda_groupnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, d2c_tensor beta,
                           int groups, float eps, d2c_act act)
{
    group_task t = {y, x, gamma, beta, groups, eps, act};

    return D2C_BY_TYPE(y.dtype, groupnorm_to, d2c_cuda_enter(be), t);
}
