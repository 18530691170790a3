/* moments.c: sums of vectors and of their products (moments.h). */
#include "eval/moments.h"

#include <stdlib.h>
#include <string.h>

#define ROWS 64 /* of vectors that are added to a row of products while it is in the cache */

d2c_status
d2c_running_moments_start(d2c_running_moments *m, int width, d2c_error *err)
{
    size_t w = (size_t)width;

    memset(m, 0, sizeof *m);
    m->width = width;
    m->shift = calloc(w, sizeof *m->shift);
    m->sum = calloc(w, sizeof *m->sum);
    m->square = calloc(w * w, sizeof *m->square);
    m->block = malloc(ROWS * w * sizeof *m->block);
    if (m->shift != NULL && m->sum != NULL && m->square != NULL && m->block != NULL)
        return D2C_OK;
    d2c_running_moments_free(m);
    return d2c_fail(err, D2C_NO_MEMORY, "out of memory for moments of width %d", width);
}

void
d2c_running_moments_free(d2c_running_moments *m)
{
    free(m->shift);
    free(m->sum);
    free(m->square);
    free(m->block);
    memset(m, 0, sizeof *m);
}

/* Each row of products is one thread's, and takes the vectors in their order. */
static void
add_products(d2c_running_moments *m, int rows)
{
    int w = m->width, i;

#pragma omp parallel for schedule(dynamic, 16)
    for (i = 0; i < w; i++) {
        double *square = m->square + (size_t)i * (size_t)w;
        int row, j;

        for (row = 0; row < rows; row++) {
            const double *x = m->block + (size_t)row * (size_t)w;
            double own = x[i];

#pragma omp simd
            for (j = 0; j <= i; j++)
                square[j] += own * x[j];
        }
    }
}

void
d2c_running_moments_add(d2c_running_moments *m, const double *vector, int64_t count)
{
    int w = m->width, rows, i;

    for (i = 0; m->count == 0 && count > 0 && i < w; i++)
        m->shift[i] = vector[i];
    m->count += count;
    for (; count > 0; count -= rows, vector += (size_t)rows * (size_t)w) {
        rows = count < ROWS ? (int)count : ROWS;
        for (i = 0; i < rows * w; i++) {
            m->block[i] = vector[i] - m->shift[i % w];
            m->sum[i % w] += m->block[i];
        }
        add_products(m, rows);
    }
}

void
d2c_running_moments_finish(d2c_running_moments *m)
{
    double n = (double)m->count;
    size_t w = (size_t)m->width, i, j;

    for (i = 0; i < w; i++)
        for (j = 0; j <= i; j++)
            m->square[i * w + j] = m->square[j * w + i] =
                (m->square[i * w + j] - m->sum[i] * (m->sum[j] / n)) / (n - 1);
    for (i = 0; i < w; i++)
        m->sum[i] = m->shift[i] + m->sum[i] / n;
}
