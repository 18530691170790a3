/*
 * gpu.h: what the programs of the GPU check share: options, device tensors with contents, networks with weights, time.
 *
 * Every program takes --device (cuda; cpu serves for trying the program out) and sizes by options, so that all of them
 * run small where there is no GPU.
 */
#ifndef D2C_BENCH_GPU_GPU_H
#define D2C_BENCH_GPU_GPU_H

#include "bench.h"

#include "base/philox.h"
#include "nn/sit.h"

static d2c_backend *be; /* the device's; a failure on it ends the program */

static inline void
run(d2c_status status)
{
    bench_check(status, &be->error);
}

/* A stepper's notice: that steps are not taken as they were asked for belongs into the report. */
static inline void
gpu_notice(void *closure, const char *line)
{
    (void)closure;
    fprintf(stderr, "bench: %s\n", line);
}

static inline int
gpu_int(int argc, char **argv, const char *name, const char *without)
{
    return atoi(bench_option(argc, argv, name, without));
}

static inline d2c_backend *
gpu_open(const char *device, int threads)
{
    d2c_backend *opened;
    d2c_error err;

    bench_check(d2c_backend_open(&opened, device, threads, &err), &err);
    return opened;
}

static inline void *
gpu_memory(size_t bytes)
{
    void *block;

    run(d2c_alloc(be, &block, bytes, D2C_MEMORY_DEVICE));
    return block;
}

static inline void
gpu_free(d2c_tensor t)
{
    d2c_free(be, t.data, D2C_MEMORY_DEVICE);
}

static inline void *
gpu_upload(const void *host, size_t bytes)
{
    void *block = gpu_memory(bytes);

    run(d2c_upload(be, block, host, bytes));
    return block;
}

/* 0, 1, 2, ... as device memory [count]. */
static inline d2c_tensor
gpu_numbers(int64_t count)
{
    int64_t *host = bench_memory((size_t)count * sizeof *host), i;
    d2c_tensor t;

    for (i = 0; i < count; i++)
        host[i] = i;
    t = d2c_tensor1(gpu_upload(host, (size_t)count * sizeof *host), D2C_I64, count);
    free(host);
    return t;
}

/* A tensor [rows, width] of normals times `scale`: numbers that are all alike can be quicker. */
static inline d2c_tensor
gpu_tensor(d2c_dtype dtype, int64_t rows, int64_t width, float scale)
{
    d2c_tensor id = gpu_numbers(rows), out;
    d2c_tensor f = d2c_tensor2(gpu_memory((size_t)(rows * width) * sizeof(float)), D2C_F32, rows, width);

    run(d2c_draw_normal(be, f, 1, id, id, D2C_PURPOSE_TEST));
    run(d2c_axpby(be, f, 0, f, scale));
    gpu_free(id);
    if (dtype == D2C_F32)
        return f;
    out = d2c_tensor2(gpu_memory((size_t)(rows * width) * d2c_dtype_size(dtype)), dtype, rows, width);
    run(d2c_cast(be, out, f));
    gpu_free(f);
    return out;
}

/* Gives every parameter a value, those that start as zeros too, so that the network computes something.  Other streams
 * may use the network then. */
static inline void
gpu_randomize(d2c_sit *sit, uint64_t seed)
{
    int64_t count = sit->params.trainable, i;
    float *values = bench_memory((size_t)count * sizeof *values);
    d2c_error err;

#pragma omp parallel for
    for (i = 0; i < count; i++) {
        d2c_philox_block block =
            d2c_philox(seed, (uint32_t)(i / 4), 0, d2c_philox_stream(0, D2C_PURPOSE_TEST));

        values[i] = (d2c_philox_uniform(block.w[i % 4]) - 0.5f) * 0.08f;
    }
    run(d2c_upload(be, sit->params.value, values, (size_t)count * sizeof *values));
    free(values);
    bench_check(d2c_params_refresh(&sit->params, be, &err), &err);
    run(d2c_synchronize(be));
}

/* Seconds of one call: about `seconds` of calls queued without waiting, after one to warm up; the median of five. */
#define GPU_TIME(result, seconds, call)                                                                      \
    do {                                                                                                     \
        double gpu_time[5], gpu_start;                                                                       \
        int gpu_count, gpu_round, gpu_i;                                                                     \
        run(call);                                                                                           \
        run(d2c_synchronize(be));                                                                            \
        gpu_start = bench_now();                                                                             \
        run(call);                                                                                           \
        run(d2c_synchronize(be));                                                                            \
        gpu_count = (int)((seconds) / 5 / (bench_now() - gpu_start + 1e-6));                                 \
        gpu_count = gpu_count < 1 ? 1 : gpu_count > 1000 ? 1000 : gpu_count;                                 \
        for (gpu_round = 0; gpu_round < 5; gpu_round++) {                                                    \
            gpu_start = bench_now();                                                                         \
            for (gpu_i = 0; gpu_i < gpu_count; gpu_i++)                                                      \
                run(call);                                                                                   \
            run(d2c_synchronize(be));                                                                        \
            gpu_time[gpu_round] = (bench_now() - gpu_start) / gpu_count;                                     \
        }                                                                                                    \
        (result) = gpu_median(gpu_time, 5);                                                                  \
    } while (0)

static inline int
gpu_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static inline double
gpu_median(double *times, int count)
{
    qsort(times, (size_t)count, sizeof *times, gpu_compare);
    return times[count / 2];
}

#endif
