/* loader.c: the thread that puts batches together, and the ring it fills. */
#include "train/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/progress.h"
#include "train/cache.h"
#include "train/retry.h"

#define IN_USE 2 /* batches that have been taken and stay */
#define RING (IN_USE + 3)

struct d2c_loader {
    d2c_loader_setting setting;
    d2c_cache *cache; /* one of the two */
    d2c_stream *stream;
    d2c_batch ring[RING];

    pthread_t thread;
    int thread_started;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t made, taken; /* batches so far; ring[n % RING]; the newest taken ones are in use */
    volatile int stop;
    d2c_status status; /* how the thread ended */
    d2c_error error;
    double waited;
};

/* The row at position p of the endless sequence of epochs, into its place of the batch. */
static d2c_status
put_row(d2c_loader *loader, d2c_batch *batch, int place, d2c_error *err)
{
    const d2c_loader_setting *setting = &loader->setting;
    int64_t position = batch->step * setting->share.batch + setting->share.first + place;
    int64_t rows = setting->table->rows;
    int64_t epoch = position / rows;
    const d2c_row *row;
    d2c_row cached;

    if (loader->cache != NULL) {
        D2C_TRY(d2c_cache_row(loader->cache, &cached, setting->seed, epoch, position % rows, err));
        row = &cached;
    } else
        D2C_TRY(d2c_stream_next(loader->stream, &row, err));
    d2c_batch_put(batch, place, row, setting->seed, epoch, &setting->shape);
    if (setting->flip && d2c_row_flips(setting->seed, row->number, epoch))
        d2c_batch_mirror(batch, place, &setting->shape);
    if (setting->class_hash != NULL &&
        batch->text_hash[batch->text_index[place]] != setting->class_hash[row->label])
        batch->mixed_texts = 1;
    if (place == batch->size - 1)
        d2c_order_key_of(&batch->last, row->id, setting->seed, epoch);
    return D2C_OK;
}

static d2c_status
make_batch(d2c_loader *loader, d2c_batch *batch, int64_t step, d2c_error *err)
{
    int place;

    d2c_batch_clear(batch, &loader->setting.shape, step);
    for (place = 0; place < batch->size; place++)
        D2C_TRY(put_row(loader, batch, place, err));
    return D2C_OK;
}

/* The thread: fills free places of the ring until it is stopped or fails. */
static void *
load(void *argument)
{
    d2c_loader *loader = argument;
    d2c_status status = D2C_OK;

    while (status == D2C_OK) {
        pthread_mutex_lock(&loader->lock);
        while (loader->made - loader->taken >= RING - IN_USE && !loader->stop)
            pthread_cond_wait(&loader->changed, &loader->lock);
        pthread_mutex_unlock(&loader->lock);
        if (loader->stop)
            break;
        status = make_batch(loader, &loader->ring[loader->made % RING], loader->setting.step + loader->made,
                            &loader->error);
        pthread_mutex_lock(&loader->lock);
        loader->status = status;
        loader->made += status == D2C_OK;
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
    }
    return NULL;
}

static d2c_status
read_cache(void *closure, PGconn *connection, d2c_error *err)
{
    d2c_loader *loader = closure;
    const d2c_loader_setting *setting = &loader->setting;

    return d2c_cache_open(&loader->cache, connection, setting->table, &setting->shape, setting->cache_memory,
                          setting->threads, err);
}

/* Reads the set into memory when it fits, otherwise opens the stream at the first batch's row. */
static d2c_status
open_source(d2c_loader *loader, d2c_error *err)
{
    const d2c_loader_setting *setting = &loader->setting;
    d2c_stream_setting stream = {setting->conninfo, setting->table,   &setting->shape, setting->share,
                                 setting->seed,     setting->retries, &loader->stop};
    int64_t position = setting->step * setting->share.batch;
    d2c_patience patience = {setting->retries, setting->stop, 0};

    if (setting->cache_memory > 0)
        D2C_TRY(d2c_retry(setting->conninfo, patience, read_cache, loader, err));
    if (loader->cache != NULL)
        return D2C_OK;
    D2C_TRY(d2c_stream_open(&loader->stream, &stream, err));
    d2c_stream_seek(loader->stream, position / setting->table->rows, position % setting->table->rows,
                    setting->after);
    return D2C_OK;
}

d2c_status
d2c_loader_open(d2c_loader **loader, const d2c_loader_setting *setting, d2c_error *err)
{
    d2c_loader *made = calloc(1, sizeof *made);
    d2c_status status = D2C_OK;
    int i;

    *loader = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->setting = *setting;
    pthread_mutex_init(&made->lock, NULL);
    pthread_cond_init(&made->changed, NULL);
    for (i = 0; i < RING && status == D2C_OK; i++)
        status = d2c_batch_allocate(&made->ring[i], &setting->shape, (int)setting->share.rows, err);
    if (status == D2C_OK)
        status = open_source(made, err);
    if (status == D2C_OK && pthread_create(&made->thread, NULL, load, made) != 0)
        status = d2c_fail(err, D2C_IO, "could not start a thread");
    made->thread_started = status == D2C_OK;
    if (status == D2C_OK)
        *loader = made;
    else
        d2c_loader_close(made);
    return status;
}

void
d2c_loader_close(d2c_loader *loader)
{
    int i;

    if (loader == NULL)
        return;
    if (loader->thread_started) {
        pthread_mutex_lock(&loader->lock);
        loader->stop = 1;
        pthread_cond_broadcast(&loader->changed);
        pthread_mutex_unlock(&loader->lock);
        if (loader->stream != NULL)
            d2c_stream_interrupt(loader->stream);
        pthread_join(loader->thread, NULL);
    }
    for (i = 0; i < RING; i++)
        d2c_batch_free(&loader->ring[i]);
    d2c_cache_close(loader->cache);
    d2c_stream_close(loader->stream);
    pthread_cond_destroy(&loader->changed);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}

static int
is_stopped(const d2c_loader *loader)
{
    return loader->setting.stop != NULL && *loader->setting.stop;
}

/* For a change, or a tenth of a second: nobody wakes the waiter when the user asks for the end. */
static void
wait_a_moment(d2c_loader *loader)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 100 * 1000 * 1000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&loader->changed, &loader->lock, &until);
}

d2c_status
d2c_loader_next(d2c_loader *loader, const d2c_batch **batch, d2c_error *err)
{
    double start = d2c_clock();
    d2c_status status = D2C_OK;

    pthread_mutex_lock(&loader->lock);
    while (loader->made == loader->taken && loader->status == D2C_OK && !is_stopped(loader))
        wait_a_moment(loader);
    if (loader->made > loader->taken) {
        *batch = &loader->ring[loader->taken % RING];
        loader->taken++;
        pthread_cond_broadcast(&loader->changed);
    } else if (loader->status == D2C_OK)
        status = d2c_fail(err, D2C_CANCELLED, "cancelled");
    else {
        status = loader->status;
        if (err != NULL)
            *err = loader->error;
    }
    pthread_mutex_unlock(&loader->lock);
    loader->waited += d2c_clock() - start;
    return status;
}

double
d2c_loader_waited(const d2c_loader *loader)
{
    return loader->waited;
}

void
d2c_loader_count(const d2c_loader *loader, d2c_stream_counters *counters)
{
    *counters = (d2c_stream_counters){0};
    if (loader->stream != NULL)
        d2c_stream_count(loader->stream, counters);
}

size_t
d2c_loader_cached(const d2c_loader *loader)
{
    return loader->cache != NULL ? d2c_cache_bytes(loader->cache) : 0;
}

const uint8_t *
d2c_loader_pixels(const d2c_loader *loader, int64_t *rows)
{
    *rows = loader->setting.table->rows;
    return loader->cache != NULL ? d2c_cache_pixels(loader->cache) : NULL;
}
