/* sampler.c: passes of sampling and what a step is made of: the network with guidance, and noise (sampler.h). */
#include "nn/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "nn/sampler_steps.h"

#define MAX_BATCH 65536

/* ---- setting up ------------------------------------------------------------------------------------------------ */

/* The sampler must be one of the network's kind, with steps that it can take. */
static d2c_status
check_kind(const d2c_sampler *o, const d2c_sit_config *c, d2c_error *err)
{
    int dit = c->kind == D2C_SIT_KIND_DIT;
    int fewest = o->kind == D2C_SAMPLER_SDE || dit ? 2 : 1, most = dit ? D2C_DIT_STEPS : 100000;

    if ((int)o->kind < D2C_SAMPLER_EULER || (int)o->kind > D2C_SAMPLER_DOPRI5)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown sampler");
    if ((o->kind == D2C_SAMPLER_ANCESTRAL) != dit)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a model of kind \"%s\" is sampled by %s",
                        d2c_sit_kind_name(c->kind),
                        dit ? "the ancestral sampler alone" : "euler, heun, dopri5 or sde");
    if (o->kind == D2C_SAMPLER_DOPRI5) {
        if (!(o->atol >= 0) || !(o->rtol >= 0) || !isfinite(o->atol) || !isfinite(o->rtol))
            return d2c_fail(err, D2C_INVALID_ARGUMENT, "tolerances must be finite and not negative");
        return D2C_OK;
    }
    if (o->steps < fewest || o->steps > most)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "steps must be between %d and %d, not %d", fewest, most,
                        o->steps);
    return D2C_OK;
}

static d2c_status
check_setting(const d2c_sampler *o, const d2c_sit_config *c, int n, int batch, d2c_error *err)
{
    if (n < 0 || batch < 1 || batch > MAX_BATCH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a pass must have between 1 and %d images, not %d",
                        MAX_BATCH, batch);
    D2C_TRY(check_kind(o, c, err));
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
    int64_t R = s->rows, N = s->capacity, n = s->elements, o = s->outputs, E = s->evaluations;
    size_t f = sizeof(float), i = sizeof(int64_t);

    s->t = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(E * R) * f), D2C_F32, E, R);
    s->path = d2c_tensor2(d2c_arena_alloc(arena, (size_t)E * 4 * f), D2C_F32, E, 4);
    s->x = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->v = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * o) * f), D2C_F32, R, o);
    s->v2 = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * o) * f), D2C_F32, R, o);
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
    free(s->steps);
    free(s->values);
    s->memory = NULL;
    s->host = NULL;
    s->grid = NULL;
    s->coefficient = NULL;
    s->steps = NULL;
    s->values = NULL;
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

/* The method's grid, then its times for every row of the device. */
static d2c_status
set_grid(sampling *s, const sampler_method *method)
{
    size_t count = (size_t)s->evaluations, rows = (size_t)s->rows, i, r;
    float *all;
    d2c_status status;

    D2C_TRY(method->prepare(s));
    all = malloc(rows * count * sizeof *all);
    if (all == NULL)
        return d2c_fail(s->err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++)
        for (r = 0; r < rows; r++)
            all[i * rows + r] = (float)s->grid[i];
    status = d2c_upload(s->be, s->t.data, all, rows * count * sizeof *all);
    free(all);
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
    int64_t area = (int64_t)c->height * c->width;

    return d2c_tensor4(t.data, D2C_F32, rows, t.dim[1] / area, c->height, c->width);
}

/* v = null + guidance (v - null) in the guided channels; null: the rows behind the first `count`.  What is not guided,
 * DiT's variance among it, stays the condition's. */
static d2c_status
guide(const sampling *s, d2c_tensor v, int count)
{
    const d2c_sit_config *c = &s->sit->config;
    int channels = s->setting->guided_channels == 0 ? c->channels : s->setting->guided_channels;
    int64_t guided = (int64_t)channels * c->height * c->width;
    int images = guided == s->outputs ? 1 : count, i;
    float *with = v.data, *without = with + s->outputs * count;
    float guidance = s->setting->guidance;

    if (guided == s->outputs)
        guided *= count;
    for (i = 0; i < images; i++)
        TRY_OP(s, d2c_axpby(s->be, d2c_tensor1(with + i * s->outputs, D2C_F32, guided), 1.0f - guidance,
                            d2c_tensor1(without + i * s->outputs, D2C_F32, guided), guidance));
    return D2C_OK;
}

d2c_status
sampler_evaluate(const sampling *s, d2c_tensor v, d2c_tensor x, int i, int gate, int count)
{
    double t = s->grid[gate];
    int guided = s->setting->guidance != 1.0f && t >= s->guide_from && t <= s->guide_to;
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

d2c_status
sampler_draw(const sampling *s, int i, int count)
{
    d2c_tensor id = first_rows(s->id, count), epoch = first_rows(s->epoch, count);
    int r;

    for (r = 0; r < count; r++)
        s->host[r] = i;
    TRY_OP(s, d2c_upload(s->be, epoch.data, s->host, (size_t)count * sizeof *s->host));
    TRY_OP(s, d2c_draw_normal(s->be, first_rows(s->noise, count), 0, id, epoch, D2C_PURPOSE_SDE));
    return D2C_OK;
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

/* The state from noise to data. */
static d2c_status
run_steps(const sampling *s, const sampler_method *method, int count)
{
    int i;

    if (s->setting->kind == D2C_SAMPLER_DOPRI5)
        return sampler_dopri5(s, method->end(s));
    for (i = 0; i < s->setting->steps; i++)
        D2C_TRY(method->step(s, i, count));
    return D2C_OK;
}

static d2c_status
run_pass(const sampling *s, const sampler_method *method, float *x, const int64_t *labels,
         const uint64_t *seeds, int count)
{
    int64_t values = s->elements * count, j;

    D2C_TRY(start_pass(s, labels, seeds, count));
    D2C_TRY(run_steps(s, method, count));
    TRY_OP(s, d2c_download(s->be, x, s->x.data, (size_t)values * sizeof *x));
    for (j = 0; j < values; j++)
        if (!isfinite(x[j]))
            return d2c_fail(s->err, D2C_NOT_FINITE, "a sampled image holds values that are not finite");
    return D2C_OK;
}

static d2c_status
run_passes(const sampling *s, const sampler_method *method, float *x, int n, const int64_t *labels,
           const uint64_t *seeds, int (*progress)(void *closure, int done), void *closure)
{
    int first, count;

    for (first = 0; first < n; first += count) {
        count = n - first < s->capacity ? n - first : s->capacity;
        D2C_TRY(run_pass(s, method, x + first * s->elements, labels + first, seeds + first, count));
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
    static const sampler_method *const methods[] = {
        [D2C_SIT_KIND_SIT] = &sampler_sit,
        [D2C_SIT_KIND_DIT] = &sampler_dit,
        [D2C_SIT_KIND_REPA] = &sampler_repa,
    };
    const d2c_sit_config *c = &sit->config;
    const sampler_method *method = methods[c->kind];
    sampling s = {.sit = sit,
                  .be = be,
                  .setting = setting,
                  .err = err,
                  .guide_from = setting->guide_from,
                  .guide_to = setting->guide_to};
    d2c_status status;
    int adaptive;

    D2C_TRY(check_setting(setting, c, n, batch, err));
    D2C_TRY(check_labels(c, labels, n, err));
    if (n == 0)
        return D2C_OK;
    s.elements = (int64_t)c->channels * c->height * c->width;
    s.outputs = (int64_t)d2c_sit_outputs(c) * c->height * c->width;
    adaptive = setting->kind == D2C_SAMPLER_DOPRI5;
    s.capacity = adaptive ? 1 : batch < n ? batch : n;
    s.evaluations =
        adaptive ? 1
                 : setting->steps + (setting->kind == D2C_SAMPLER_EULER || setting->kind == D2C_SAMPLER_HEUN);
    status = allocate_pass(&s);
    if (status == D2C_OK && !adaptive)
        status = set_grid(&s, method);
    if (status == D2C_OK)
        status = run_passes(&s, method, x, n, labels, seeds, progress, closure);
    release(&s);
    return status;
}
