/*
 * worker.h: the engine's computing threads.
 *
 * Each thread has a backend of one thread, so a unit of work (one image's timesteps, one prompt, one picture) gives the
 * same bits whichever thread takes it and whatever the others do.  Decoding an image is part of its unit.  On a GPU a
 * backend is a stream of its own over the same weights: the device has the units of several threads at once, and works
 * while others are being decoded.
 *
 * A unit that finds no memory is tried again while the other threads hold none (relief.h), then after other models were
 * let go one by one, then with passes of half as many rows, down to one.
 */
#ifndef D2C_ENGINE_WORKER_H
#define D2C_ENGINE_WORKER_H

#include "engine/queue.h"
#include "engine/registry.h"
#include "engine/relief.h"
#include "nn/difficulty.h"

#define D2C_MODEL_NAME_SIZE 128

/* What all threads share. */
typedef struct d2c_pool {
    d2c_queue *queue;
    d2c_registry *registry;
    d2c_relief *relief;    /* NULL where one worker is alone */
    const char *device;    /* what "auto" came to: "cpu", "cuda:0" */
    const char *precision; /* "f32", "bf16" or "fp8" */
    const char *build;
    const char *log; /* NULL: nothing is logged */
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

/* The model of that name and role; given back with d2c_loaded_release. */
d2c_status d2c_worker_model(d2c_worker *worker, d2c_loaded **loaded, const char *name, d2c_role role,
                            d2c_error *err);

/* The thread's scorer for a model and a number of timesteps; valid until the thread's next task. */
d2c_status d2c_worker_scorer(d2c_worker *worker, d2c_scorer **scorer, const d2c_sit_config **config,
                             const char *model, int timesteps, d2c_error *err);

/* The thread's memory for encoders. */
d2c_scratch *d2c_worker_scratch(d2c_worker *worker);

/* Whether the client of the task under way has gone: a long unit may then end. */
int d2c_worker_abandoned(const d2c_worker *worker);
/* D2C_CANCELLED when it has. */
d2c_status d2c_worker_check_client(const d2c_worker *worker, d2c_error *err);

/* Before a unit's first try, and after its last. */
void d2c_worker_begin(d2c_worker *worker);
void d2c_worker_end(d2c_worker *worker);
/* After a try that found no memory: makes room for another; false when there is nothing left to give. */
int d2c_worker_make_room(d2c_worker *worker);

#endif
