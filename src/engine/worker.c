/* worker.c: the engine's computing threads. */
#include "engine/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "engine/log.h"
#include "engine/requests.h"

#define NEEDED 3  /* models of one unit: a denoiser, its text encoder and its autoencoder */
#define SCORERS 4 /* kept by each thread: models or timesteps in alternation */

typedef struct scorer_slot {
    d2c_loaded *loaded; /* NULL: empty; counted as a user */
    d2c_scorer *scorer;
    int timesteps;
    uint64_t used;
} scorer_slot;

/* One unit's tries. */
typedef struct tries {
    char model[NEEDED][D2C_MODEL_NAME_SIZE]; /* those it needs, which must not be let go for it */
    int needed;
    int failed;
    int has_floor; /* of the relief */
    int rows;      /* a scorer's passes have at most so many */
    int widest;    /* of the scorer that it used; 0: none yet */
} tries;

struct d2c_worker {
    const d2c_pool *pool;
    d2c_lane *lane; /* of the task under way */
    d2c_backend *be;
    uint64_t rouses; /* the queue's, as last seen */
    uint64_t clock;
    tries tries;
    d2c_scratch scratch;
    scorer_slot slots[SCORERS];
};

int
d2c_worker_abandoned(const d2c_worker *worker)
{
    return worker->lane != NULL && atomic_load(&worker->lane->dropped);
}

static int
is_abandoned(const void *worker)
{
    return d2c_worker_abandoned(worker);
}

d2c_status
d2c_worker_check_client(const d2c_worker *worker, d2c_error *err)
{
    return d2c_worker_abandoned(worker) ? d2c_fail(err, D2C_CANCELLED, "the client has gone") : D2C_OK;
}

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

d2c_scratch *
d2c_worker_scratch(d2c_worker *worker)
{
    return &worker->scratch;
}

/* ---- scorers ------------------------------------------------------------------------------------------------------ */

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
    status = d2c_scorer_open_narrow(&slot->scorer, d2c_model_sit(d2c_loaded_model(loaded)), worker->be,
                                    timesteps, worker->tries.rows, err);
    if (status != D2C_OK)
        return status;
    d2c_scorer_set_stop(slot->scorer, is_abandoned, worker);
    slot->loaded = loaded;
    slot->timesteps = timesteps;
    return D2C_OK;
}

/* Notes that the unit needs the model. */
static void
need(tries *t, const char *name)
{
    int i;

    for (i = 0; i < t->needed; i++)
        if (strcmp(t->model[i], name) == 0)
            return;
    if (t->needed < NEEDED)
        snprintf(t->model[t->needed++], sizeof t->model[0], "%s", name);
}

d2c_status
d2c_worker_model(d2c_worker *worker, d2c_loaded **loaded, const char *name, d2c_role role, d2c_error *err)
{
    need(&worker->tries, name);
    return d2c_registry_acquire(worker->pool->registry, loaded, name, role, worker->be, err);
}

d2c_status
d2c_worker_scorer(d2c_worker *worker, d2c_scorer **scorer, const d2c_sit_config **config, const char *model,
                  int timesteps, d2c_error *err)
{
    d2c_registry *registry = worker->pool->registry;
    d2c_status status = D2C_OK;
    d2c_loaded *loaded;
    scorer_slot *slot;

    D2C_TRY(d2c_worker_model(worker, &loaded, model, D2C_ROLE_DENOISER, err));
    worker->tries.widest = timesteps < worker->tries.rows ? timesteps : worker->tries.rows;
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
    *config = &d2c_model_sit(d2c_loaded_model(loaded))->config;
    return D2C_OK;
}

/* ---- when memory runs out ----------------------------------------------------------------------------------------- */

/* Gives back everything that can be made again. */
static void
empty_hands(d2c_worker *worker)
{
    int i;

    for (i = 0; i < SCORERS; i++)
        empty_slot(worker, &worker->slots[i]);
    d2c_scratch_free(&worker->scratch, worker->be);
}

void
d2c_worker_begin(d2c_worker *worker)
{
    worker->tries = (tries){.rows = D2C_PASS_ROWS};
}

void
d2c_worker_end(d2c_worker *worker)
{
    if (worker->tries.has_floor)
        d2c_relief_free_floor(worker->pool->relief);
    worker->tries.has_floor = 0;
}

static void
say_narrow(const d2c_worker *worker)
{
    const d2c_pool *pool = worker->pool;

    if (pool->log != NULL && pool->relief != NULL && d2c_relief_is_new(pool->relief))
        d2c_log(pool->log, D2C_LOG_LIMIT,
                "device memory is short: model \"%s\" is run on %d rows at a time instead of %d, so that the "
                "last bits of its scores may differ",
                worker->tries.model[0], worker->tries.rows, D2C_PASS_ROWS);
}

int
d2c_worker_make_room(d2c_worker *worker)
{
    const d2c_pool *pool = worker->pool;
    tries *t = &worker->tries;
    const char *keep[NEEDED + 1] = {NULL};
    int let_go = 0, i;

    for (i = 0; i < t->needed; i++)
        keep[i] = t->model[i];
    empty_hands(worker);
    if (t->failed++ > 0)
        let_go = d2c_registry_let_go(pool->registry, keep, worker->be);
    if (pool->relief != NULL)
        d2c_relief_take_floor(pool->relief, pool->queue, t->has_floor);
    t->has_floor = pool->relief != NULL;
    if (let_go || t->failed == 1)
        return 1;
    if (t->widest <= 1)
        return 0;
    t->rows = t->widest / 2;
    say_narrow(worker);
    return 1;
}

/* What a thread does when it was roused. */
static void
look_around(d2c_worker *worker)
{
    d2c_relief *relief = worker->pool->relief;

    sweep_slots(worker);
    if (relief == NULL || !d2c_relief_is_wanted(relief))
        return;
    empty_hands(worker);
    d2c_relief_pause(relief);
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

/* Tasks that come after the one that lost the device are not run. */
static void
run_task(d2c_worker *worker, d2c_task *task)
{
    d2c_queue *queue = worker->pool->queue;
    d2c_error failure;

    worker->lane = task->lane;
    if (d2c_queue_failed(queue, &failure))
        d2c_task_fail(task, &failure);
    else
        d2c_request_run(worker, task);
    worker->lane = NULL;
    if (worker->be->lost) {
        d2c_request_lost(worker, &failure);
        d2c_queue_fail(queue, &failure);
    }
    d2c_queue_finish(queue, task);
}

static void *
run_worker(void *closure)
{
    d2c_worker *worker = closure;

    for (;;) {
        d2c_task *task = d2c_queue_pop(worker->pool->queue, &worker->rouses);

        if (task == NULL)
            look_around(worker);
        else
            run_task(worker, task);
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
    if (pool->relief != NULL)
        d2c_relief_join(pool->relief);
    d2c_worker_begin(w);
    *worker = w;
    return D2C_OK;
}

void
d2c_worker_close(d2c_worker *worker)
{
    empty_hands(worker);
    if (worker->pool->relief != NULL)
        d2c_relief_leave(worker->pool->relief);
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
