/*
 * worker.h: the engine's computing threads.
 *
 * Each thread has a backend of one thread, so a unit of work (one image's timesteps, one prompt, one picture) gives the
 * same bits whichever thread takes it and whatever the others do.  Decoding an image is part of its unit.
 */
#ifndef D2C_ENGINE_WORKER_H
#define D2C_ENGINE_WORKER_H

#include "engine/queue.h"
#include "engine/registry.h"
#include "nn/difficulty.h"

/* What all threads share. */
typedef struct d2c_pool {
    d2c_queue *queue;
    d2c_registry *registry;
    const char *device;    /* what "auto" came to: "cpu" */
    const char *precision; /* "f32" or "bf16" */
    const char *build;
    int64_t max_image_pixels;
    int threads;
} d2c_pool;

typedef struct d2c_worker d2c_worker;

/* Opens a backend for each thread and starts them; signals are blocked in the threads. */
d2c_status d2c_workers_start(const d2c_pool *pool, d2c_error *err);

/* One worker without a thread, for whoever runs requests itself. */
d2c_status d2c_worker_open(d2c_worker **worker, const d2c_pool *pool, d2c_error *err);
void d2c_worker_close(d2c_worker *worker);

const d2c_pool *d2c_worker_pool(const d2c_worker *worker);
d2c_backend *d2c_worker_backend(const d2c_worker *worker);

/* The thread's scorer for a model and a number of timesteps; valid until the thread's next task. */
d2c_status d2c_worker_scorer(d2c_worker *worker, d2c_scorer **scorer, const d2c_sit_config **config,
                             const char *model, int timesteps, d2c_error *err);

#endif
