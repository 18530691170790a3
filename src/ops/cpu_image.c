/* cpu_image.c: group norms, pools and doubling of images, channels last. */
#include "ops/cpu.h"

#include <math.h>
#include <string.h>

#include <omp.h>

/* Pixels whose sums are taken in f32; few enough that those are exact to 1e-6, many enough to divide the work. */
#define CHUNK 128

typedef struct group_norm {
    d2c_cpu *cpu;
    d2c_tensor y, x;
    const float *gamma, *beta;
    int groups;
    float eps;
    d2c_act act;
    int64_t chunks; /* of a picture */
    float *moments; /* [B, chunks, 3, C] */
    float *affine;  /* [B, 2, C]: mean and factor of each channel */
} group_norm;

/* Chunk number `at` of all: its first pixel, and how many it has. */
static int64_t
chunk_pixels(const group_norm *g, int64_t at, int64_t *first)
{
    int64_t pixels = g->x.dim[1], start = at % g->chunks * CHUNK;

    *first = at / g->chunks * pixels + start;
    return pixels - start < CHUNK ? pixels - start : CHUNK;
}

static void *
pixel_at(d2c_tensor t, int64_t pixel)
{
    return (char *)t.data + (size_t)(pixel * t.dim[2]) * d2c_dtype_size(t.dtype);
}

static void
sum_chunk(const group_norm *g, int64_t at)
{
    int64_t c = g->x.dim[2], first, rows = chunk_pixels(g, at, &first);
    float *m = g->moments + at * 3 * c;

    g->cpu->kernels->moments(m, m + c, m + 2 * c, pixel_at(g->x, first), g->x.dtype, rows, c);
}

static void
normalize_chunk(const group_norm *g, int64_t at)
{
    int64_t c = g->x.dim[2], first, rows = chunk_pixels(g, at, &first);
    const float *affine = g->affine + at / g->chunks * 2 * c;

    g->cpu->kernels->normalize(pixel_at(g->y, first), g->y.dtype, pixel_at(g->x, first), g->x.dtype, affine,
                               affine + c, g->beta, rows, c, g->act);
}

/* Sum over a group's channels and the picture's chunks of pixels * mean, or of the squared distances from `centre`. */
static double
add_moments(const group_norm *g, int64_t image, int64_t group, const double *centre)
{
    int64_t c = g->x.dim[2], width = c / g->groups, chunk, i, first;
    double total = 0;

    for (chunk = image * g->chunks; chunk < (image + 1) * g->chunks; chunk++) {
        const float *m = g->moments + chunk * 3 * c;
        double n = (double)chunk_pixels(g, chunk, &first);

        for (i = group * width; i < (group + 1) * width; i++) {
            double mean = m[i] + m[c + i] / n, away = centre == NULL ? 0 : mean - *centre;

            total += centre == NULL ? n * mean : m[2 * c + i] - m[c + i] * (m[c + i] / n) + n * away * away;
        }
    }
    return total;
}

/* The mean and factor of one group's channels. */
static void
finish_group(const group_norm *g, int64_t image, int64_t group)
{
    int64_t c = g->x.dim[2], width = c / g->groups, i;
    double n = (double)(g->x.dim[1] * width), mean = add_moments(g, image, group, NULL) / n;
    double inverse = 1 / sqrt(add_moments(g, image, group, &mean) / n + g->eps);
    float *affine = g->affine + image * 2 * c;

    for (i = group * width; i < (group + 1) * width; i++) {
        affine[i] = (float)mean;
        affine[c + i] = (float)(inverse * g->gamma[i]);
    }
}

d2c_status
d2c_cpu_groupnorm_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, d2c_tensor gamma, d2c_tensor beta,
                          int groups, float eps, d2c_act act)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    group_norm g = {.cpu = cpu,
                    .y = y,
                    .x = x,
                    .gamma = gamma.data,
                    .beta = beta.data,
                    .groups = groups,
                    .eps = eps,
                    .act = act};
    int64_t images = x.dim[0], c = x.dim[2], chunks = (x.dim[1] + CHUNK - 1) / CHUNK, at;
    int threads = d2c_cpu_threads(cpu, d2c_tensor_count(x));
    size_t sums = (size_t)(images * chunks * 3 * c), factors = (size_t)(images * 2 * c);
    void *scratch;

    D2C_TRY(d2c_cpu_scratch(cpu, &scratch, (sums + factors) * sizeof(float)));
    g.chunks = chunks;
    g.moments = scratch;
    g.affine = g.moments + sums;
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (at = 0; at < images * chunks; at++)
            sum_chunk(&g, at);
#pragma omp for schedule(static)
        for (at = 0; at < images * groups; at++)
            finish_group(&g, at / groups, at % groups);
#pragma omp for schedule(static)
        for (at = 0; at < images * chunks; at++)
            normalize_chunk(&g, at);
    }
    return D2C_OK;
}

/* Two rows of y from one of x. */
static void
double_row(char *to, const char *from, int64_t width, size_t pixel)
{
    int64_t column;
    char *next = to;

    for (column = 0; column < width; column++, next += 2 * pixel, from += pixel) {
        memcpy(next, from, pixel);
        memcpy(next + pixel, from, pixel);
    }
    memcpy(next, to, 2 * (size_t)width * pixel);
}

d2c_status
d2c_cpu_upsample_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = x.dim[0] * x.dim[1], width = x.dim[2], row;
    size_t pixel = (size_t)x.dim[3] * d2c_dtype_size(x.dtype), stride = (size_t)width * pixel;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, d2c_tensor_count(y))) schedule(static)
    for (row = 0; row < rows; row++)
        double_row((char *)y.data + (size_t)row * 4 * stride, (const char *)x.data + (size_t)row * stride,
                   width, pixel);
    return D2C_OK;
}

/* Where a window at `place` begins and ends within `size`. */
static void
clip_window(int64_t *first, int64_t *count, int64_t place, int stride, int before, int length, int64_t size)
{
    int64_t start = place * stride - before, end = start + length;

    *first = start < 0 ? 0 : start;
    *count = (end > size ? size : end) - *first;
}

static void
pool_row(const d2c_cpu *cpu, d2c_tensor y, d2c_tensor x, const d2c_window *w, d2c_pool_kind kind, int64_t row)
{
    int64_t image = row / y.dim[1], c = x.dim[3], top, rows, left, columns, column;
    size_t size = d2c_dtype_size(x.dtype);

    clip_window(&top, &rows, row % y.dim[1], w->stride, w->top, w->height, x.dim[1]);
    for (column = 0; column < y.dim[2]; column++) {
        int64_t from;

        clip_window(&left, &columns, column, w->stride, w->left, w->width, x.dim[2]);
        from = ((image * x.dim[1] + top) * x.dim[2] + left) * c;
        cpu->kernels->pool((char *)y.data + (size_t)((row * y.dim[2] + column) * c) * size,
                           (const char *)x.data + (size_t)from * size, x.dtype, rows, columns, x.dim[2] * c,
                           c, kind);
    }
}

d2c_status
d2c_cpu_pool_forward(d2c_backend *be, d2c_tensor y, d2c_tensor x, const d2c_window *window,
                     d2c_pool_kind kind)
{
    d2c_cpu *cpu = d2c_cpu_enter(be);
    int64_t rows = y.dim[0] * y.dim[1], row;

#pragma omp parallel for num_threads(d2c_cpu_threads(cpu, d2c_tensor_count(x))) schedule(static)
    for (row = 0; row < rows; row++)
        pool_row(cpu, y, x, window, kind, row);
    return D2C_OK;
}
