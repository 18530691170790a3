/*
 * random.cu: draws.
 *
 * The generator is the processor's own (philox.h), compiled so that no product is fused with a sum unless it says so:
 * the bits are the same.  A thread makes one block of four numbers: a few hundred instructions for 16 bytes written, so these
 * kernels are bound by computing.
 */
#include "base/philox.h"
#include "pack.cuh"

#define THREADS 256

/* What row b is drawn with. */
typedef struct draw {
    uint64_t seed;
    const int64_t *id, *epoch; /* [B] */
    int purpose;
} draw;

static __device__ __forceinline__ d2c_philox_block
row_block(const draw &d, int64_t b, int64_t block)
{
    return d2c_philox(d.seed, (uint32_t)block, (uint64_t)d.id[b], d2c_philox_stream(d.epoch[b], d.purpose));
}

/* y [n] = four [4], as much as there is room for.  Rows of odd width start anywhere. */
static __device__ __forceinline__ void
store_four(float *y, const float (&four)[4], int64_t left, int wide)
{
    if (wide)
        d2c_store<4>(y, four);
    else
#pragma unroll
        for (int i = 0; i < 4; i++)
            if (i < left)
                y[i] = four[i];
}

static __global__ void
normal_kernel(float *y, draw d, int64_t n, int wide)
{
    int64_t row = d2c_row(), at = d2c_column(4);
    float four[4];

    if (at >= n)
        return;
    d2c_philox_normal4(four, row_block(d, row, at / 4));
    store_four(y + row * n + at, four, n - at, wide);
}

static draw
make_draw(uint64_t seed, d2c_tensor id, d2c_tensor epoch, int purpose)
{
    draw d = {seed, (const int64_t *)id.data, (const int64_t *)epoch.data, purpose};

    return d;
}

d2c_status
d2c_cuda_draw_normal(d2c_backend *be, d2c_tensor y, uint64_t seed, d2c_tensor id, d2c_tensor epoch,
                     int purpose)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    d2c_row_grid grid = d2c_row_blocks(y.dim[0], y.dim[1], 4);

    return D2C_LAUNCH(cuda, normal_kernel, grid.blocks, grid.threads, 0, (float *)y.data,
                      make_draw(seed, id, epoch, purpose), y.dim[1], d2c_packs(y, 4));
}

/* kept [B] and keep [B], either may be NULL. */
static __global__ void
drop_kernel(int64_t *kept, float *keep, const int64_t *label, draw d, float probability, int64_t null_label,
            int64_t batch)
{
    int64_t b = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int drop;

    if (b >= batch)
        return;
    drop = d2c_philox_uniform(row_block(d, b, 0).w[0]) < probability;
    if (kept != NULL)
        kept[b] = drop ? null_label : label[b];
    if (keep != NULL)
        keep[b] = drop ? 0.0f : 1.0f;
}

d2c_status
d2c_cuda_drop_labels(d2c_backend *be, d2c_tensor kept, d2c_tensor keep, d2c_tensor label, uint64_t seed,
                     d2c_tensor id, d2c_tensor epoch, float probability, int64_t null_label)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    int64_t batch = label.dim[0];

    return D2C_LAUNCH(cuda, drop_kernel, d2c_blocks(batch, THREADS), THREADS, 0, (int64_t *)kept.data,
                      (float *)keep.data, (const int64_t *)label.data,
                      make_draw(seed, id, epoch, D2C_PURPOSE_LABEL_DROP), probability, null_label, batch);
}
