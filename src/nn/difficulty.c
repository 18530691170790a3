/* difficulty.c: the diffusion difficulty score of difficulty.h. */
#include "nn/difficulty.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "nn/dit_schedule.h"

/* The noise level of the self-representation: nearly clean, in SiT's time. */
#define TOKENS_TIME 0.9

/* Everything on the device is cut from one block. */
struct d2c_scorer {
    d2c_sit *sit;
    d2c_backend *be;
    int timesteps, rows; /* rows of the widest pass */
    int64_t elements;    /* of an image */
    void *memory;
    d2c_tensor t;                  /* [T] f32, as the network takes it */
    d2c_tensor coefficient;        /* [T, 4] f32 */
    d2c_tensor noise;              /* [T, elements] f32 */
    d2c_tensor id, epoch;          /* [T] i64 */
    d2c_tensor label;              /* [rows] i64 */
    d2c_tensor x, xt, target;      /* [rows, elements] f32 */
    d2c_tensor v;                  /* [rows, elements] f32; outside the score [1, outputs] */
    d2c_tensor loss;               /* [T] f32 */
    d2c_tensor tokens;             /* [tokens, hidden] f32 */
    d2c_tensor text, text_mask;    /* [1, L, W] f32, [1, L] f32; absent without a text condition */
    d2c_tensor text_index;         /* [rows] i64, all 0 */
    d2c_tensor one_t;              /* [1] f32: of a pass outside the score */
    d2c_tensor one_coefficient;    /* [1, 4] f32 */
    size_t work_start, work_bytes; /* of the network's arena in `memory` */
    int seeded;                    /* the noise is that of: */
    uint64_t seed;
    int (*stop)(const void *closure);
    const void *closure; /* of stop */
    double *factor;      /* [T] velocity error -> score */
    float *host;         /* [max(rows * elements, T)] */
    int64_t *host_label; /* [rows] */
};

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void
take_all(d2c_scorer *s, d2c_arena *arena)
{
    const d2c_sit_config *c = &s->sit->config;
    int64_t T = s->timesteps, R = s->rows, n = s->elements;
    int64_t tokens = d2c_sit_tokens(c), outputs = (int64_t)d2c_sit_outputs(c) * c->height * c->width;
    size_t f = sizeof(float), i = sizeof(int64_t);

    s->t = d2c_tensor1(d2c_arena_alloc(arena, (size_t)T * f), D2C_F32, T);
    s->coefficient = d2c_tensor2(d2c_arena_alloc(arena, (size_t)T * 4 * f), D2C_F32, T, 4);
    s->noise = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(T * n) * f), D2C_F32, T, n);
    s->id = d2c_tensor1(d2c_arena_alloc(arena, (size_t)T * i), D2C_I64, T);
    s->epoch = d2c_tensor1(d2c_arena_alloc(arena, (size_t)T * i), D2C_I64, T);
    s->label = d2c_tensor1(d2c_arena_alloc(arena, (size_t)R * i), D2C_I64, R);
    s->x = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->xt = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->target = d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n) * f), D2C_F32, R, n);
    s->v =
        d2c_tensor2(d2c_arena_alloc(arena, (size_t)(R * n > outputs ? R * n : outputs) * f), D2C_F32, R, n);
    s->loss = d2c_tensor1(d2c_arena_alloc(arena, (size_t)T * f), D2C_F32, T);
    s->tokens =
        d2c_tensor2(d2c_arena_alloc(arena, (size_t)(tokens * c->hidden) * f), D2C_F32, tokens, c->hidden);
    s->text = s->text_mask = s->text_index = d2c_absent();
    if (c->text_tokens > 0) {
        int64_t L = c->text_tokens, W = c->text_width;

        s->text = d2c_tensor3(d2c_arena_alloc(arena, (size_t)(L * W) * f), D2C_F32, 1, L, W);
        s->text_mask = d2c_tensor2(d2c_arena_alloc(arena, (size_t)L * f), D2C_F32, 1, L);
        s->text_index = d2c_tensor1(d2c_arena_alloc(arena, (size_t)R * i), D2C_I64, R);
    }
    s->one_t = d2c_tensor1(d2c_arena_alloc(arena, f), D2C_F32, 1);
    s->one_coefficient = d2c_tensor2(d2c_arena_alloc(arena, 4 * f), D2C_F32, 1, 4);
    s->work_start = d2c_arena_mark(arena);
    d2c_arena_alloc(arena, s->work_bytes);
}

static d2c_status
allocate(d2c_scorer *s, d2c_error *err)
{
    d2c_arena arena = {0};
    size_t host = (size_t)s->rows * (size_t)s->elements;

    D2C_TRY(d2c_sit_workspace(&s->work_bytes, s->sit, s->rows, 1, 0, err));
    take_all(s, &arena);
    if (d2c_alloc(s->be, &s->memory, arena.peak, D2C_MEMORY_DEVICE) != D2C_OK)
        return d2c_backend_error(s->be, err);
    arena = (d2c_arena){.base = s->memory, .capacity = arena.peak};
    take_all(s, &arena);
    if (host < (size_t)s->timesteps)
        host = (size_t)s->timesteps;
    s->host = malloc(host * sizeof *s->host);
    s->host_label = malloc((size_t)s->rows * sizeof *s->host_label);
    s->factor = malloc((size_t)s->timesteps * sizeof *s->factor);
    if (s->host == NULL || s->host_label == NULL || s->factor == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return d2c_arena_check(&arena, err);
}

/* Rows [first, first + count) of a tensor whose first dimension is cut. */
static d2c_tensor
rows_of(d2c_tensor t, int64_t first, int64_t count)
{
    size_t row = (size_t)(t.ndim == 1 ? 1 : t.dim[1]) * d2c_dtype_size(t.dtype);

    t.data = (char *)t.data + (size_t)first * row;
    t.dim[0] = count;
    return t;
}

/* ---- timesteps ------------------------------------------------------------------------------------------------- */

/* Uploads times that the network takes and the rows (alpha, sigma and their derivatives) that x_t and the target are made
 * with, `count` of each. */
static d2c_status
upload_times(const d2c_scorer *s, d2c_tensor t, d2c_tensor coefficient, const float *time, float (*row)[4],
             int count, d2c_error *err)
{
    if (d2c_upload(s->be, t.data, time, (size_t)count * sizeof *time) != D2C_OK ||
        d2c_upload(s->be, coefficient.data, row, (size_t)count * sizeof *row) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

/* From SiT's time and rows to REPA's: time runs the other way, and so the velocity has the other sign. */
static void
reverse_time(float *time, float row[4], double t)
{
    *time = (float)(1 - t);
    row[2] = -row[2];
    row[3] = -row[3];
}

/* The path's rows at `count` times of SiT's. */
static d2c_status
path_rows(const d2c_scorer *s, float (*row)[4], d2c_tensor t, d2c_tensor coefficient, const float *time,
          int count, d2c_error *err)
{
    if (d2c_upload(s->be, t.data, time, (size_t)count * sizeof *time) != D2C_OK ||
        d2c_path_coefficients(s->be, coefficient, t, s->sit->config.path) != D2C_OK ||
        d2c_download(s->be, row, coefficient.data, (size_t)count * sizeof *row) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

/* The timesteps of a network of velocity; row [T, 4] is scratch. */
static d2c_status
set_velocity_times(d2c_scorer *s, float (*row)[4], d2c_error *err)
{
    int linear = s->sit->config.path == D2C_PATH_LINEAR, T = s->timesteps, i;

    for (i = 0; i < T; i++) {
        s->factor[i] = linear ? cbrt((i + 0.5) / T) : (i + 0.5) / T; /* the time, for now */
        s->host[i] = (float)s->factor[i];
    }
    D2C_TRY(path_rows(s, row, s->t, s->coefficient, s->host, T, err));
    for (i = 0; i < T; i++) {
        double t = s->factor[i], alpha = row[i][0], sigma = row[i][1];
        double ratio = alpha / (row[i][2] * sigma - alpha * row[i][3]);

        s->factor[i] = linear ? 1.0 / 3.0 : ratio * ratio;
        if (s->sit->config.kind == D2C_SIT_KIND_REPA)
            reverse_time(&s->host[i], row[i], t);
    }
    return upload_times(s, s->t, s->coefficient, s->host, row, T, err);
}

static d2c_status
set_steps(d2c_scorer *s, float (*row)[4], d2c_error *err)
{
    double abar[D2C_DIT_STEPS];
    int i;

    d2c_dit_schedule(abar);
    for (i = 0; i < s->timesteps; i++) {
        int step = (2 * i + 1) * D2C_DIT_STEPS / (2 * s->timesteps);

        s->host[i] = (float)step;
        d2c_dit_coefficient(row[i], abar, step);
        s->factor[i] = 1;
    }
    return upload_times(s, s->t, s->coefficient, s->host, row, s->timesteps, err);
}

/* The score's timesteps, and what turns the squared error at each into its part of the score. */
static d2c_status
set_timesteps(d2c_scorer *s, d2c_error *err)
{
    float(*row)[4] = malloc((size_t)s->timesteps * sizeof *row);
    d2c_status status;

    if (row == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status =
        s->sit->config.kind == D2C_SIT_KIND_DIT ? set_steps(s, row, err) : set_velocity_times(s, row, err);
    free(row);
    return status;
}

/* ids 0..T-1 of the noise, all of epoch 0 */
static d2c_status
set_ids(d2c_scorer *s, d2c_error *err)
{
    int64_t *id = malloc((size_t)s->timesteps * sizeof *id);
    size_t bytes = (size_t)s->timesteps * sizeof *id;
    d2c_status status;
    int i;

    if (id == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < s->timesteps; i++)
        id[i] = i;
    status = d2c_upload(s->be, s->id.data, id, bytes);
    free(id);
    if (status == D2C_OK)
        status = d2c_zero(s->be, s->epoch.data, bytes);
    return status == D2C_OK ? D2C_OK : d2c_backend_error(s->be, err);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

d2c_status
d2c_scorer_open_narrow(d2c_scorer **scorer, d2c_sit *sit, d2c_backend *be, int timesteps, int rows,
                       d2c_error *err)
{
    const d2c_sit_config *c = &sit->config;
    d2c_scorer *s;
    d2c_status status;

    *scorer = NULL;
    if (timesteps < 1 || timesteps > D2C_MAX_TIMESTEPS)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "timesteps must be between 1 and %d, not %d",
                        D2C_MAX_TIMESTEPS, timesteps);
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    s->sit = sit;
    s->be = be;
    s->timesteps = timesteps;
    s->rows = timesteps < rows ? timesteps : rows;
    s->elements = (int64_t)c->channels * c->height * c->width;
    status = allocate(s, err);
    if (status == D2C_OK)
        status = set_timesteps(s, err);
    if (status == D2C_OK)
        status = set_ids(s, err);
    if (status == D2C_OK)
        *scorer = s;
    else
        d2c_scorer_close(s);
    return status;
}

d2c_status
d2c_scorer_open(d2c_scorer **scorer, d2c_sit *sit, d2c_backend *be, int timesteps, d2c_error *err)
{
    return d2c_scorer_open_narrow(scorer, sit, be, timesteps, D2C_PASS_ROWS, err);
}

void
d2c_scorer_close(d2c_scorer *scorer)
{
    if (scorer == NULL)
        return;
    if (scorer->memory != NULL)
        d2c_free(scorer->be, scorer->memory, D2C_MEMORY_DEVICE);
    free(scorer->host);
    free(scorer->host_label);
    free(scorer->factor);
    free(scorer);
}

void
d2c_scorer_set_stop(d2c_scorer *scorer, int (*stop)(const void *closure), const void *closure)
{
    scorer->stop = stop;
    scorer->closure = closure;
}

/* ---- running --------------------------------------------------------------------------------------------------- */

/* The network on `count` rows of s->xt at t; labels lie in s->label. */
static d2c_status
run_network(d2c_scorer *s, const d2c_sit_output *out, d2c_tensor t, int count, d2c_error *err)
{
    const d2c_sit_config *c = &s->sit->config;
    d2c_arena arena = {.base = (char *)s->memory + s->work_start, .capacity = s->work_bytes};
    d2c_sit_input in = {
        .batch = count,
        .x = d2c_tensor4(s->xt.data, D2C_F32, count, c->channels, c->height, c->width),
        .t = t,
        .label = rows_of(s->label, 0, count),
        .text = s->text,
        .text_mask = s->text_mask,
        .text_index = s->text_index,
    };

    if (in.text_index.data != NULL)
        in.text_index.dim[0] = count;
    return d2c_sit_forward(s->sit, s->be, &arena, &in, out, 0, NULL, err);
}

static d2c_sit_output
velocity(const d2c_scorer *s, int count)
{
    const d2c_sit_config *c = &s->sit->config;
    d2c_sit_output out = {.v = d2c_tensor4(s->v.data, D2C_F32, count, c->channels, c->height, c->width)};

    return out;
}

static d2c_status
upload_labels(d2c_scorer *s, int64_t label, d2c_error *err)
{
    int i;

    for (i = 0; i < s->rows; i++)
        s->host_label[i] = label;
    if (d2c_upload(s->be, s->label.data, s->host_label, (size_t)s->rows * sizeof *s->host_label) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

d2c_status
d2c_scorer_set_text(d2c_scorer *s, const float *text, const float *mask, d2c_error *err)
{
    size_t tokens = (size_t)s->sit->config.text_tokens;

    if (tokens == 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the network has no text condition");
    if (d2c_upload(s->be, s->text.data, text, tokens * (size_t)s->sit->config.text_width * sizeof *text) !=
            D2C_OK ||
        d2c_upload(s->be, s->text_mask.data, mask, tokens * sizeof *mask) != D2C_OK ||
        d2c_zero(s->be, s->text_index.data, (size_t)s->rows * sizeof(int64_t)) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

/* The image, once for each row of a pass. */
static d2c_status
upload_image(d2c_scorer *s, const float *x, d2c_error *err)
{
    size_t bytes = (size_t)s->elements * sizeof *x;
    int i;

    for (i = 0; i < s->rows; i++)
        memcpy(s->host + (size_t)i * (size_t)s->elements, x, bytes);
    if (d2c_upload(s->be, s->x.data, s->host, (size_t)s->rows * bytes) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

static d2c_status
draw_noise(d2c_scorer *s, uint64_t seed, d2c_error *err)
{
    if (s->seeded && s->seed == seed)
        return D2C_OK;
    s->seeded = 0;
    if (d2c_draw_normal(s->be, s->noise, seed, s->id, s->epoch, D2C_PURPOSE_SCORE) != D2C_OK)
        return d2c_backend_error(s->be, err);
    s->seeded = 1;
    s->seed = seed;
    return D2C_OK;
}

/* The velocity's error at timesteps [first, first + count), into s->loss. */
static d2c_status
score_pass(d2c_scorer *s, int first, int count, d2c_error *err)
{
    d2c_sit_output out = velocity(s, count);
    d2c_tensor target = rows_of(s->target, 0, count);

    if (d2c_diffuse(s->be, rows_of(s->xt, 0, count), target, rows_of(s->x, 0, count),
                    rows_of(s->noise, first, count), rows_of(s->coefficient, first, count)) != D2C_OK)
        return d2c_backend_error(s->be, err);
    D2C_TRY(run_network(s, &out, rows_of(s->t, first, count), count, err));
    if (d2c_mse_loss(s->be, rows_of(s->loss, first, count), d2c_absent(), rows_of(s->v, 0, count), target,
                     NULL) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

static d2c_status
check_label(const d2c_scorer *s, int64_t label, d2c_error *err)
{
    int classes = s->sit->config.classes;

    if (label >= 0 && label < classes)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "label %lld is outside the model's classes", (long long)label);
    d2c_detail(err, "The model was trained on labels 0 to %d.", classes - 1);
    return D2C_INVALID_ARGUMENT;
}

/* From the downloaded errors to score and curve. */
static d2c_status
finish_score(const d2c_scorer *s, double *score, double *curve, d2c_error *err)
{
    double sum = 0;
    int i;

    for (i = 0; i < s->timesteps; i++) {
        double part = s->factor[i] * s->host[i];

        if (curve != NULL)
            curve[i] = part;
        sum += part;
    }
    if (!isfinite(sum)) {
        d2c_fail(err, D2C_NOT_FINITE, "the difficulty score is not a finite number");
        d2c_hint(err, "The image or the model's weights hold values that are not finite or too large.");
        return D2C_NOT_FINITE;
    }
    *score = sum / s->timesteps;
    return D2C_OK;
}

d2c_status
d2c_scorer_run(d2c_scorer *s, double *score, double *curve, const float *x, int64_t label, uint64_t seed,
               d2c_error *err)
{
    int first;

    D2C_TRY(check_label(s, label, err));
    D2C_TRY(upload_image(s, x, err));
    D2C_TRY(upload_labels(s, label, err));
    D2C_TRY(draw_noise(s, seed, err));
    for (first = 0; first < s->timesteps; first += s->rows) {
        int count = s->timesteps - first < s->rows ? s->timesteps - first : s->rows;

        if (s->stop != NULL && s->stop(s->closure))
            return d2c_fail(err, D2C_CANCELLED, "the score is not wanted any more");
        D2C_TRY(score_pass(s, first, count, err));
    }
    if (d2c_download(s->be, s->host, s->loss.data, (size_t)s->timesteps * sizeof *s->host) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return finish_score(s, score, curve, err);
}

/* The label table's last row, where there is one. */
static d2c_status
check_null_class(const d2c_scorer *s, d2c_error *err)
{
    if (!s->sit->config.null_class)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "the model has no null class");
    return D2C_OK;
}

d2c_status
d2c_scorer_denoise(d2c_scorer *s, float *out, const float *x, double t, int64_t label, d2c_error *err)
{
    const d2c_sit_config *c = &s->sit->config;
    size_t bytes = (size_t)s->elements * sizeof *x;
    int outputs = d2c_sit_outputs(c);
    d2c_sit_output raw = {.v = d2c_tensor4(s->v.data, D2C_F32, 1, outputs, c->height, c->width)};
    float time = (float)t;

    if (!isfinite(t))
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "t must be a finite number");
    D2C_TRY(label == -1 ? check_null_class(s, err) : check_label(s, label, err));
    D2C_TRY(upload_labels(s, label == -1 ? s->sit->config.classes : label, err));
    if (d2c_upload(s->be, s->one_t.data, &time, sizeof time) != D2C_OK ||
        d2c_upload(s->be, s->xt.data, x, bytes) != D2C_OK)
        return d2c_backend_error(s->be, err);
    D2C_TRY(run_network(s, &raw, s->one_t, 1, err));
    if (d2c_download(s->be, out, s->v.data, (size_t)d2c_tensor_count(raw.v) * sizeof *out) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

/* The step of DiT with the ratio of data to noise nearest to that of SiT's time t. */
static int
step_like(const double *abar, double t)
{
    double wanted = log(t / (1 - t)), best = INFINITY;
    int step, found = 0;

    for (step = 0; step < D2C_DIT_STEPS; step++) {
        double away = fabs(0.5 * log(abar[step] / (1 - abar[step])) - wanted);

        if (away < best) {
            best = away;
            found = step;
        }
    }
    return found;
}

/* The noise level of the self-representation into s->one_t and s->one_coefficient. */
static d2c_status
set_light_noise(const d2c_scorer *s, d2c_error *err)
{
    const d2c_sit_config *c = &s->sit->config;
    double abar[D2C_DIT_STEPS];
    float time = (float)TOKENS_TIME, row[1][4];

    if (c->kind == D2C_SIT_KIND_DIT) {
        d2c_dit_schedule(abar);
        time = (float)step_like(abar, TOKENS_TIME);
        d2c_dit_coefficient(row[0], abar, (int)time);
    } else
        D2C_TRY(path_rows(s, row, s->one_t, s->one_coefficient, &time, 1, err));
    if (c->kind == D2C_SIT_KIND_REPA)
        reverse_time(&time, row[0], TOKENS_TIME);
    return upload_times(s, s->one_t, s->one_coefficient, &time, row, 1, err);
}

/* x with a little noise, into the first row of s->xt. */
static d2c_status
noise_lightly(d2c_scorer *s, const float *x, d2c_error *err)
{
    d2c_tensor noise = rows_of(s->target, 0, 1), image = rows_of(s->x, 0, 1);

    D2C_TRY(set_light_noise(s, err));
    if (d2c_upload(s->be, image.data, x, (size_t)s->elements * sizeof *x) != D2C_OK ||
        d2c_draw_normal(s->be, noise, 0, rows_of(s->id, 0, 1), rows_of(s->epoch, 0, 1), D2C_PURPOSE_ENCODE) !=
            D2C_OK ||
        d2c_diffuse(s->be, rows_of(s->xt, 0, 1), d2c_absent(), image, noise, s->one_coefficient) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}

d2c_status
d2c_scorer_tokens(d2c_scorer *s, float *out, const float *x, int tokens, int block, d2c_error *err)
{
    const d2c_sit_config *c = &s->sit->config;
    d2c_sit_output wanted = {.hidden = s->tokens, .hidden_block = block == 0 ? (c->depth + 1) / 2 : block};

    if (tokens < 1 || tokens > s->tokens.dim[0])
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "tokens must be between 1 and %lld, not %d",
                        (long long)s->tokens.dim[0], tokens);
    D2C_TRY(check_null_class(s, err));
    D2C_TRY(upload_labels(s, c->classes, err));
    D2C_TRY(noise_lightly(s, x, err));
    D2C_TRY(run_network(s, &wanted, s->one_t, 1, err));
    if (d2c_download(s->be, out, s->tokens.data, (size_t)tokens * (size_t)c->hidden * sizeof *out) != D2C_OK)
        return d2c_backend_error(s->be, err);
    return D2C_OK;
}
