/* bench.h: what the benchmarks share: time, the demo's network, and oneDNN's own time for a matrix product. */
#ifndef D2C_BENCH_BENCH_H
#define D2C_BENCH_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops/backend.h"
#include "ops/dnnl_plan.h"
#include "ops/ops.h"

/* Fields of the d2c_sit_config that the demo trains. */
#define BENCH_DEMO_NETWORK                                                                                   \
    .depth = 4, .hidden = 96, .heads = 3, .patch = 4, .channels = 1, .out_channels = 1, .height = 28,        \
    .width = 28, .classes = 10, .null_class = 1

/* On a busy machine, one-thread runs may be timed by the processor time they use. */
static clockid_t bench_clock = CLOCK_MONOTONIC;

static inline double
bench_now(void)
{
    struct timespec now;

    clock_gettime(bench_clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* The value of an option, or what it is without. */
static inline const char *
bench_option(int argc, char **argv, const char *name, const char *without)
{
    int i;

    for (i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return without;
}

/* Ends the program with the error's text when a call failed. */
static inline void
bench_check(d2c_status status, const d2c_error *err)
{
    if (status == D2C_OK)
        return;
    fprintf(stderr, "bench: %s\n%s\n", err->message, err->detail);
    exit(1);
}

/* Zeroed memory of the kind that the CPU backend works in, for the peers as well. */
static inline void *
bench_memory(size_t bytes)
{
    static d2c_backend nowhere;
    void *block;

    bench_check(d2c_host_alloc(&nowhere, &block, bytes, D2C_MEMORY_DEVICE), &nowhere.error);
    memset(block, 0, bytes);
    return block;
}

/* Seconds of the fastest of several runs of the statement, after one to warm up; about `seconds` in all. */
#define BENCH_BEST(best, seconds, statement)                                                                 \
    do {                                                                                                     \
        double bench_end, bench_start;                                                                       \
        int bench_runs = 0;                                                                                  \
        statement;                                                                                           \
        (best) = 1e30;                                                                                       \
        bench_end = bench_now() + (seconds);                                                                 \
        do {                                                                                                 \
            bench_start = bench_now();                                                                       \
            statement;                                                                                       \
            bench_start = bench_now() - bench_start;                                                         \
            if (bench_start < (best))                                                                        \
                (best) = bench_start;                                                                        \
        } while (++bench_runs < 3 || bench_now() < bench_end);                                               \
    } while (0)

/* Which operand of a product is stored transposed. */
enum { BENCH_PLAIN, BENCH_TRANSPOSE_A, BENCH_TRANSPOSE_B };

/* Seconds that oneDNN takes for c [batch, m, n] = a [batch, m, k] b [batch, k, n], all dense; batch 0: plain. */
static inline double
bench_product(d2c_plan_cache *cache, int64_t batch, int64_t m, int64_t k, int64_t n, int transpose,
              d2c_dtype operands, d2c_dtype result)
{
    size_t count = batch > 0 ? (size_t)batch : 1, size = d2c_dtype_size(operands);
    void *a = bench_memory(count * (size_t)(m * k) * size), *b = bench_memory(count * (size_t)(k * n) * size);
    void *c = bench_memory(count * (size_t)(m * n) * d2c_dtype_size(result));
    d2c_product p;
    d2c_error err;
    double best;

    memset(&p, 0, sizeof p);
    p.batch = batch;
    p.m = m;
    p.n = n;
    p.k = k;
    p.a_type = p.b_type = (int32_t)operands;
    p.c_type = (int32_t)result;
    p.a_stride[0] = m * k;
    p.b_stride[0] = k * n;
    p.c_stride[0] = m * n;
    p.a_stride[1] = transpose == BENCH_TRANSPOSE_A ? 1 : k;
    p.a_stride[2] = transpose == BENCH_TRANSPOSE_A ? m : 1;
    p.b_stride[1] = transpose == BENCH_TRANSPOSE_B ? 1 : n;
    p.b_stride[2] = transpose == BENCH_TRANSPOSE_B ? k : 1;
    p.c_stride[1] = n;
    p.c_stride[2] = 1;
    BENCH_BEST(best, 0.1, bench_check(d2c_product_run(cache, &p, c, a, b, NULL, &err), &err));
    free(a);
    free(b);
    free(c);
    return best;
}

#endif
