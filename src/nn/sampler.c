/*
 * sampler.c: ODE and SDE sampling, sampler.h.
 *
 * A pass holds up to `batch` images on the device.  Its state x is stepped in place; with guidance the network runs on
 * twice as many rows, the second half with the null class.
 */
#include "nn/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"

#define SDE_LAST_STEP 0.04f /* the "Mean" step's size */
#define MAX_BATCH 65536
#define VP_EPSILON 1e-3f /* the VP path's ODE stops before the data */

typedef struct sampling {
    d2c_sit *sit;
    d2c_backend *be;
    const d2c_sampler *setting;
    d2c_error *err;
    int64_t elements;        /* of an image */
    int capacity;            /* images a pass */
    int rows;                /* of the network: twice as many with guidance */
    int evaluations;         /* times on the grid */
    float *grid;             /* [evaluations] t, host */
    float (*coefficient)[4]; /* [evaluations] of the path, host */
    void *memory;
    d2c_tensor t;           /* [evaluations, rows] f32: an evaluation's time for every row */
    d2c_tensor times, path; /* [evaluations] f32, [evaluations, 4] f32 */
    d2c_tensor x;           /* [rows, elements] f32: state; the second half is a copy for guidance */
    d2c_tensor v, v2;       /* [rows, elements] f32 */
    d2c_tensor probe;       /* [rows, elements] f32: Heun's second point */
    d2c_tensor noise;       /* [capacity, elements] f32 */
    d2c_tensor label;       /* [rows] i64 */
    d2c_tensor id, epoch;   /* [capacity] i64 */
    int64_t *host;          /* [rows] */
    size_t work_start, work_bytes;
} sampling;

#define TRY_OP(s, call)                                                                                      \
    do {                                                                                                     \
        if ((call) != D2C_OK)                                                                                \
            return d2c_backend_error((s)->be, (s)->err);                                                     \
    } while (0)

/* ---- setting up ------------------------------------------------------------------------------------------------ */

static d2c_status
check_setting(const d2c_sampler *o, const d2c_sit_config *c, int n, int batch, d2c_error *err)
{
    if (n < 0 || batch < 1 || batch > MAX_BATCH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a pass must have between 1 and %d images, not %d",
                        MAX_BATCH, batch);
    if ((int)o->kind < D2C_SAMPLER_EULER || (int)o->kind > D2C_SAMPLER_SDE)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown sampler");
    if (o->steps < (o->kind == D2C_SAMPLER_SDE ? 2 : 1) || o->steps > 100000)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "steps must be between %d and 100000, not %d",
                        o->kind == D2C_SAMPLER_SDE ? 2 : 1, o->steps);
    if (!isfinite(o->guidance) || o->guided_channels < 0 || o->guided_channels > c->channels)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "guidance must be finite, of at most %d channels",
                        c->channels);
    if (o->guidance != 1.0f && !c->null_class)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "guidance needs a model with a null class");
    return D2C_OK;
}

static d2c_status
check_labels(const d2c_sit_config *c, const int64_t *labels, int n, d2c_error *err)
{
    int i;

    for (i = 0; i < n; i++) {
        if (labels[i] >= 0 && labels[i] < c->classes + c->null_class)
            continue;
        d2c_fail(err, D2C_INVALID_ARGUMENT, "label %lld is outside the model's classes",
                 (long long)labels[i]);
        d2c_detail(err, "The model was trained on labels 0 to %d.", c->classes - 1);
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

static void
take_all(sampling *s, d2c_arena *arena)
{
    int64_t R = s->rows, N = s->capacity, n = s->elements, E = s->evaluations;
    size_t f = sizeof(float), i = sizeof(int64_t);

    s->t = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(E * R) * f), D2C_F32, E, R);
    s->times = d2c_tensor1(d2c_arena_alloc(arena, (size_t)E * f), D2C_F32, E);
    s->path = d2c_tensor2(d2c_arena_alloc(arena, (size_t)E * 4 * f), D2C_F32, E, 4);
    s->x = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->v = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->v2 = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->probe = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->noise = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(N * n) * f), D2C_F32, N, n);
    s->label = d2c_tensor1(d2c_arena_alloc(arena, (size_t)R * i), D2C_I64, R);
    s->id = d2c_tensor1(d2c_arena_alloc(arena, (size_t)N * i), D2C_I64, N);
    s->epoch = d2c_tensor1(d2c_arena_alloc(arena, (size_t)N * i), D2C_I64, N);
    s->work_start = d2c_arena_mark(arena);
    d2c_arena_alloc(arena, s->work_bytes);
}

static d2c_status
allocate(sampling *s)
{
    d2c_arena arena = {0};

    D2C_TRY(d2c_sit_workspace(&s->work_bytes, s->sit, s->rows, 1, 0, s->err));
    take_all(s, &arena);
    TRY_OP(s, d2c_alloc(s->be, &s->memory, arena.peak, D2C_MEMORY_DEVICE));
    arena = (d2c_arena){.base = s->memory, .capacity = arena.peak};
    take_all(s, &arena);
    s->host = malloc((size_t)s->rows * sizeof *s->host);
    s->grid = malloc((size_t)s->evaluations * sizeof *s->grid);
    s->coefficient = malloc((size_t)s->evaluations * sizeof *s->coefficient);
    if (s->host == NULL || s->grid == NULL || s->coefficient == NULL)
        return d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    return d2c_arena_check(&arena, s->err);
}

static void
release(sampling *s)
{
    d2c_free(s->be, s->memory, D2C_MEMORY_DEVICE);
    free(s->host);
    free(s->grid);
    free(s->coefficient);
    s->memory = NULL;
    s->host = NULL;
    s->grid = NULL;
    s->coefficient = NULL;
}

/* Memory for a pass; while there is not enough, a pass has half as many images. */
static d2c_status
allocate_pass(sampling *s)
{
    int copies = s->setting->guidance != 1.0f ? 2 : 1;
    d2c_status status;

    s->rows = copies * s->capacity;
    status = allocate(s);
    while (status == D2C_NO_MEMORY && s->capacity > 1) {
        release(s);
        s->capacity = (s->capacity + 1) / 2;
        s->rows = copies * s->capacity;
        status = allocate(s);
    }
    return status;
}

/* The last time of the grid. */
static float
end_time(const sampling *s)
{
    if (s->setting->kind == D2C_SAMPLER_SDE)
        return 1.0f - SDE_LAST_STEP;
    return s->sit->config.path == D2C_PATH_VP ? 1.0f - VP_EPSILON : 1.0f;
}

/* Times on host and device, and the path's coefficients at them. */
static d2c_status
set_grid(sampling *s)
{
    size_t count = (size_t)s->evaluations, rows = (size_t)s->rows, i, r;
    float *all = malloc(rows * count * sizeof *all);
    d2c_status status;

    if (all == NULL)
        return d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++) {
        s->grid[i] = (float)((double)end_time(s) * (double)i / (double)(count - 1));
        for (r = 0; r < rows; r++)
            all[i * rows + r] = s->grid[i];
    }
    status = d2c_upload(s->be, s->t.data, all, rows * count * sizeof *all);
    free(all);
    if (status == D2C_OK)
        status = d2c_upload(s->be, s->times.data, s->grid, count * sizeof *s->grid);
    if (status == D2C_OK)
        status = d2c_path_coefficients(s->be, s->path, s->times, s->sit->config.path);
    if (status == D2C_OK)
        status = d2c_download(s->be, s->coefficient, s->path.data, count * sizeof *s->coefficient);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(s->be, s->err);
}

/* ---- one evaluation of the network ------------------------------------------------------------------------------- */

/* The first `rows` rows of a [rows, elements] tensor; and the same as images. */
static d2c_tensor
first_rows(d2c_tensor t, int64_t rows)
{
    t.dim[0] = rows;
    return t;
}

static d2c_tensor
as_images(const sampling *s, d2c_tensor t, int64_t rows)
{
    const d2c_sit_config *c = &s->sit->config;

    return d2c_tensor4(t.data, D2C_F32, rows, c->channels, c->height, c->width);
}

/* v = null + guidance (v - null) in the guided channels; null: the rows behind the first `count`. */
static d2c_status
guide(const sampling *s, d2c_tensor v, int count)
{
    const d2c_sit_config *c = &s->sit->config;
    int all = s->setting->guided_channels == 0 || s->setting->guided_channels == c->channels;
    int64_t guided = all ? s->elements * count : (int64_t)s->setting->guided_channels * c->height * c->width;
    float *with = v.data, *without = with + s->elements * count;
    float guidance = s->setting->guidance;
    int images = all ? 1 : count, i;

    for (i = 0; i < images; i++)
        TRY_OP(s, d2c_axpby(s->be, d2c_tensor1(with + i * s->elements, D2C_F32, guided), 1.0f - guidance,
                            d2c_tensor1(without + i * s->elements, D2C_F32, guided), guidance));
    return D2C_OK;
}

/* v of the first `count` rows at the grid's time i; x has room for the null class's copy behind them. */
static d2c_status
evaluate(const sampling *s, d2c_tensor v, d2c_tensor x, int i, int count)
{
    float t = s->grid[i];
    int guided = s->setting->guidance != 1.0f && t >= s->setting->guide_from && t <= s->setting->guide_to;
    int64_t rows = guided ? 2 * (int64_t)count : count;
    size_t bytes = (size_t)(s->elements * count) * sizeof(float);
    d2c_arena arena = {.base = (char *)s->memory + s->work_start, .capacity = s->work_bytes};
    d2c_sit_output out = {.v = as_images(s, v, rows)};
    d2c_sit_input in = {
        .batch = (int)rows,
        .x = as_images(s, x, rows),
        .t = d2c_tensor1((float *)s->t.data + (int64_t)i * s->rows, D2C_F32, rows),
        .label = first_rows(s->label, rows),
    };

    if (guided)
        TRY_OP(s, d2c_copy(s->be, (char *)x.data + bytes, x.data, bytes));
    D2C_TRY(d2c_sit_forward(s->sit, s->be, &arena, &in, &out, 0, NULL, s->err));
    return guided ? guide(s, v, count) : D2C_OK;
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* y = a x + b y in the first `count` rows. */
static d2c_status
mix(const sampling *s, d2c_tensor y, double a, d2c_tensor x, double b, int count)
{
    TRY_OP(s, d2c_axpby(s->be, first_rows(y, count), (float)a, first_rows(x, count), (float)b));
    return D2C_OK;
}

/* x from the grid's time i to i + 1. */
static d2c_status
euler_step(const sampling *s, int i, int count)
{
    D2C_TRY(evaluate(s, s->v, s->x, i, count));
    return mix(s, s->x, s->grid[i + 1] - s->grid[i], s->v, 1, count);
}

static d2c_status
heun_step(const sampling *s, int i, int count)
{
    double dt = s->grid[i + 1] - s->grid[i];

    D2C_TRY(evaluate(s, s->v, s->x, i, count));
    D2C_TRY(mix(s, s->probe, 1, s->x, 0, count));
    D2C_TRY(mix(s, s->probe, dt, s->v, 1, count));
    D2C_TRY(evaluate(s, s->v2, s->probe, i + 1, count));
    D2C_TRY(mix(s, s->x, dt / 2, s->v, 1, count));
    return mix(s, s->x, dt / 2, s->v2, 1, count);
}

/* The noise of step i, keyed by each image's own seed. */
static d2c_status
draw_step(const sampling *s, int i, int count)
{
    d2c_tensor id = first_rows(s->id, count), epoch = first_rows(s->epoch, count);
    int r;

    for (r = 0; r < count; r++)
        s->host[r] = i;
    TRY_OP(s, d2c_upload(s->be, epoch.data, s->host, (size_t)count * sizeof *s->host));
    TRY_OP(s, d2c_draw_normal(s->be, first_rows(s->noise, count), 0, id, epoch, D2C_PURPOSE_SDE));
    return D2C_OK;
}

/* dx = (v + w score) dt + sqrt(2 w) dW with w = sigma and score = (a v - x)/(sigma^2 - a sigma' sigma), a = alpha/alpha';
 * the last step leaves the noise out. */
static d2c_status
sde_step(const sampling *s, int i, int count)
{
    double alpha = s->coefficient[i][0], sigma = s->coefficient[i][1];
    double a = alpha / s->coefficient[i][2];
    double pull = sigma / (sigma * sigma - a * s->coefficient[i][3] * sigma);
    int last = i + 1 == s->evaluations;
    double dt = last ? (double)SDE_LAST_STEP : s->grid[1] - s->grid[0];

    D2C_TRY(evaluate(s, s->v, s->x, i, count));
    D2C_TRY(mix(s, s->x, dt * (1 + pull * a), s->v, 1 - dt * pull, count));
    if (last)
        return D2C_OK;
    D2C_TRY(draw_step(s, i, count));
    return mix(s, s->x, sqrt(2 * sigma * dt), s->noise, 1, count);
}

/* ---- a pass ------------------------------------------------------------------------------------------------------ */

/* Labels, seeds and starting noise of the pass's images. */
static d2c_status
start_pass(const sampling *s, const int64_t *labels, const uint64_t *seeds, int count)
{
    size_t bytes = (size_t)count * sizeof *s->host;
    int r;

    memcpy(s->host, labels, bytes);
    for (r = count; r < 2 * count && s->rows > s->capacity; r++)
        s->host[r] = s->sit->config.classes;
    TRY_OP(s, d2c_upload(s->be, s->label.data, s->host, bytes * (s->rows > s->capacity ? 2 : 1)));
    for (r = 0; r < count; r++)
        s->host[r] = (int64_t)seeds[r];
    TRY_OP(s, d2c_upload(s->be, s->id.data, s->host, bytes));
    TRY_OP(s, d2c_zero(s->be, s->epoch.data, bytes));
    TRY_OP(s, d2c_draw_normal(s->be, first_rows(s->x, count), 0, first_rows(s->id, count),
                              first_rows(s->epoch, count), D2C_PURPOSE_SAMPLE));
    return D2C_OK;
}

static d2c_status
run_pass(const sampling *s, float *x, const int64_t *labels, const uint64_t *seeds, int count)
{
    static d2c_status (*const step[])(const sampling *, int, int) = {
        [D2C_SAMPLER_EULER] = euler_step,
        [D2C_SAMPLER_HEUN] = heun_step,
        [D2C_SAMPLER_SDE] = sde_step,
    };
    int64_t values = s->elements * count, j;
    int i;

    D2C_TRY(start_pass(s, labels, seeds, count));
    for (i = 0; i < s->setting->steps; i++)
        D2C_TRY(step[s->setting->kind](s, i, count));
    TRY_OP(s, d2c_download(s->be, x, s->x.data, (size_t)values * sizeof *x));
    for (j = 0; j < values; j++)
        if (!isfinite(x[j]))
            return d2c_fail(s->err, D2C_NOT_FINITE, "a sampled image holds values that are not finite");
    return D2C_OK;
}

static d2c_status
run_passes(const sampling *s, float *x, int n, const int64_t *labels, const uint64_t *seeds,
           int (*progress)(void *closure, int done), void *closure)
{
    int first, count;

    for (first = 0; first < n; first += count) {
        count = n - first < s->capacity ? n - first : s->capacity;
        D2C_TRY(run_pass(s, x + first * s->elements, labels + first, seeds + first, count));
        if (progress != NULL && progress(closure, first + count) != 0)
            return d2c_fail(s->err, D2C_CANCELLED, "sampling was cancelled");
    }
    return D2C_OK;
}

d2c_status
d2c_sample(float *x, d2c_sit *sit, d2c_backend *be, const d2c_sampler *setting, int n, const int64_t *labels,
           const uint64_t *seeds, int batch, int (*progress)(void *closure, int done), void *closure,
           d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    sampling s = {.sit = sit, .be = be, .setting = setting, .err = err};
    d2c_status status;

    D2C_TRY(check_setting(setting, c, n, batch, err));
    D2C_TRY(check_labels(c, labels, n, err));
    if (n == 0)
        return D2C_OK;
    s.elements = (int64_t)c->channels * c->height * c->width;
    s.capacity = batch < n ? batch : n;
    s.evaluations = setting->steps + (setting->kind == D2C_SAMPLER_SDE ? 0 : 1);
    status = allocate_pass(&s);
    if (status == D2C_OK)
        status = set_grid(&s);
    if (status == D2C_OK)
        status = run_passes(&s, x, n, labels, seeds, progress, closure);
    release(&s);
    return status;
}
