/*
 * sit.c: SiT's training step and forward pass, beside oneDNN's own rate at the same matrix shapes in the same run.
 *
 *   sit [--threads N] [--size s2|demo] [--dtype f32|bf16] [--pass training|forward|score] [--seconds S]
 *       [--clock wall|cpu] [--recompute none|mlp|block]
 *
 * Model FLOP/s counts three times the forward pass's products, as the literature does: work done twice (scores,
 * activations) counts once.  The ratio is what remains of oneDNN's rate when everything around the products is paid.
 */
#include "bench.h"

#include <sys/resource.h>

#include "nn/sit.h"
#include "train/plan.h"

typedef struct bench_size {
    const char *name;
    d2c_sit_config config;
    int batch;       /* of a training step */
    int score_batch; /* timesteps of one image when scoring */
} bench_size;

static const bench_size sizes[] = {
    {"s2",
     {.depth = 12,
      .hidden = 384,
      .heads = 6,
      .patch = 2,
      .channels = 4,
      .out_channels = 4,
      .height = 32,
      .width = 32,
      .classes = 1000,
      .null_class = 1},
     32,
     4},
    {"demo", {BENCH_DEMO_NETWORK}, 128, 4},
};

static d2c_recompute recompute; /* of training steps */

/* Seconds and FLOPs of products, summed. */
typedef struct cost {
    double seconds, flops;
} cost;

static void
add_product(cost *sum, d2c_plan_cache *cache, int times, int64_t batch, int64_t m, int64_t k, int64_t n,
            int transpose, d2c_dtype operands, d2c_dtype result)
{
    sum->seconds += times * bench_product(cache, batch, m, k, n, transpose, operands, result);
    sum->flops += 2.0 * times * (double)(batch > 0 ? batch : 1) * (double)m * (double)k * (double)n;
}

/* A linear layer's product forward, and in training its two backward. */
static void
add_linear(cost *sum, d2c_plan_cache *cache, int times, int64_t rows, int64_t in, int64_t out,
           d2c_dtype dtype, int training)
{
    add_product(sum, cache, times, 0, rows, in, out, BENCH_TRANSPOSE_B, dtype, dtype);
    if (!training)
        return;
    add_product(sum, cache, times, 0, rows, out, in, BENCH_PLAIN, dtype, dtype);
    add_product(sum, cache, times, 0, out, rows, in, BENCH_TRANSPOSE_A, dtype, D2C_F32);
}

static void
add_attention(cost *sum, d2c_plan_cache *cache, int times, int64_t heads, int64_t tokens, int64_t width,
              d2c_dtype dtype, int training)
{
    /* S = Q K^T, O = P V; dP = dO V^T, dQ = dS K, dK = dS^T Q, dV = P^T dO. */
    add_product(sum, cache, times * (training ? 2 : 1), heads, tokens, width, tokens, BENCH_TRANSPOSE_B,
                dtype, D2C_F32);
    add_product(sum, cache, times * (training ? 2 : 1), heads, tokens, tokens, width, BENCH_PLAIN, dtype,
                dtype);
    if (training)
        add_product(sum, cache, times * 2, heads, tokens, tokens, width, BENCH_TRANSPOSE_A, dtype, dtype);
}

/* What oneDNN alone needs for the products of a batch. */
static cost
products(const d2c_sit_config *c, int batch, d2c_dtype dtype, int threads, int training)
{
    int64_t tokens = d2c_sit_tokens(c), rows = batch * tokens, D = c->hidden;
    int64_t patch = (int64_t)c->patch * c->patch * c->channels;
    d2c_plan_cache *cache;
    d2c_error err;
    cost sum = {0, 0};

    bench_check(d2c_plan_cache_open(&cache, threads, threads, &err), &err);
    add_linear(&sum, cache, c->depth, rows, D, 3 * D, dtype, training);
    add_linear(&sum, cache, c->depth, rows, D, D, dtype, training);
    add_linear(&sum, cache, c->depth, rows, D, 4 * D, dtype, training);
    add_linear(&sum, cache, c->depth, rows, 4 * D, D, dtype, training);
    add_linear(&sum, cache, 1, batch, D, (6 * (int64_t)c->depth + 2) * D, dtype, training);
    add_linear(&sum, cache, 1, rows, patch, D, D2C_F32, 0);
    add_linear(&sum, cache, 1, rows, D, patch, dtype, training);
    add_attention(&sum, cache, c->depth, (int64_t)batch * c->heads, tokens, D / c->heads, dtype, training);
    d2c_plan_cache_close(cache);
    return sum;
}

/* The most memory that the process has had, in MiB. */
static long
peak_memory(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss / 1024;
}

/* peak: peak_memory() before the products were timed. */
static void
report(const bench_size *size, const char *what, d2c_dtype dtype, int threads, int batch, double seconds,
       long peak, cost own)
{
    double rate = own.flops / seconds, own_rate = own.flops / own.seconds;

    printf("%.3f of oneDNN: %s %s %s, batch %d, %d thread%s: %.1f images/s, %.2f ms, model %.1f GFLOP/s, "
           "oneDNN %.1f GFLOP/s, the process so far at most %ld MiB\n",
           rate / own_rate, size->name, dtype == D2C_BF16 ? "bf16" : "f32", what, batch, threads,
           threads == 1 ? "" : "s", batch / seconds, seconds * 1e3, rate * 1e-9, own_rate * 1e-9, peak);
    fflush(stdout);
}

/* Weights that are not zero anywhere, so that no product is trivial. */
static d2c_sit *
make_network(d2c_backend *be, const d2c_sit_config *config, d2c_dtype dtype, int training)
{
    d2c_sit *sit;
    d2c_error err;
    int64_t i;

    bench_check(d2c_sit_create(&sit, be, config, dtype, training, &err), &err);
    bench_check(d2c_sit_initialize(sit, be, 1, &err), &err);
    for (i = 0; i < sit->params.trainable; i++)
        sit->params.value[i] += (float)(i % 13 - 6) * 1e-3f;
    bench_check(d2c_params_refresh(&sit->params, be, &err), &err);
    return sit;
}

static void
fill_batch(d2c_batch *batch, const d2c_row_shape *shape, int size, d2c_error *err)
{
    int64_t i, n = (int64_t)size * shape->channels * shape->size * shape->size;

    bench_check(d2c_batch_allocate(batch, shape, size, err), err);
    d2c_batch_clear(batch, shape, 1);
    for (i = 0; i < n; i++)
        batch->x[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    for (i = 0; i < size; i++) {
        batch->label[i] = i % shape->classes;
        batch->number[i] = i;
        batch->epoch[i] = 0;
    }
}

static void
bench_training(const bench_size *size, d2c_dtype dtype, int threads, double time)
{
    d2c_row_shape shape = {
        .size = size->config.height, .channels = size->config.channels, .classes = size->config.classes};
    d2c_step_setting setting = {.seed = 1,
                                .batch = size->batch,
                                .shape = shape,
                                .cfg_prob = 0.1f,
                                .adamw = {0.9f, 0.999f, 1e-8f, 0.0f, 0},
                                .recompute = recompute};
    d2c_step_record record = {.learning_rate = 1e-4f,
                              .bias_correction1 = 0.1f,
                              .bias_correction2 = 0.001f,
                              .ema_decay = 0.9f,
                              .max_grad_norm = 1.0f,
                              .loss_scale = 1.0f / (float)size->batch};
    d2c_step_result result;
    d2c_stepper *stepper;
    d2c_backend *be;
    d2c_batch batch;
    d2c_sit *sit;
    d2c_error err;
    double best;

    bench_check(d2c_backend_open(&be, "cpu", threads, &err), &err);
    sit = make_network(be, &size->config, dtype, 1);
    fill_batch(&batch, &shape, size->batch, &err);
    bench_check(d2c_stepper_open(&stepper, sit, be, &setting, &err), &err);
    BENCH_BEST(best, time, {
        bench_check(d2c_stepper_queue(stepper, &batch, &record, &err), &err);
        bench_check(d2c_stepper_collect(stepper, &result, &err), &err);
    });
    report(size, "training step", dtype, threads, size->batch, best, peak_memory(),
           products(&size->config, size->batch, dtype, threads, 1));
    d2c_stepper_close(stepper);
    d2c_batch_free(&batch);
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
}

/* The unit of scoring: one image's timesteps on one thread. */
static void
bench_forward(const bench_size *size, d2c_dtype dtype, int batch, int threads, double time)
{
    const d2c_sit_config *c = &size->config;
    int64_t n = (int64_t)c->channels * c->height * c->width, i;
    float *x = bench_memory((size_t)(batch * n) * sizeof *x),
          *v = bench_memory((size_t)(batch * n) * sizeof *v);
    float *t = bench_memory((size_t)batch * sizeof *t);
    int64_t *label = bench_memory((size_t)batch * sizeof *label);
    d2c_sit_input in = {.batch = batch};
    d2c_sit_output out = {.v = d2c_tensor4(v, D2C_F32, batch, c->channels, c->height, c->width)};
    d2c_arena arena = {0};
    d2c_backend *be;
    d2c_sit *sit;
    d2c_error err;
    double best;

    bench_check(d2c_backend_open(&be, "cpu", threads, &err), &err);
    sit = make_network(be, c, dtype, 0);
    for (i = 0; i < batch * n; i++)
        x[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    for (i = 0; i < batch; i++)
        t[i] = ((float)i + 0.5f) / (float)batch;
    in.x = d2c_tensor4(x, D2C_F32, batch, c->channels, c->height, c->width);
    in.t = d2c_tensor1(t, D2C_F32, batch);
    in.label = d2c_tensor1(label, D2C_I64, batch);
    bench_check(d2c_sit_workspace(&arena.capacity, sit, batch, 0, 0, &err), &err);
    arena.base = bench_memory(arena.capacity);
    BENCH_BEST(best, time, bench_check(d2c_sit_forward(sit, be, &arena, &in, &out, 0, NULL, &err), &err));
    report(size, "forward", dtype, threads, batch, best, peak_memory(),
           products(c, batch, dtype, threads, 0));
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
    free(arena.base);
    free(x);
    free(v);
    free(t);
    free(label);
}

static int
wanted(const char *only, const char *name)
{
    return *only == '\0' || strcmp(only, name) == 0;
}

int
main(int argc, char **argv)
{
    const char *only_size = bench_option(argc, argv, "--size", ""),
               *only_dtype = bench_option(argc, argv, "--dtype", "");
    const char *only_pass = bench_option(argc, argv, "--pass", "");
    int threads = atoi(bench_option(argc, argv, "--threads", "2"));
    double time = atof(bench_option(argc, argv, "--seconds", "3"));
    d2c_error err;
    size_t i;
    int d;

    bench_check(d2c_recompute_read(&recompute, bench_option(argc, argv, "--recompute", "none"), &err), &err);
    if (strcmp(bench_option(argc, argv, "--clock", "wall"), "cpu") == 0)
        bench_clock = CLOCK_PROCESS_CPUTIME_ID;
    for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (d = 0; d < 2; d++) {
            d2c_dtype dtype = d == 0 ? D2C_F32 : D2C_BF16;

            if (!wanted(only_size, sizes[i].name) || !wanted(only_dtype, d == 0 ? "f32" : "bf16") ||
                (dtype == D2C_BF16 && !d2c_dnnl_has_bf16()))
                continue;
            if (wanted(only_pass, "training"))
                bench_training(&sizes[i], dtype, threads, time);
            if (wanted(only_pass, "forward"))
                bench_forward(&sizes[i], dtype, sizes[i].batch, threads, time / 3);
            if (wanted(only_pass, "score"))
                bench_forward(&sizes[i], dtype, sizes[i].score_batch, 1, time / 6);
        }
    return 0;
}
