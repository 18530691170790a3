/* relief.c: what the computing threads do for one of them that finds no memory left on the device. */
#include "engine/relief.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* A unit of work takes less than this, but for the largest. */
#define PATIENCE_SECONDS 1

struct d2c_relief {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int members;
    int resting; /* members that wait here, holding nothing */
    int asking;  /* of those, the ones that want the floor */
    int taken;   /* the floor is */
    int told;
};

d2c_status
d2c_relief_create(d2c_relief **relief, d2c_error *err)
{
    d2c_relief *r = calloc(1, sizeof *r);
    pthread_condattr_t attributes;

    if (r == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    *relief = r;
    return D2C_OK;
}

/* Changes a counter and tells everybody. */
static void
change(d2c_relief *relief, int *counter, int by)
{
    pthread_mutex_lock(&relief->lock);
    *counter += by;
    pthread_cond_broadcast(&relief->changed);
    pthread_mutex_unlock(&relief->lock);
}

void
d2c_relief_join(d2c_relief *relief)
{
    change(relief, &relief->members, 1);
}

void
d2c_relief_leave(d2c_relief *relief)
{
    change(relief, &relief->members, -1);
}

/* The lock is held, and relief->asking counts the caller. */
static void
wait_for_floor(d2c_relief *relief)
{
    while (relief->taken)
        pthread_cond_wait(&relief->changed, &relief->lock);
    relief->asking--;
    relief->taken = 1;
}

/* Until all hold nothing, or patience ends; the lock is held. */
static void
wait_for_others(d2c_relief *relief)
{
    struct timespec limit;
    int late = 0;

    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += PATIENCE_SECONDS;
    while (relief->resting < relief->members && !late)
        late = pthread_cond_timedwait(&relief->changed, &relief->lock, &limit) != 0;
}

void
d2c_relief_take_floor(d2c_relief *relief, d2c_queue *queue, int has_it)
{
    pthread_mutex_lock(&relief->lock);
    relief->resting++;
    relief->asking += !has_it;
    pthread_cond_broadcast(&relief->changed);
    pthread_mutex_unlock(&relief->lock);
    /* Whoever wakes now finds that the floor is wanted. */
    d2c_queue_rouse(queue);
    pthread_mutex_lock(&relief->lock);
    if (!has_it)
        wait_for_floor(relief);
    wait_for_others(relief);
    relief->resting--;
    pthread_mutex_unlock(&relief->lock);
}

void
d2c_relief_free_floor(d2c_relief *relief)
{
    change(relief, &relief->taken, -1);
}

int
d2c_relief_is_wanted(d2c_relief *relief)
{
    int wanted;

    pthread_mutex_lock(&relief->lock);
    wanted = relief->taken || relief->asking > 0;
    pthread_mutex_unlock(&relief->lock);
    return wanted;
}

void
d2c_relief_pause(d2c_relief *relief)
{
    pthread_mutex_lock(&relief->lock);
    relief->resting++;
    pthread_cond_broadcast(&relief->changed);
    while (relief->taken || relief->asking > 0)
        pthread_cond_wait(&relief->changed, &relief->lock);
    relief->resting--;
    pthread_mutex_unlock(&relief->lock);
}

int
d2c_relief_is_new(d2c_relief *relief)
{
    int is_new;

    pthread_mutex_lock(&relief->lock);
    is_new = !relief->told;
    relief->told = 1;
    pthread_mutex_unlock(&relief->lock);
    return is_new;
}
