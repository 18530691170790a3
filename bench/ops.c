/*
 * ops.c: the CPU backend's ops beside a peer in the same run: linear layers beside oneDNN's own product of the same
 * shape, memory-bound ops beside memcpy.
 *
 *   ops [--threads N] [--clock wall|cpu]
 *
 * Shapes are those of SiT-S/2's training step (batch 32, 256 tokens) and of the demo's (batch 128, 49 tokens).
 */
#include "bench.h"

#include <omp.h>

static d2c_backend *be;
static d2c_plan_cache *cache;
static int threads = 2;

static void
run(d2c_status status)
{
    bench_check(status, &be->error);
}

/* Small numbers that differ; the bench is of time. */
static d2c_tensor
tensor(d2c_dtype dtype, int64_t rows, int64_t width)
{
    int64_t n = rows * width, i;
    float *values = bench_memory((size_t)n * sizeof *values);
    d2c_tensor t = d2c_tensor2(values, D2C_F32, rows, width), out = t;

    for (i = 0; i < n; i++)
        values[i] = (float)(i * 7919 % 2001 - 1000) * 1e-3f;
    if (dtype == D2C_F32)
        return t;
    out = d2c_tensor2(bench_memory((size_t)n * d2c_dtype_size(dtype)), dtype, rows, width);
    run(d2c_cast(be, out, t));
    free(values);
    return out;
}

static d2c_weight
weight(int64_t in, int64_t out)
{
    d2c_weight w = {.value = tensor(D2C_F32, out, in),
                    .shadow = tensor(D2C_BF16, out, in),
                    .grad = tensor(D2C_F32, out, in)};

    w.bias = d2c_tensor1(tensor(D2C_F32, 1, out).data, D2C_F32, out);
    w.bias_grad = d2c_tensor1(tensor(D2C_F32, 1, out).data, D2C_F32, out);
    return w;
}

static void
weight_free(const d2c_weight *w)
{
    free(w->value.data);
    free(w->shadow.data);
    free(w->grad.data);
    free(w->bias.data);
    free(w->bias_grad.data);
}

static void
print_product(const char *what, d2c_dtype dtype, int64_t rows, int64_t in, int64_t out, double seconds,
              double own)
{
    double flops = 2.0 * (double)rows * (double)in * (double)out;

    printf("%5.2f of oneDNN: %-24s %-4s %5lld x %4lld -> %4lld: %8.1f GFLOP/s, oneDNN %8.1f\n", own / seconds,
           what, dtype == D2C_BF16 ? "bf16" : "f32", (long long)rows, (long long)in, (long long)out,
           flops / seconds * 1e-9, flops / own * 1e-9);
    fflush(stdout);
}

/* One layer's three products; the forward one with GELU where the network has it. */
static void
bench_linear(d2c_dtype dtype, int64_t rows, int64_t in, int64_t out, int gelu)
{
    d2c_weight w = weight(in, out);
    d2c_tensor x = tensor(dtype, rows, in), y = tensor(dtype, rows, out), none = d2c_absent();
    d2c_tensor pre = gelu ? tensor(dtype, rows, out) : none;
    d2c_act act = gelu ? D2C_ACT_GELU_TANH : D2C_ACT_NONE;
    double best;

    BENCH_BEST(best, 0.05, run(d2c_linear_forward(be, y, pre, x, &w, act)));
    print_product(gelu ? "forward with GELU" : "forward", dtype, rows, in, out, best,
                  bench_product(cache, 0, rows, in, out, BENCH_TRANSPOSE_B, dtype, dtype));
    BENCH_BEST(best, 0.05, run(d2c_linear_backward_input(be, x, y, &w, none, D2C_ACT_NONE, 0)));
    print_product("backward to the input", dtype, rows, in, out, best,
                  bench_product(cache, 0, rows, out, in, BENCH_PLAIN, dtype, dtype));
    BENCH_BEST(best, 0.05, run(d2c_linear_backward_weight(be, &w, y, x)));
    print_product("backward to weight, bias", dtype, rows, in, out, best,
                  bench_product(cache, 0, out, rows, in, BENCH_TRANSPOSE_A, dtype, D2C_F32));
    weight_free(&w);
    free(x.data);
    free(y.data);
    free(pre.data);
}

static void
copy_in_parts(char *to, const char *from, size_t bytes)
{
#pragma omp parallel num_threads(threads)
    {
        size_t part = bytes / (size_t)omp_get_num_threads(), at = part * (size_t)omp_get_thread_num();

        memcpy(to + at, from + at, part);
    }
}

/* Bytes read and written by a memcpy of the threads, a second, over as much memory as a tensor of SiT-S/2 has. */
static double
memcpy_rate(void)
{
    size_t bytes = (size_t)24 << 20;
    char *a = bench_memory(bytes), *b = bench_memory(bytes);
    double best;

    BENCH_BEST(best, 0.1, copy_in_parts(a, b, bytes));
    free(a);
    free(b);
    return 2.0 * (double)bytes / best;
}

static void
print_bytes(const char *what, d2c_dtype dtype, double bytes, double seconds, double copy)
{
    printf("%5.2f of memcpy: %-24s %-4s %6.1f GB/s, memcpy %.1f\n", bytes / seconds / copy, what,
           dtype == D2C_BF16 ? "bf16" : "f32", bytes / seconds * 1e-9, copy * 1e-9);
    fflush(stdout);
}

/* The ops around the products; bytes are those that the op must read and write. */
static void
bench_rows(d2c_dtype dtype, int64_t images, int64_t tokens, int64_t c, double copy)
{
    int64_t rows = images * tokens;
    double n = (double)(rows * c), size = (double)d2c_dtype_size(dtype), best;
    d2c_tensor x = tensor(D2C_F32, rows, c), dx = tensor(D2C_F32, rows, c), y = tensor(dtype, rows, c);
    d2c_tensor h = tensor(dtype, rows, c), stat = tensor(D2C_F32, rows, 2),
               vector = tensor(D2C_F32, images, c);
    d2c_tensor dvector = tensor(D2C_F32, images, c), dvector2 = tensor(D2C_F32, images, c);

    x = d2c_tensor3(x.data, D2C_F32, images, tokens, c);
    dx = d2c_tensor3(dx.data, D2C_F32, images, tokens, c);
    y = d2c_tensor3(y.data, dtype, images, tokens, c);
    h = d2c_tensor3(h.data, dtype, images, tokens, c);
    stat = d2c_tensor3(stat.data, D2C_F32, images, tokens, 2);
    BENCH_BEST(best, 0.05, run(d2c_modulate_forward(be, h, stat, x, vector, vector, 1e-6f)));
    print_bytes("norm and modulation", dtype, n * (4 + size), best, copy);
    BENCH_BEST(best, 0.05,
               run(d2c_gate_modulate_forward(be, dx, h, stat, x, y, vector, vector, vector, 1e-6f)));
    print_bytes("gate, residual and norm", dtype, n * (8 + 2 * size), best, copy);
    BENCH_BEST(best, 0.05, run(d2c_modulate_backward(be, dx, dvector, dvector2, y, x, stat, vector)));
    print_bytes("norm backward", dtype, n * (12 + size), best, copy);
    BENCH_BEST(best, 0.05, run(d2c_gate_residual_backward(be, h, dvector, dx, y, vector)));
    print_bytes("gate backward", dtype, n * (4 + 2 * size), best, copy);
    BENCH_BEST(best, 0.05, run(d2c_act_forward(be, h, y, D2C_ACT_GELU_TANH)));
    print_bytes("GELU", dtype, n * 2 * size, best, copy);
    free(x.data);
    free(dx.data);
    free(y.data);
    free(h.data);
    free(stat.data);
    free(vector.data);
    free(dvector.data);
    free(dvector2.data);
}

static void
bench_optimizer(double copy)
{
    int64_t n = 8 << 20;
    d2c_tensor value = tensor(D2C_F32, 1, n), m = tensor(D2C_F32, 1, n), v = tensor(D2C_F32, 1, n);
    d2c_tensor ema = tensor(D2C_F32, 1, n), grad = tensor(D2C_F32, 1, n), shadow = tensor(D2C_BF16, 1, n);
    d2c_adamw setting = {0.9f, 0.999f, 1e-8f, 0.0f, 0};
    d2c_step_record record = {.learning_rate = 1e-4f,
                              .bias_correction1 = 0.1f,
                              .bias_correction2 = 0.001f,
                              .ema_decay = 0.9f,
                              .clip_scale = 1.0f};
    double best;

    memset(v.data, 0, (size_t)n * sizeof(float));
    BENCH_BEST(best, 0.05, run(d2c_gradient_norm(be, &record, grad)));
    print_bytes("gradient norm", D2C_F32, (double)n * 4, best, copy);
    record.skip = 0;
    BENCH_BEST(best, 0.05, run(d2c_adamw_step(be, value, m, v, ema, shadow, grad, &setting, &record)));
    print_bytes("AdamW, EMA and shadow", D2C_F32, (double)n * 38, best, copy);
    free(value.data);
    free(m.data);
    free(v.data);
    free(ema.data);
    free(grad.data);
    free(shadow.data);
}

static void
bench_dtype(d2c_dtype dtype, double copy)
{
    static const int64_t size[2][3] = {{32, 256, 384}, {128, 49, 96}}; /* images, tokens, hidden */
    int i;

    for (i = 0; i < 2; i++) {
        int64_t rows = size[i][0] * size[i][1], c = size[i][2];

        bench_linear(dtype, rows, c, 3 * c, 0);
        bench_linear(dtype, rows, c, c, 0);
        bench_linear(dtype, rows, c, 4 * c, 1);
        bench_linear(dtype, rows, 4 * c, c, 0);
        bench_rows(dtype, size[i][0], size[i][1], c, copy);
    }
}

int
main(int argc, char **argv)
{
    d2c_error err;
    double copy;

    threads = atoi(bench_option(argc, argv, "--threads", "2"));
    if (strcmp(bench_option(argc, argv, "--clock", "wall"), "cpu") == 0)
        bench_clock = CLOCK_PROCESS_CPUTIME_ID;
    bench_check(d2c_backend_open(&be, "cpu", threads, &err), &err);
    bench_check(d2c_plan_cache_open(&cache, threads, threads, &err), &err);
    copy = memcpy_rate();
    bench_dtype(D2C_F32, copy);
    if (be->has_bf16)
        bench_dtype(D2C_BF16, copy);
    bench_optimizer(copy);
    d2c_plan_cache_close(cache);
    d2c_backend_close(be);
    return 0;
}
