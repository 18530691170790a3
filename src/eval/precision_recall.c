/*
 * precision_recall.c: balls around features by blocked matrix products.
 *
 * |a - b|^2 = |a|^2 + |b|^2 - 2 a.b in single precision finds the candidates; each is then computed in double.
 */
#include "eval/precision_recall.h"

#include <dnnl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define A_ROWS 512
#define B_ROWS 1024
#define NEAREST (D2C_NEIGHBOURS + 1) /* a vector is the nearest to itself */

typedef struct set {
    const float *x; /* [count, width] */
    int64_t count;
    int width;
    double *norm;    /* [count]: |x|^2 */
    double *nearest; /* [count, NEAREST]: smallest squared distances within the set, ascending */
    uint8_t *within; /* [count]: lies in a ball of the other set */
} set;

static void
free_set(set *s)
{
    free(s->norm);
    free(s->nearest);
    free(s->within);
}

static double
dot(const float *a, const float *b, int width)
{
    double sum = 0;
    int i;

    for (i = 0; i < width; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static d2c_status
make_set(set *s, const float *x, int64_t count, int width, d2c_error *err)
{
    int64_t i;

    *s = (set){.x = x, .count = count, .width = width};
    s->norm = malloc((size_t)count * sizeof *s->norm);
    s->nearest = malloc((size_t)count * NEAREST * sizeof *s->nearest);
    s->within = calloc((size_t)count, 1);
    if (s->norm == NULL || s->nearest == NULL || s->within == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for precision and recall");
    for (i = 0; i < count; i++)
        s->norm[i] = dot(x + (size_t)i * (size_t)width, x + (size_t)i * (size_t)width, width);
    for (i = 0; i < count * NEAREST; i++)
        s->nearest[i] = INFINITY;
    return D2C_OK;
}

/* A vector of one set and one of the other. */
typedef struct pair {
    set *a;
    const set *b;
    int64_t i, j;
} pair;

static double
exact_distance(const pair *p)
{
    const float *a = p->a->x + (size_t)p->i * (size_t)p->a->width;
    const float *b = p->b->x + (size_t)p->j * (size_t)p->a->width;
    double sum = 0;
    int k;

    for (k = 0; k < p->a->width; k++)
        sum += ((double)a[k] - b[k]) * ((double)a[k] - b[k]);
    return sum;
}

/* The least that the squared distance can be: a single-precision product is off by less than width * 2^-24 |a| |b|. */
static double
least_distance(const pair *p, float product)
{
    double a = p->a->norm[p->i], b = p->b->norm[p->j];

    return a + b - 2.0 * product - 2.1 * p->a->width * 0x1p-24 * sqrt(a * b);
}

static void
see_neighbour(const pair *p, float product)
{
    double *nearest = p->a->nearest + (size_t)p->i * NEAREST, distance;
    int at;

    if (least_distance(p, product) >= nearest[NEAREST - 1])
        return;
    distance = exact_distance(p);
    for (at = NEAREST - 1; at > 0 && nearest[at - 1] > distance; at--)
        nearest[at] = nearest[at - 1];
    if (distance < nearest[at])
        nearest[at] = distance;
}

static void
see_ball(const pair *p, float product)
{
    double radius = p->b->nearest[(size_t)p->j * NEAREST + NEAREST - 1];

    if (!p->a->within[p->i] && least_distance(p, product) <= radius)
        p->a->within[p->i] = exact_distance(p) <= radius;
}

/* Shows every vector of a with every one of b, in order; the rows of a are spread over the threads. */
static d2c_status
each_pair(set *a, const set *b, void (*see)(const pair *p, float product), float *product, d2c_error *err)
{
    size_t width = (size_t)a->width;
    int64_t first, start, i, j;

    for (first = 0; first < a->count; first += A_ROWS)
        for (start = 0; start < b->count; start += B_ROWS) {
            int64_t rows = a->count - first < A_ROWS ? a->count - first : A_ROWS;
            int64_t columns = b->count - start < B_ROWS ? b->count - start : B_ROWS;

            if (dnnl_sgemm('N', 'T', rows, columns, (int64_t)width, 1.0f, a->x + (size_t)first * width,
                           (int64_t)width, b->x + (size_t)start * width, (int64_t)width, 0.0f, product,
                           B_ROWS) != dnnl_success)
                return d2c_fail(err, D2C_INTERNAL, "a matrix product failed");
#pragma omp parallel for private(j)
            for (i = 0; i < rows; i++)
                for (j = 0; j < columns; j++)
                    see(&(pair){a, b, first + i, start + j}, product[i * B_ROWS + j]);
        }
    return D2C_OK;
}

static double
share_within(const set *s)
{
    int64_t count = 0, i;

    for (i = 0; i < s->count; i++)
        count += s->within[i];
    return (double)count / (double)s->count;
}

static d2c_status
compare_sets(set *real, set *samples, d2c_error *err)
{
    float *product = malloc((size_t)A_ROWS * B_ROWS * sizeof *product);
    d2c_status status;

    if (product == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for precision and recall");
    status = each_pair(real, real, see_neighbour, product, err);
    if (status == D2C_OK)
        status = each_pair(samples, samples, see_neighbour, product, err);
    if (status == D2C_OK)
        status = each_pair(samples, real, see_ball, product, err);
    if (status == D2C_OK)
        status = each_pair(real, samples, see_ball, product, err);
    free(product);
    return status;
}

d2c_status
d2c_precision_recall(double *precision, double *recall, const float *real, int64_t real_count,
                     const float *samples, int64_t sample_count, int width, d2c_error *err)
{
    set r = {0}, s = {0};
    d2c_status status;

    *precision = *recall = NAN;
    if (real_count < NEAREST || sample_count < NEAREST)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "precision and recall need at least %d images of each set",
                        NEAREST);
    status = make_set(&r, real, real_count, width, err);
    if (status == D2C_OK)
        status = make_set(&s, samples, sample_count, width, err);
    if (status == D2C_OK)
        status = compare_sets(&r, &s, err);
    if (status == D2C_OK) {
        *precision = share_within(&s);
        *recall = share_within(&r);
    }
    free_set(&r);
    free_set(&s);
    return status;
}
