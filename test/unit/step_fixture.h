/* step_fixture.h: a tiny SiT with text and projector, made-up batches for it, and steps on them. */
#ifndef D2C_TEST_STEP_FIXTURE_H
#define D2C_TEST_STEP_FIXTURE_H

#include <stdlib.h>

#include "check.h"
#include "train/schedule.h"
#include "train/step.h"

#define STEP_TOKENS 16

static const d2c_sit_config step_config = {.depth = 2,
                                           .hidden = 32,
                                           .heads = 2,
                                           .patch = 2,
                                           .channels = 3,
                                           .out_channels = 3,
                                           .height = 8,
                                           .width = 8,
                                           .classes = 3,
                                           .null_class = 1,
                                           .text_tokens = 4,
                                           .text_width = 6,
                                           .proj_block = 1,
                                           .proj_hidden = 24,
                                           .proj_width = 10};
static const d2c_row_shape step_shape = {.size = 8,
                                         .channels = 3,
                                         .classes = 3,
                                         .text_tokens = 4,
                                         .text_width = 6,
                                         .visual_tokens = STEP_TOKENS,
                                         .visual_width = 10};

typedef struct step_fixture {
    d2c_backend *be;
    d2c_sit *sit;
    d2c_stepper *stepper;
    d2c_batch batch;
    d2c_schedule schedule;
    d2c_error err;
    int notices;
    char notice[512]; /* the newest */
} step_fixture;

static inline void
step_hear(void *closure, const char *line)
{
    step_fixture *f = closure;

    f->notices++;
    snprintf(f->notice, sizeof f->notice, "%s", line);
}

/* The network as one of another kind: REPA's with normalised queries and keys, times from a normal, on the other path. */
static inline d2c_sit_config
step_config_of(d2c_sit_kind kind)
{
    d2c_sit_config config = step_config;

    config.kind = kind;
    if (kind == D2C_SIT_KIND_DIT)
        config.out_channels = 2 * config.channels;
    config.qk_norm = kind == D2C_SIT_KIND_REPA;
    config.path = kind == D2C_SIT_KIND_REPA ? D2C_PATH_GVP : D2C_PATH_LINEAR;
    return config;
}

/* Of the fixture's network. */
static inline d2c_step_setting
step_setting(step_fixture *f, int batch, int micro_batch)
{
    return (d2c_step_setting){.seed = 9,
                              .batch = batch,
                              .micro_batch = micro_batch,
                              .shape = step_shape,
                              .sampling = f->sit->config.kind == D2C_SIT_KIND_REPA ? D2C_TIME_LOGNORMAL
                                                                                   : D2C_TIME_UNIFORM,
                              .cfg_prob = 0.2f,
                              .proj_coeff = 0.5f,
                              .adamw = {0.9f, 0.999f, 1e-8f, 0.01f, 0},
                              .notice = step_hear,
                              .closure = f};
}

/* A network with initial weights on the backend, which the fixture takes over. */
static inline void
step_open_kind(step_fixture *f, d2c_backend *be, d2c_dtype precision, int batch, d2c_sit_kind kind)
{
    d2c_sit_config config = step_config_of(kind);

    memset(f, 0, sizeof *f);
    f->be = be;
    f->schedule = (d2c_schedule){.learning_rate = 1e-2,
                                 .warmup_steps = 3,
                                 .beta1 = 0.9,
                                 .beta2 = 0.999,
                                 .ema_decay = 0.99,
                                 .ema_warmup = 1,
                                 .max_grad_norm = 1,
                                 .batch = batch};
    CHECK_OK(d2c_batch_allocate(&f->batch, &step_shape, batch, &f->err), &f->err);
    CHECK_OK(d2c_sit_create(&f->sit, be, &config, precision, 1, &f->err), &f->err);
    CHECK_OK(d2c_sit_initialize(f->sit, be, 7, &f->err), &f->err);
}

static inline void
step_open(step_fixture *f, d2c_backend *be, d2c_dtype precision, int batch)
{
    step_open_kind(f, be, precision, batch, D2C_SIT_KIND_SIT);
}

static inline void
step_close(step_fixture *f)
{
    d2c_stepper_close(f->stepper);
    d2c_sit_destroy(f->sit, f->be);
    d2c_batch_free(&f->batch);
    d2c_backend_close(f->be);
}

/* Row n's picture, text and features. */
static inline void
step_row(d2c_batch *batch, int place, int64_t n)
{
    uint8_t pixels[8 * 8 * 3];
    float text[4 * 6], mask[4];
    uint16_t visual[STEP_TOKENS * 10];
    char id[32];
    d2c_row row = {.id = id,
                   .number = n,
                   .label = n % 3,
                   .pixels = pixels,
                   .text = text,
                   .mask = mask,
                   .visual = visual};
    int i;

    for (i = 0; i < (int)sizeof pixels; i++)
        pixels[i] = (uint8_t)(n * 37 + i * 11 + (i * n) % 13);
    for (i = 0; i < 4 * 6; i++)
        text[i] = (float)(n % 5 + 1) * 0.1f * (float)(i % 7) - 0.2f;
    for (i = 0; i < 4; i++)
        mask[i] = i < 2;
    for (i = 0; i < STEP_TOKENS * 10; i++)
        visual[i] = (uint16_t)(0x3800 + n * i % 512);
    snprintf(id, sizeof id, "%lld", (long long)n);
    d2c_batch_put(batch, place, &row, 1, 1, &step_shape);
}

static inline const d2c_batch *
step_batch(step_fixture *f, int64_t step)
{
    int i;

    d2c_batch_clear(&f->batch, &step_shape, step);
    for (i = 0; i < f->batch.size; i++)
        step_row(&f->batch, i, step * f->batch.size + i);
    return &f->batch;
}

static inline d2c_status
step_queue(step_fixture *f, int64_t step)
{
    d2c_step_record record;

    d2c_schedule_record(&record, &f->schedule, step + 1);
    return d2c_stepper_queue(f->stepper, step_batch(f, step), &record, &f->err);
}

static inline d2c_step_result
step_run(step_fixture *f, int64_t step)
{
    d2c_step_result result = {0};

    CHECK_OK(step_queue(f, step), &f->err);
    CHECK_OK(d2c_stepper_collect(f->stepper, &result, &f->err), &f->err);
    return result;
}

/* values, m, v and EMA on the host, one behind the other. */
static inline float *
step_state(step_fixture *f)
{
    const d2c_params *p = &f->sit->params;
    float *range[] = {p->value, p->m, p->v, p->ema}, *state = malloc(4 * (size_t)p->total * sizeof(float));
    int i;

    for (i = 0; i < 4 && state != NULL; i++)
        CHECK_OK(d2c_download(f->be, state + (size_t)i * (size_t)p->total, range[i],
                              (size_t)p->total * sizeof(float)),
                 &f->be->error);
    return state;
}

/* The greatest difference of two states. */
static inline double
step_distance(const float *a, const float *b, const step_fixture *f)
{
    double most = 0;
    int64_t i;

    for (i = 0; i < 4 * f->sit->params.total; i++)
        most = fmax(most, fabs((double)a[i] - b[i]));
    return most;
}

#endif
