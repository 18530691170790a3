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
    uint64_t round; /* counts what was asked */
    int members;
    int given;  /* members that have given in this round, those that ask included */
    int asking; /* members that wait in d2c_relief_ask */
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

static void
count_member(d2c_relief *relief, int change)
{
    pthread_mutex_lock(&relief->lock);
    relief->members += change;
    pthread_cond_broadcast(&relief->changed);
    pthread_mutex_unlock(&relief->lock);
}

void
d2c_relief_join(d2c_relief *relief)
{
    count_member(relief, 1);
}

void
d2c_relief_leave(d2c_relief *relief)
{
    count_member(relief, -1);
}

/* A new round: only those that wait themselves have given already. */
static void
begin_round(d2c_relief *relief)
{
    pthread_mutex_lock(&relief->lock);
    relief->round++;
    relief->asking++;
    relief->given = relief->asking;
    pthread_cond_broadcast(&relief->changed);
    pthread_mutex_unlock(&relief->lock);
}

void
d2c_relief_ask(d2c_relief *relief, d2c_queue *queue, uint64_t *seen)
{
    struct timespec limit;
    int late = 0;

    begin_round(relief);
    d2c_queue_rouse(queue);
    clock_gettime(CLOCK_MONOTONIC, &limit);
    limit.tv_sec += PATIENCE_SECONDS;
    pthread_mutex_lock(&relief->lock);
    while (relief->given < relief->members && !late)
        late = pthread_cond_timedwait(&relief->changed, &relief->lock, &limit) != 0;
    relief->asking--;
    *seen = relief->round;
    pthread_mutex_unlock(&relief->lock);
}

int
d2c_relief_owed(d2c_relief *relief, uint64_t *seen)
{
    int owed;

    pthread_mutex_lock(&relief->lock);
    owed = *seen != relief->round;
    *seen = relief->round;
    pthread_mutex_unlock(&relief->lock);
    return owed;
}

void
d2c_relief_given(d2c_relief *relief, uint64_t seen)
{
    pthread_mutex_lock(&relief->lock);
    if (seen == relief->round && ++relief->given >= relief->members)
        pthread_cond_broadcast(&relief->changed);
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
