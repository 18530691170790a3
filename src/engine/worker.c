/* worker.c: the engine's computing threads. */
#include "engine/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "engine/requests.h"

#define SCORERS 4 /* kept by each thread: models or timesteps in alternation */

typedef struct scorer_slot {
    d2c_loaded *loaded; /* NULL: empty; counted as a user */
    d2c_scorer *scorer;
    int timesteps;
    uint64_t used;
} scorer_slot;

struct d2c_worker {
    const d2c_pool *pool;
    d2c_backend *be;
    uint64_t rouses; /* the queue's, as last seen */
    uint64_t clock;
    scorer_slot slots[SCORERS];
};

const d2c_pool *
d2c_worker_pool(const d2c_worker *worker)
{
    return worker->pool;
}

d2c_backend *
d2c_worker_backend(const d2c_worker *worker)
{
    return worker->be;
}

static void
empty_slot(d2c_worker *worker, scorer_slot *slot)
{
    if (slot->loaded == NULL)
        return;
    d2c_scorer_close(slot->scorer);
    d2c_loaded_release(worker->pool->registry, slot->loaded, worker->be);
    slot->loaded = NULL;
}

/* Gives back the models that the registry let go. */
static void
sweep_slots(d2c_worker *worker)
{
    int i;

    for (i = 0; i < SCORERS; i++)
        if (worker->slots[i].loaded != NULL &&
            d2c_loaded_is_retired(worker->pool->registry, worker->slots[i].loaded))
            empty_slot(worker, &worker->slots[i]);
}

/* The slot that holds what is wanted, or else the one to use for it: empty or used longest ago. */
static scorer_slot *
choose_slot(d2c_worker *worker, const d2c_loaded *loaded, int timesteps)
{
    scorer_slot *best = &worker->slots[0];
    int i;

    for (i = 0; i < SCORERS; i++) {
        scorer_slot *slot = &worker->slots[i];

        if (slot->loaded == loaded && slot->timesteps == timesteps)
            return slot;
        if (best->loaded != NULL && (slot->loaded == NULL || slot->used < best->used))
            best = slot;
    }
    return best;
}

/* Opens the scorer in the slot, which takes over the caller's use of the model. */
static d2c_status
fill_slot(d2c_worker *worker, scorer_slot *slot, d2c_loaded *loaded, int timesteps, d2c_error *err)
{
    d2c_status status;

    empty_slot(worker, slot);
    status = d2c_scorer_open(&slot->scorer, d2c_loaded_model(loaded)->sit, worker->be, timesteps, err);
    if (status != D2C_OK)
        return status;
    slot->loaded = loaded;
    slot->timesteps = timesteps;
    return D2C_OK;
}

d2c_status
d2c_worker_scorer(d2c_worker *worker, d2c_scorer **scorer, const d2c_sit_config **config, const char *model,
                  int timesteps, d2c_error *err)
{
    d2c_registry *registry = worker->pool->registry;
    d2c_status status = D2C_OK;
    d2c_loaded *loaded;
    scorer_slot *slot;

    D2C_TRY(d2c_registry_acquire(registry, &loaded, model, D2C_MODEL_SIT, worker->be, err));
    slot = choose_slot(worker, loaded, timesteps);
    if (slot->loaded == loaded && slot->timesteps == timesteps)
        d2c_loaded_release(registry, loaded, worker->be);
    else {
        status = fill_slot(worker, slot, loaded, timesteps, err);
        if (status != D2C_OK) {
            d2c_loaded_release(registry, loaded, worker->be);
            return status;
        }
    }
    slot->used = ++worker->clock;
    *scorer = slot->scorer;
    *config = &d2c_loaded_model(loaded)->sit->config;
    return D2C_OK;
}

static void *
run_worker(void *closure)
{
    d2c_worker *worker = closure;

    for (;;) {
        d2c_task *task = d2c_queue_pop(worker->pool->queue, &worker->rouses);

        if (task == NULL)
            sweep_slots(worker);
        else {
            d2c_request_run(worker, task);
            d2c_queue_finish(worker->pool->queue, task);
        }
    }
    return NULL;
}

d2c_status
d2c_worker_open(d2c_worker **worker, const d2c_pool *pool, d2c_error *err)
{
    d2c_worker *w = calloc(1, sizeof *w);
    d2c_status status;

    if (w == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    w->pool = pool;
    status = d2c_backend_open(&w->be, pool->device, 1, err);
    if (status != D2C_OK) {
        free(w);
        return status;
    }
    *worker = w;
    return D2C_OK;
}

void
d2c_worker_close(d2c_worker *worker)
{
    int i;

    for (i = 0; i < SCORERS; i++)
        empty_slot(worker, &worker->slots[i]);
    d2c_backend_close(worker->be);
    free(worker);
}

static d2c_status
start_worker(const d2c_pool *pool, d2c_error *err)
{
    d2c_worker *worker;
    pthread_t thread;

    D2C_TRY(d2c_worker_open(&worker, pool, err));
    if (pthread_create(&thread, NULL, run_worker, worker) != 0) {
        d2c_worker_close(worker);
        return d2c_fail(err, D2C_NO_MEMORY, "could not start a computing thread");
    }
    pthread_detach(thread);
    return D2C_OK;
}

d2c_status
d2c_workers_start(const d2c_pool *pool, d2c_error *err)
{
    d2c_status status = D2C_OK;
    sigset_t all, old;
    int i;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (i = 0; i < pool->threads && status == D2C_OK; i++)
        status = start_worker(pool, err);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return status;
}
