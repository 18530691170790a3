/* sampler_velocity.c: sampling by velocity, an ODE or SDE: SiT, from 0 to 1, and REPA, from 1 to 0 (sampler.h). */
#include <math.h>
#include <stdlib.h>

#include "nn/sampler_steps.h"

#define LAST_STEP 0.04   /* of the SDE, without noise */
#define VP_EPSILON 1e-3f /* the VP path's ODE stops before the data */

/* ---- grids ------------------------------------------------------------------------------------------------------ */

/* The last time of SiT's grid. */
static float
end_time(const sampling *s)
{
    if (s->setting->kind == D2C_SAMPLER_SDE)
        return 1.0f - (float)LAST_STEP;
    return s->sit->config.path == D2C_PATH_VP ? 1.0f - VP_EPSILON : 1.0f;
}

/* The path's coefficients at the grid's times.  s->t, which is filled later, has room for these; times [evaluations] and
 * row [evaluations, 4] are scratch. */
static d2c_status
path_coefficients(const sampling *s, float *times, float (*row)[4])
{
    size_t count = (size_t)s->evaluations, i, k;
    d2c_tensor t = d2c_tensor1(s->t.data, D2C_F32, s->evaluations);

    for (i = 0; i < count; i++)
        times[i] = (float)s->grid[i];
    TRY_OP(s, d2c_upload(s->be, t.data, times, count * sizeof *times));
    TRY_OP(s, d2c_path_coefficients(s->be, s->path, t, s->sit->config.path));
    TRY_OP(s, d2c_download(s->be, row, s->path.data, count * sizeof *row));
    for (i = 0; i < count; i++)
        for (k = 0; k < 4; k++)
            s->coefficient[i][k] = row[i][k];
    return D2C_OK;
}

/* SiT's times are f32, as the public code's are. */
static d2c_status
prepare_sit(sampling *s)
{
    size_t count = (size_t)s->evaluations;
    float *times = malloc(count * sizeof *times);
    float(*row)[4] = malloc(count * sizeof *row);
    d2c_status status;
    size_t i;

    for (i = 0; i < count; i++)
        s->grid[i] = (float)((double)end_time(s) * (double)i / (double)(count - 1));
    s->guide_from = (float)s->guide_from;
    s->guide_to = (float)s->guide_to;
    status = times != NULL && row != NULL ? path_coefficients(s, times, row)
                                          : d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    free(times);
    free(row);
    return status;
}

/* linspace(1, end, count)[i] as torch computes it, so that an interval's ends are met exactly where they are there. */
static double
time_down_to(double end, int count, int i)
{
    double step = (end - 1) / (count - 1);

    return i < count / 2 ? 1 + step * i : end - step * (count - 1 - i);
}

/* REPA's linear and cosine paths. */
static void
repa_coefficients(double row[4], double t, d2c_path path)
{
    const double half = acos(0.0);

    row[0] = path == D2C_PATH_LINEAR ? 1 - t : cos(half * t);
    row[1] = path == D2C_PATH_LINEAR ? t : sin(half * t);
    row[2] = path == D2C_PATH_LINEAR ? -1 : -half * row[1];
    row[3] = path == D2C_PATH_LINEAR ? 1 : half * row[0];
}

/* REPA's are f64. */
static d2c_status
prepare_repa(sampling *s)
{
    double end = s->setting->kind == D2C_SAMPLER_SDE ? LAST_STEP : 0;
    int i;

    for (i = 0; i < s->evaluations; i++) {
        s->grid[i] = time_down_to(end, s->evaluations, i);
        repa_coefficients(s->coefficient[i], s->grid[i], s->sit->config.path);
    }
    return D2C_OK;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* y = a x + b y in the first `count` rows. */
static d2c_status
mix(const sampling *s, d2c_tensor y, double a, d2c_tensor x, double b, int count)
{
    y.dim[0] = x.dim[0] = count;
    TRY_OP(s, d2c_axpby(s->be, y, (float)a, x, (float)b));
    return D2C_OK;
}

static d2c_status
euler_step(const sampling *s, int i, int count)
{
    D2C_TRY(sampler_evaluate(s, s->v, s->x, i, i, count));
    return mix(s, s->x, s->grid[i + 1] - s->grid[i], s->v, 1, count);
}

/* gate: the grid's time that says whether the second stage is guided. */
static d2c_status
heun_step(const sampling *s, int i, int gate, int count)
{
    double dt = s->grid[i + 1] - s->grid[i];

    D2C_TRY(sampler_evaluate(s, s->v, s->x, i, i, count));
    D2C_TRY(mix(s, s->probe, 1, s->x, 0, count));
    D2C_TRY(mix(s, s->probe, dt, s->v, 1, count));
    D2C_TRY(sampler_evaluate(s, s->v2, s->probe, i + 1, gate, count));
    D2C_TRY(mix(s, s->x, dt / 2, s->v, 1, count));
    return mix(s, s->x, dt / 2, s->v2, 1, count);
}

/* A step of dx = (v + pull (a v - x)) dt + sqrt(2 spread |dt|) noise; the last one leaves the noise out. */
static d2c_status
sde_step(const sampling *s, int i, double a, double pull, double spread, double dt, int count)
{
    D2C_TRY(sampler_evaluate(s, s->v, s->x, i, i, count));
    D2C_TRY(mix(s, s->x, dt * (1 + pull * a), s->v, 1 - dt * pull, count));
    if (i + 1 == s->evaluations)
        return D2C_OK;
    D2C_TRY(sampler_draw(s, i, count));
    return mix(s, s->x, sqrt(2 * spread * fabs(dt)), s->noise, 1, count);
}

/* a = alpha/alpha' and the divisor of the score, (a v - x)/(sigma^2 - a sigma' sigma). */
static double
score_ratio(double *divisor, const double row[4])
{
    double a = row[0] / row[2];

    *divisor = row[1] * row[1] - a * row[3] * row[1];
    return a;
}

/* dx = (v + sigma score) dt + sqrt(2 sigma) dW */
static d2c_status
sit_sde_step(const sampling *s, int i, int count)
{
    double sigma = s->coefficient[i][1], divisor, a = score_ratio(&divisor, s->coefficient[i]);
    double dt = i + 1 == s->evaluations ? (double)(float)LAST_STEP : (float)(s->grid[1] - s->grid[0]);

    return sde_step(s, i, a, sigma / divisor, sigma, dt, count);
}

/* dx = (v - t score) dt + sqrt(2 t) dW, whatever the path */
static d2c_status
repa_sde_step(const sampling *s, int i, int count)
{
    double t = s->grid[i], divisor, a = score_ratio(&divisor, s->coefficient[i]);
    double next = i + 1 == s->evaluations ? 0 : s->grid[i + 1];

    return sde_step(s, i, a, -t / divisor, t, next - t, count);
}

static d2c_status
step_sit(const sampling *s, int i, int count)
{
    switch (s->setting->kind) {
    case D2C_SAMPLER_SDE:
        return sit_sde_step(s, i, count);
    case D2C_SAMPLER_HEUN:
        return heun_step(s, i, i + 1, count);
    default:
        return euler_step(s, i, count);
    }
}

static d2c_status
step_repa(const sampling *s, int i, int count)
{
    if (s->setting->kind == D2C_SAMPLER_SDE)
        return repa_sde_step(s, i, count);
    if (s->setting->kind == D2C_SAMPLER_HEUN && i + 1 < s->setting->steps)
        return heun_step(s, i, i, count);
    return euler_step(s, i, count);
}

static double
end_sit(const sampling *s)
{
    return end_time(s);
}

static double
end_repa(const sampling *s)
{
    (void)s;
    return 1;
}

const sampler_method sampler_sit = {prepare_sit, step_sit, end_sit};
const sampler_method sampler_repa = {prepare_repa, step_repa, end_repa};
