/*
 * agree.c: the same training steps on the CPU and on the device, from one seed, on made-up rows: every step's loss must
 * agree, within 1e-3 in f32 and 1e-2 in bf16, relative.  The device's own losses, taken twice, must be equal.
 *
 *   agree [--device cuda] [--steps 200] [--shrink 1]
 *
 * Four networks: a small one with text condition, alignment loss and dropped conditions, whose batch the device takes in
 * unequal micro-batches; one of SiT-S/2's width and depth at 64 tokens; a small DiT; and a small REPA with normalised queries
 * and keys and alignment.  The device steps as d2c train does: queued,
 * replayed as a graph, with measured algorithms.  bf16 is compared with the CPU's bf16, or with its f32 where it has
 * none.  A shrink above 1 tries it out: it divides batches and depths, and heads are 16 wide.
 */
#include "gpu.h"

#include <math.h>

#include "base/half.h"
#include "train/step.h"

#define MOST_STEPS 10000

typedef struct subject {
    const char *name;
    d2c_sit_config config;
    int batch, micro_batch; /* the device's; 0: the whole batch */
    float learning_rate;
} subject;

static const subject subjects[] = {
    {"small, text, alignment",
     {BENCH_DEMO_NETWORK, .text_tokens = 8, .text_width = 24, .proj_block = 2, .proj_hidden = 192,
      .proj_width = 40},
     64,
     24,
     5e-4f},
    {"SiT-S/2 at 64 tokens",
     {.depth = 12,
      .hidden = 384,
      .heads = 6,
      .patch = 2,
      .channels = 4,
      .out_channels = 4,
      .height = 16,
      .width = 16,
      .classes = 10,
      .null_class = 1},
     8,
     0,
     1e-4f},
    {"small DiT",
     {.kind = D2C_SIT_KIND_DIT,
      .depth = 3,
      .hidden = 128,
      .heads = 4,
      .patch = 2,
      .channels = 4,
      .out_channels = 8,
      .height = 16,
      .width = 16,
      .classes = 10,
      .null_class = 1},
     16,
     0,
     5e-4f},
    {"small REPA, normalised queries and keys",
     {.kind = D2C_SIT_KIND_REPA,
      .qk_norm = 1,
      .depth = 3,
      .hidden = 128,
      .heads = 2,
      .patch = 2,
      .channels = 4,
      .out_channels = 4,
      .height = 16,
      .width = 16,
      .classes = 10,
      .null_class = 1,
      .proj_block = 2,
      .proj_hidden = 192,
      .proj_width = 40},
     16,
     0,
     5e-4f},
};

static int steps, passed, failed;

static float
normal(uint64_t stream, int64_t i)
{
    float four[4];

    d2c_philox_normal4(four, d2c_philox(7, (uint32_t)(i / 4), stream, D2C_PURPOSE_TEST));
    return four[i % 4];
}

static d2c_row_shape
shape_of(const d2c_sit_config *c)
{
    return (d2c_row_shape){.size = c->height,
                           .channels = c->channels,
                           .classes = c->classes,
                           .text_tokens = c->text_tokens,
                           .text_width = c->text_width,
                           .visual_tokens = c->proj_block > 0 ? d2c_sit_tokens(c) : 0,
                           .visual_width = c->proj_block > 0 ? c->proj_width : 0};
}

static void
fill_text(d2c_batch *batch, const d2c_row_shape *shape, int64_t text)
{
    int64_t n = (int64_t)d2c_row_text(shape), i;

    for (i = 0; i < n; i++)
        batch->text[text * n + i] = normal(100 + (uint64_t)text, i);
    for (i = 0; i < shape->text_tokens; i++)
        batch->text_mask[text * shape->text_tokens + i] = i < 5;
}

/* Text k + 1 is class k's, text 0 is the empty one. */
static void
fill_texts(d2c_batch *batch, const d2c_row_shape *shape)
{
    int64_t i;

    batch->texts = d2c_batch_text_limit(batch->size) < 16 ? d2c_batch_text_limit(batch->size) : 16;
#pragma omp parallel for
    for (i = 1; i < batch->texts; i++)
        fill_text(batch, shape, i);
    for (i = 0; i < batch->size; i++)
        batch->text_index[i] = 1 + batch->label[i] % (batch->texts - 1);
}

/* A row of a step: waves whose length is the class's, with a phase of the row's own and noise; features are the
 * class's. */
static void
fill_row(d2c_batch *batch, const d2c_row_shape *shape, int64_t number, int64_t row)
{
    int64_t n = (int64_t)d2c_row_pixels(shape), visual = (int64_t)d2c_row_visual(shape), i;
    float phase = normal(1, number);

    batch->label[row] = number * 7 % shape->classes;
    batch->number[row] = number % 5000;
    batch->epoch[row] = number / 5000;
    for (i = 0; i < n; i++)
        batch->x[row * n + i] = sinf((float)(i * (batch->label[row] + 1)) * 0.02f + phase) +
                                0.1f * normal(2 + (uint64_t)number, i);
    for (i = 0; i < visual; i++)
        batch->visual[row * visual + i] =
            d2c_half_from_float(normal(200 + (uint64_t)batch->label[row], i) * 0.5f);
}

static void
fill_batch(d2c_batch *batch, const d2c_row_shape *shape, int step)
{
    int64_t row;

    d2c_batch_clear(batch, shape, step + 1);
#pragma omp parallel for
    for (row = 0; row < batch->size; row++)
        fill_row(batch, shape, (int64_t)step * batch->size + row, row);
    if (shape->text_tokens > 0)
        fill_texts(batch, shape);
}

static d2c_step_record
record_of(const subject *s, int step)
{
    double at = step + 1;

    return (d2c_step_record){.learning_rate = s->learning_rate,
                             .bias_correction1 = (float)(1 - pow(0.9, at)),
                             .bias_correction2 = (float)(1 - pow(0.999, at)),
                             .ema_decay = (float)fmin(0.9999, (1 + at) / (10 + at)),
                             .max_grad_norm = 1,
                             .loss_scale = 1.0f / (float)s->batch};
}

/* The loss of the oldest step that has not been collected. */
static void
collect(double *loss, d2c_stepper *stepper)
{
    d2c_step_result result;
    d2c_error err;

    bench_check(d2c_stepper_collect(stepper, &result, &err), &err);
    *loss = result.record.loss;
}

static void
take_steps(double *loss, d2c_stepper *stepper, const subject *s, const d2c_row_shape *shape)
{
    int step, collected = 0;
    d2c_batch batch;
    d2c_error err;

    bench_check(d2c_batch_allocate(&batch, shape, s->batch, &err), &err);
    for (step = 0; step < steps; step++) {
        d2c_step_record record = record_of(s, step);

        fill_batch(&batch, shape, step);
        bench_check(d2c_stepper_queue(stepper, &batch, &record, &err), &err);
        if (step - collected >= d2c_stepper_ahead(stepper))
            collect(&loss[collected++], stepper);
    }
    while (collected < steps)
        collect(&loss[collected++], stepper);
    d2c_batch_free(&batch);
}

/* Trains on `on`; loss [steps]. */
static void
train(double *loss, const subject *s, d2c_backend *on, d2c_dtype precision)
{
    d2c_row_shape shape = shape_of(&s->config);
    d2c_step_setting setting = {.seed = 1,
                                .batch = s->batch,
                                .micro_batch = on == be ? s->micro_batch : 0,
                                .shape = shape,
                                .cfg_prob = 0.1f,
                                .proj_coeff = 0.5f,
                                .adamw = {0.9f, 0.999f, 1e-8f, 0.0f, 0},
                                .tuned = 1,
                                .notice = gpu_notice};
    d2c_stepper *stepper;
    d2c_sit *sit;
    d2c_error err;

    bench_check(d2c_sit_create(&sit, on, &s->config, precision, 1, &err), &err);
    bench_check(d2c_sit_initialize(sit, on, 1, &err), &err);
    bench_check(d2c_stepper_open(&stepper, sit, on, &setting, &err), &err);
    take_steps(loss, stepper, s, &shape);
    d2c_stepper_close(stepper);
    d2c_sit_destroy(sit, on);
}

/* The largest relative difference, and where; a NaN is the largest. */
static void
compare(const char *name, const char *what, const double *device, const double *cpu, double tolerance)
{
    double largest = 0, difference;
    int step, at = 0, agrees;

    for (step = 0; step < steps && !isnan(largest); step++) {
        difference = fabs(device[step] - cpu[step]) / fabs(cpu[step]);
        if (!(difference <= largest)) {
            largest = difference;
            at = step;
        }
    }
    agrees = largest <= tolerance;
    printf("| %s | %s | %.4f | %.4f | %.4f | %.1e | %d | %s |\n", name, what, cpu[0], cpu[steps - 1],
           device[steps - 1], largest, at + 1, agrees ? "yes" : "NO");
    fflush(stdout);
    passed += agrees;
    failed += !agrees;
}

/* Both precisions, and the device against itself. */
static void
run_subject(const subject *s, d2c_backend *cpu)
{
    double *loss = bench_memory(3 * (size_t)steps * sizeof *loss), *own = loss + steps,
           *again = loss + 2 * steps;

    train(loss, s, cpu, D2C_F32);
    train(own, s, be, D2C_F32);
    compare(s->name, "f32", own, loss, 1e-3);
    if (be->has_bf16) {
        if (cpu->has_bf16)
            train(loss, s, cpu, D2C_BF16);
        train(own, s, be, D2C_BF16);
        compare(s->name, cpu->has_bf16 ? "bf16" : "bf16, the CPU's in f32", own, loss, 1e-2);
    }
    train(again, s, be, be->has_bf16 ? D2C_BF16 : D2C_F32);
    compare(s->name, "the device's own again", again, own, 0);
    free(loss);
}

/* The subject, shrunk where that is wanted. */
static subject
subject_of(int i, int shrink)
{
    subject s = subjects[i];

    if (shrink == 1)
        return s;
    s.batch = s.batch / shrink > 2 ? s.batch / shrink : 2;
    s.micro_batch /= shrink;
    s.config.hidden = 16 * s.config.heads;
    s.config.depth = s.config.depth / shrink > 2 ? s.config.depth / shrink : 2;
    return s;
}

int
main(int argc, char **argv)
{
    int shrink = gpu_int(argc, argv, "--shrink", "1"), i;
    d2c_backend *cpu;

    steps = gpu_int(argc, argv, "--steps", "200");
    steps = steps < 1 ? 1 : steps > MOST_STEPS ? MOST_STEPS : steps;
    be = gpu_open(bench_option(argc, argv, "--device", "cuda"), 1);
    cpu = gpu_open("cpu", gpu_int(argc, argv, "--threads", "8"));
    printf("| network | precision | first loss | last, CPU | last, device | largest difference | at step | "
           "agrees |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for (i = 0; i < (int)(sizeof subjects / sizeof subjects[0]); i++) {
        subject s = subject_of(i, shrink);

        run_subject(&s, cpu);
    }
    printf("\n%d passed, %d failed\n", passed, failed);
    d2c_backend_close(cpu);
    d2c_backend_close(be);
    return failed > 0;
}
