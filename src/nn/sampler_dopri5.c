/*
 * sampler_dopri5.c: the ODE by Dormand and Prince's method of order 5(4) as torchdiffeq solves it (rk_common.py, dopri5.py):
 * Hairer's first step, an error measured over the whole image, steps that may go beyond the end and an interpolation of
 * order 4 back to it.  Each image has steps of its own, as a batch of one has there, so it depends on no other.
 *
 * Time runs from 0, noise, to 1, data; for REPA, whose time runs down, time and velocity are turned round.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "nn/sampler_steps.h"

#define STAGES 7
#define SAFETY 0.9
#define MOST_GROWTH 10.0
#define MOST_SHRINKAGE 0.2
#define MOST_STEPS 100000

static const double node[STAGES] = {0, 1.0 / 5, 3.0 / 10, 4.0 / 5, 8.0 / 9, 1, 1};

static const double weight[STAGES][STAGES - 1] = {
    {0},
    {1.0 / 5},
    {3.0 / 40, 9.0 / 40},
    {44.0 / 45, -56.0 / 15, 32.0 / 9},
    {19372.0 / 6561, -25360.0 / 2187, 64448.0 / 6561, -212.0 / 729},
    {9017.0 / 3168, -355.0 / 33, 46732.0 / 5247, 49.0 / 176, -5103.0 / 18656},
    {35.0 / 384, 0, 500.0 / 1113, 125.0 / 192, -2187.0 / 6784, 11.0 / 84},
};

/* The difference between the solutions of order 5 and, by Shampine, of order 4. */
static const double error_weight[STAGES] = {35.0 / 384 - 1951.0 / 21600,
                                            0,
                                            500.0 / 1113 - 22642.0 / 50085,
                                            125.0 / 192 - 451.0 / 720,
                                            -2187.0 / 6784 + 12231.0 / 42400,
                                            11.0 / 84 - 649.0 / 6300,
                                            -1.0 / 60};

/* The solution at the middle of a step. */
static const double middle_weight[STAGES] = {
    6025192743.0 / 30085553152 / 2,     0,
    51252292925.0 / 65400821598 / 2,    -2691868925.0 / 45128329728 / 2,
    187940372067.0 / 1594534317056 / 2, -1776094331.0 / 19743644256 / 2,
    11237099.0 / 235043384 / 2};

/* One image's solution; all arrays [elements], host memory. */
typedef struct solving {
    const sampling *s;
    size_t count;
    float *y, *next, *k[STAGES];
    double t, dt;
} solving;

/* k = dy/dt at (t, y).  A stage beyond the end is guided as the end is. */
static d2c_status
derive(float *k, const solving *z, double t, const float *y)
{
    const sampling *s = z->s;
    int repa = s->sit->config.kind == D2C_SIT_KIND_REPA;
    size_t bytes = z->count * sizeof *y, i;
    float time[2];

    time[0] = time[1] = (float)(repa ? 1 - t : t);
    s->grid[0] = fmin(fmax(repa ? 1 - t : (double)time[0], 0), 1);
    TRY_OP(s, d2c_upload(s->be, s->t.data, time, (size_t)s->rows * sizeof *time));
    TRY_OP(s, d2c_upload(s->be, s->x.data, y, bytes));
    D2C_TRY(sampler_evaluate(s, s->v, s->x, 0, 0, 1));
    TRY_OP(s, d2c_download(s->be, k, s->v.data, bytes));
    for (i = 0; i < z->count && repa; i++)
        k[i] = -k[i];
    return D2C_OK;
}

static double
atol_of(const solving *z)
{
    return z->s->setting->atol > 0 ? z->s->setting->atol : D2C_SAMPLER_ATOL;
}

static double
rtol_of(const solving *z)
{
    return z->s->setting->rtol > 0 ? z->s->setting->rtol : D2C_SAMPLER_RTOL;
}

/* sum of w[j] k[j][i] over the first `stages` */
static double
combine(const solving *z, const double *w, int stages, size_t i)
{
    double sum = 0;
    int j;

    for (j = 0; j < stages; j++)
        sum += w[j] * (double)z->k[j][i];
    return sum;
}

/* Root mean square of (a - b)/scale, scale by the state; b may be NULL. */
static double
scaled_norm(const solving *z, const float *a, const float *b)
{
    double sum = 0;
    size_t i;

    for (i = 0; i < z->count; i++) {
        double x = ((double)a[i] - (b != NULL ? (double)b[i] : 0)) /
                   (atol_of(z) + rtol_of(z) * fabs((double)z->y[i]));

        sum += x * x;
    }
    return sqrt(sum / (double)z->count);
}

/* Hairer's first step (Solving Ordinary Differential Equations I, II.4), with k[0] at the start. */
static d2c_status
first_step(solving *z)
{
    double d0 = scaled_norm(z, z->y, NULL), d1 = scaled_norm(z, z->k[0], NULL), d2, h0, h1;
    size_t i;

    h0 = d0 < 1e-5 || d1 < 1e-5 ? 1e-6 : 0.01 * d0 / d1;
    for (i = 0; i < z->count; i++)
        z->next[i] = (float)((double)z->y[i] + h0 * (double)z->k[0][i]);
    D2C_TRY(derive(z->k[1], z, h0, z->next));
    d2 = scaled_norm(z, z->k[1], z->k[0]) / h0;
    h1 = d1 <= 1e-15 && d2 <= 1e-15 ? fmax(1e-6, h0 * 1e-3) : pow(0.01 / fmax(d1, d2), 1.0 / 5);
    z->dt = fmin(100 * h0, h1);
    return D2C_OK;
}

/* The stages of a step; the last state is the solution at its end, where the time is, as in torchdiffeq, the one before. */
static d2c_status
take_stages(solving *z)
{
    size_t i;
    int j;

    for (j = 1; j < STAGES; j++) {
        double t = z->t + node[j] * z->dt;

        for (i = 0; i < z->count; i++)
            z->next[i] = (float)((double)z->y[i] + z->dt * combine(z, weight[j], j, i));
        D2C_TRY(derive(z->k[j], z, node[j] == 1 ? (double)nextafterf((float)t, -1) : t, z->next));
    }
    return D2C_OK;
}

static double
error_ratio(const solving *z)
{
    double sum = 0;
    size_t i;

    for (i = 0; i < z->count; i++) {
        double size = fmax(fabs((double)z->y[i]), fabs((double)z->next[i]));
        double x = z->dt * combine(z, error_weight, STAGES, i) / (atol_of(z) + rtol_of(z) * size);

        sum += x * x;
    }
    return sqrt(sum / (double)z->count);
}

static double
next_step(double dt, double ratio)
{
    if (ratio == 0)
        return dt * MOST_GROWTH;
    return dt * fmin(MOST_GROWTH, fmax(SAFETY / pow(ratio, 0.2), ratio < 1 ? 1 : MOST_SHRINKAGE));
}

/* The solution at `end`, within the step just taken, into y. */
static void
interpolate(solving *z, double end)
{
    double x = (end - z->t) / z->dt, h = z->dt;
    size_t i;

    for (i = 0; i < z->count; i++) {
        double y0 = z->y[i], y1 = z->next[i], f0 = z->k[0][i], f1 = z->k[STAGES - 1][i];
        double middle = y0 + h * combine(z, middle_weight, STAGES, i);
        double a = 2 * h * (f1 - f0) - 8 * (y1 + y0) + 16 * middle;
        double b = h * (5 * f0 - 3 * f1) + 18 * y0 + 14 * y1 - 32 * middle;
        double c = h * (f1 - 4 * f0) - 11 * y0 - 5 * y1 + 16 * middle;

        z->y[i] = (float)(y0 + x * (h * f0 + x * (c + x * (b + x * a))));
    }
}

/* Tries a step; *done: the end lies within it, and y is the solution there. */
static d2c_status
try_step(solving *z, double end, int *done)
{
    double ratio;

    D2C_TRY(take_stages(z));
    ratio = error_ratio(z);
    if (!isfinite(ratio) || z->t + z->dt <= z->t)
        return d2c_fail(z->s->err, D2C_NOT_FINITE, "no step of the solver is small enough at time %g", z->t);
    if (ratio <= 1 && z->t + z->dt >= end) {
        interpolate(z, end);
        *done = 1;
        return D2C_OK;
    }
    if (ratio <= 1) {
        memcpy(z->y, z->next, z->count * sizeof *z->y);
        memcpy(z->k[0], z->k[STAGES - 1], z->count * sizeof *z->y);
        z->t += z->dt;
    }
    z->dt = next_step(z->dt, ratio);
    return D2C_OK;
}

static d2c_status
solve(solving *z, double end)
{
    int steps, done = 0;

    D2C_TRY(derive(z->k[0], z, 0, z->y));
    D2C_TRY(first_step(z));
    for (steps = 0; !done && steps < MOST_STEPS; steps++)
        D2C_TRY(try_step(z, end, &done));
    return done ? D2C_OK
                : d2c_fail(z->s->err, D2C_NOT_FINITE, "the solver took %d steps without an end", MOST_STEPS);
}

d2c_status
sampler_dopri5(const sampling *s, double end)
{
    solving z = {.s = s, .count = (size_t)s->elements};
    float *memory = calloc(z.count * (STAGES + 2), sizeof *memory);
    d2c_status status = D2C_OK;
    int j;

    if (memory == NULL)
        return d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    z.y = memory;
    z.next = memory + z.count;
    for (j = 0; j < STAGES; j++)
        z.k[j] = memory + (size_t)(j + 2) * z.count;
    if (d2c_download(s->be, z.y, s->x.data, z.count * sizeof *z.y) != D2C_OK)
        status = d2c_backend_error(s->be, s->err);
    if (status == D2C_OK)
        status = solve(&z, end);
    if (status == D2C_OK && d2c_upload(s->be, s->x.data, z.y, z.count * sizeof *z.y) != D2C_OK)
        status = d2c_backend_error(s->be, s->err);
    free(memory);
    return status;
}
