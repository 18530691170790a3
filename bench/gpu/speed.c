/*
 * speed.c: training, scoring and sampling of SiT through libd2c on the device: one line of tab-separated values each,
 * which bench/gpu/run puts beside the peer's.
 *
 *   speed [--device cuda] [--sizes S/2,B/2,L/2,XL/2] [--batch 256] [--seconds 4] [--streams 4] [--side 32] [--depth 0]
 *
 *   train   SIZE  images/s  ms a step  micro-batch  GFLOP an image forward  share of the peak
 *   score   SIZE  images/s  streams  images/s of the same network's forward pass, an image being T = 8 rows of a batch
 *   sample  SIZE  images/s  steps
 *
 * Latents are 32x32x4.  Training is in bf16 with REPA's projector at block 8, micro-batches as d2c train plans them.  The
 * share is three times the forward pass's products, each counted once, over the peak of an H100 or H200 in bf16.  A depth
 * other than 0 takes the place of the size's own.
 */
#include "gpu.h"

#include <pthread.h>

#include "nn/difficulty.h"
#include "nn/sampler.h"
#include "train/plan.h"

#define PEAK 989e12
#define TIMESTEPS 8
#define MOST_STREAMS 64
#define SAMPLER_STEPS 10

static const char *device;
static int batch_size, streams, side, depth;
static double seconds;
static d2c_dtype precision;

/* Of an image: the blocks, what is around them, and the projector. */
static double
forward_flops(const d2c_sit_config *c)
{
    double t = d2c_sit_tokens(c), d = c->hidden, patch = (double)c->patch * c->patch * c->channels, macs;

    macs = c->depth * (12 * t * d * d + 2 * t * t * d + 6 * d * d);
    macs += 2 * t * d * patch + 2 * d * d + (256 + d) * d;
    if (c->proj_block > 0)
        macs += t * (d * c->proj_hidden + (double)c->proj_hidden * c->proj_hidden +
                     (double)c->proj_hidden * c->proj_width);
    return 2 * macs;
}

static d2c_sit_config
config_of(const char *size, int training)
{
    d2c_sit_config c = {
        .channels = 4, .out_channels = 4, .height = side, .width = side, .classes = 1000, .null_class = 1};
    char name[32];
    d2c_error err;

    snprintf(name, sizeof name, "SiT-%s", size);
    bench_check(d2c_sit_preset(&c, name, &err), &err);
    if (depth > 0)
        c.depth = depth;
    if (training) {
        c.proj_block = c.depth < 8 ? c.depth : 8;
        c.proj_hidden = 2048;
        c.proj_width = 768;
    }
    return c;
}

/* ---- training -------------------------------------------------------------------------------------------------- */

static void
fill_batch(d2c_batch *batch, const d2c_row_shape *shape)
{
    int64_t n = (int64_t)d2c_row_pixels(shape) * batch_size, v = (int64_t)d2c_row_visual(shape) * batch_size,
            i;
    d2c_error err;

    bench_check(d2c_batch_allocate(batch, shape, batch_size, &err), &err);
    d2c_batch_clear(batch, shape, 1);
    for (i = 0; i < n; i++)
        batch->x[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    for (i = 0; i < v; i++)
        batch->visual[i] = (uint16_t)(0x3000 + i * 7919 % 2048); /* halves from 0.125 to 0.5 */
    for (i = 0; i < batch_size; i++) {
        batch->label[i] = i % shape->classes;
        batch->number[i] = i;
        batch->epoch[i] = 0;
    }
}

/* Takes steps for about as long; returns how many, all of them collected. */
static int
take_steps(d2c_stepper *stepper, const d2c_batch *batch, double time)
{
    d2c_step_record record = {.learning_rate = 1e-4f,
                              .bias_correction1 = 0.1f,
                              .bias_correction2 = 0.001f,
                              .ema_decay = 0.999f,
                              .max_grad_norm = 1.0f,
                              .loss_scale = 1.0f / (float)batch_size};
    double end = bench_now() + time;
    int queued = 0, collected = 0;
    d2c_step_result result;
    d2c_error err;

    while (collected < queued || queued < 2 || bench_now() < end) {
        if (queued - collected <= d2c_stepper_ahead(stepper) && (queued < 2 || bench_now() < end)) {
            bench_check(d2c_stepper_queue(stepper, batch, &record, &err), &err);
            queued++;
        } else {
            bench_check(d2c_stepper_collect(stepper, &result, &err), &err);
            collected++;
        }
    }
    return queued;
}

/* Each slot's first step is called op by op, its second is captured as a graph, and the third replays it. */
static void
warm_up(d2c_stepper *stepper, const d2c_batch *batch)
{
    int round;

    for (round = 0; round < 3; round++)
        take_steps(stepper, batch, 0);
}

static d2c_stepper *
open_stepper(d2c_sit *sit, const d2c_row_shape *shape)
{
    d2c_step_setting setting = {.seed = 1,
                                .batch = batch_size,
                                .shape = *shape,
                                .cfg_prob = 0.1f,
                                .proj_coeff = 0.5f,
                                .adamw = {0.9f, 0.999f, 1e-8f, 0.0f, 0},
                                .tuned = 1,
                                .notice = gpu_notice};
    size_t available, total;
    d2c_memory_plan plan;
    d2c_stepper *stepper;
    d2c_error err;

    run(d2c_memory_use(be, &available, &total));
    /* The network's own ranges are allocated by now, and part of the plan. */
    available += (size_t)sit->params.total * (5 * sizeof(float) + sizeof(uint16_t));
    bench_check(d2c_memory_plan_make(&plan, &sit->config, precision, &setting, 1,
                                     d2c_backend_is_asynchronous(be), 0, total > 0 ? available : 0, &err),
                &err);
    setting.micro_batch = plan.micro_batch;
    setting.recompute = plan.recompute;
    bench_check(d2c_stepper_open(&stepper, sit, be, &setting, &err), &err);
    return stepper;
}

static void
measure_training(const char *size)
{
    d2c_sit_config config = config_of(size, 1);
    d2c_row_shape shape = {.size = side,
                           .channels = 4,
                           .classes = 1000,
                           .visual_tokens = d2c_sit_tokens(&config),
                           .visual_width = config.proj_width};
    d2c_stepper *stepper;
    d2c_batch batch;
    d2c_sit *sit;
    d2c_error err;
    double start, time, rate;
    int steps;

    bench_check(d2c_sit_create(&sit, be, &config, precision, 1, &err), &err);
    bench_check(d2c_sit_initialize(sit, be, 1, &err), &err);
    fill_batch(&batch, &shape);
    stepper = open_stepper(sit, &shape);
    warm_up(stepper, &batch);
    start = bench_now();
    steps = take_steps(stepper, &batch, seconds);
    time = (bench_now() - start) / steps;
    rate = batch_size / time;
    printf("train\t%s\t%.1f\t%.2f\t%d\t%.1f\t%.4f\n", size, rate, time * 1e3,
           d2c_stepper_micro_batch(stepper), forward_flops(&config) * 1e-9,
           3 * forward_flops(&config) * rate / PEAK);
    fflush(stdout);
    d2c_stepper_close(stepper);
    d2c_batch_free(&batch);
    d2c_sit_destroy(sit, be);
}

/* ---- scoring and sampling -------------------------------------------------------------------------------------- */

/* Images/s of the forward pass alone, a batch of batch_size rows queued again and again. */
static double
forward_rate(d2c_sit *sit)
{
    const d2c_sit_config *c = &sit->config;
    int64_t rows = batch_size, n = (int64_t)c->channels * c->height * c->width;
    d2c_tensor x = gpu_tensor(D2C_F32, rows, n, 1), v = gpu_tensor(D2C_F32, rows, n, 1),
               t = gpu_tensor(D2C_F32, rows, 1, 0.1f), label = gpu_numbers(rows);
    d2c_sit_input in = {.batch = batch_size};
    d2c_sit_output out = {.v = d2c_tensor4(v.data, D2C_F32, rows, c->channels, c->height, c->width)};
    d2c_arena arena = {0};
    d2c_error err;
    double time;

    in.x = d2c_tensor4(x.data, D2C_F32, rows, c->channels, c->height, c->width);
    in.t = d2c_tensor1(t.data, D2C_F32, rows);
    in.label = label;
    bench_check(d2c_sit_workspace(&arena.capacity, sit, batch_size, 0, 0, &err), &err);
    arena.base = gpu_memory(arena.capacity);
    GPU_TIME(time, seconds / 4, d2c_sit_forward(sit, be, &arena, &in, &out, 0, NULL, &err));
    d2c_free(be, arena.base, D2C_MEMORY_DEVICE);
    gpu_free(x);
    gpu_free(v);
    gpu_free(t);
    gpu_free(label);
    return batch_size / time;
}

typedef struct scoring {
    d2c_sit *sit;
    pthread_barrier_t *start;
    int scored;
    double elapsed;
} scoring;

/* Scores images in memory on a stream of its own, as one of the engine's threads does. */
static void *
score_images(void *closure)
{
    scoring *work = closure;
    const d2c_sit_config *c = &work->sit->config;
    size_t n = (size_t)c->channels * (size_t)c->height * (size_t)c->width, i;
    float *x = bench_memory(n * sizeof *x);
    d2c_backend *own = gpu_open(device, 1);
    d2c_scorer *scorer;
    double score, start;
    d2c_error err;

    for (i = 0; i < n; i++)
        x[i] = (float)(i * 7919 % 2001) / 1000.0f - 1.0f;
    bench_check(d2c_scorer_open(&scorer, work->sit, own, TIMESTEPS, &err), &err);
    bench_check(d2c_scorer_run(scorer, &score, NULL, x, 0, 0, &err), &err);
    pthread_barrier_wait(work->start);
    for (start = bench_now(); work->elapsed < seconds / 2; work->elapsed = bench_now() - start)
        bench_check(d2c_scorer_run(scorer, &score, NULL, x, work->scored++ % c->classes, 0, &err), &err);
    d2c_scorer_close(scorer);
    d2c_backend_close(own);
    free(x);
    return NULL;
}

static double
scoring_rate(d2c_sit *sit)
{
    pthread_t thread[MOST_STREAMS];
    scoring work[MOST_STREAMS];
    pthread_barrier_t start;
    double rate = 0;
    int i;

    pthread_barrier_init(&start, NULL, (unsigned)streams);
    for (i = 0; i < streams; i++) {
        work[i] = (scoring){.sit = sit, .start = &start};
        pthread_create(&thread[i], NULL, score_images, &work[i]);
    }
    for (i = 0; i < streams; i++) {
        pthread_join(thread[i], NULL);
        rate += work[i].scored / work[i].elapsed;
    }
    pthread_barrier_destroy(&start);
    return rate;
}

static double
sampling_rate(d2c_sit *sit)
{
    const d2c_sit_config *c = &sit->config;
    int n = batch_size < 64 ? batch_size : 64, i;
    d2c_sampler sampler = {.kind = D2C_SAMPLER_EULER, .steps = SAMPLER_STEPS, .guidance = 1};
    float *x = bench_memory((size_t)n * (size_t)(c->channels * c->height * c->width) * sizeof *x);
    int64_t *labels = bench_memory((size_t)n * sizeof *labels);
    uint64_t *seeds = bench_memory((size_t)n * sizeof *seeds);
    d2c_error err;
    double best;

    for (i = 0; i < n; i++) {
        labels[i] = i % c->classes;
        seeds[i] = (uint64_t)i;
    }
    BENCH_BEST(best, seconds / 8,
               bench_check(d2c_sample(x, sit, be, &sampler, n, labels, seeds, n, NULL, NULL, &err), &err));
    free(x);
    free(labels);
    free(seeds);
    return n / best;
}

static void
measure_inference(const char *size)
{
    d2c_sit_config config = config_of(size, 0);
    d2c_sit *sit;
    d2c_error err;

    bench_check(d2c_sit_create(&sit, be, &config, precision, 0, &err), &err);
    gpu_randomize(sit, 1);
    printf("score\t%s\t%.1f\t%d\t%.1f\n", size, scoring_rate(sit), streams, forward_rate(sit) / TIMESTEPS);
    printf("sample\t%s\t%.1f\t%d\n", size, sampling_rate(sit), SAMPLER_STEPS);
    fflush(stdout);
    d2c_sit_destroy(sit, be);
}

int
main(int argc, char **argv)
{
    char *sizes = strdup(bench_option(argc, argv, "--sizes", "S/2,B/2,L/2,XL/2")), *size, *rest;

    device = bench_option(argc, argv, "--device", "cuda");
    batch_size = gpu_int(argc, argv, "--batch", "256");
    streams = gpu_int(argc, argv, "--streams", "4");
    streams = streams < 1 ? 1 : streams > MOST_STREAMS ? MOST_STREAMS : streams;
    side = gpu_int(argc, argv, "--side", "32");
    depth = gpu_int(argc, argv, "--depth", "0");
    seconds = atof(bench_option(argc, argv, "--seconds", "4"));
    be = gpu_open(device, 1);
    precision = be->has_bf16 ? D2C_BF16 : D2C_F32;
    for (size = strtok_r(sizes, ",", &rest); size != NULL; size = strtok_r(NULL, ",", &rest))
        measure_training(size);
    d2c_backend_close(be);
    /* Scoring and sampling take the library's first proposals, as the engine does: a backend without tuned steps. */
    be = gpu_open(device, 1);
    free(sizes);
    sizes = strdup(bench_option(argc, argv, "--sizes", "S/2,B/2,L/2,XL/2"));
    for (size = strtok_r(sizes, ",", &rest); size != NULL; size = strtok_r(NULL, ",", &rest))
        measure_inference(size);
    d2c_backend_close(be);
    free(sizes);
    return 0;
}
