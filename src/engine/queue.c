/* queue.c: the work of all connections, handed to the computing threads in turn. */
#include "engine/queue.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct d2c_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    d2c_lane *first, *last; /* lanes with waiting tasks; the first is served next */
    d2c_task *done_first, *done_last;
    uint64_t rouses;
    d2c_queue_counts counts;
    int wake_fd;
    d2c_error failure; /* status D2C_OK: none */
};

d2c_status
d2c_queue_create(d2c_queue **queue, int wake_fd, d2c_error *err)
{
    d2c_queue *q = calloc(1, sizeof *q);

    if (q == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, NULL);
    q->wake_fd = wake_fd;
    *queue = q;
    return D2C_OK;
}

void
d2c_queue_destroy(d2c_queue *queue)
{
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

d2c_task *
d2c_task_create(const d2c_frame *frame)
{
    d2c_task *task = calloc(1, sizeof *task);

    if (task != NULL)
        task->frame = *frame;
    return task;
}

void
d2c_task_free(d2c_task *task)
{
    free(task->payload);
    d2c_buffer_free(&task->reply);
    free(task);
}

/* Puts a lane at the end of the ring; the lock is held. */
static void
enter_ring(d2c_queue *queue, d2c_lane *lane)
{
    lane->next = NULL;
    if (queue->last != NULL)
        queue->last->next = lane;
    else
        queue->first = lane;
    queue->last = lane;
}

static void
leave_ring(d2c_queue *queue, d2c_lane *lane)
{
    d2c_lane **link = &queue->first, *previous = NULL;

    while (*link != lane) {
        previous = *link;
        link = &previous->next;
    }
    *link = lane->next;
    if (queue->last == lane)
        queue->last = previous;
}

void
d2c_queue_push(d2c_queue *queue, d2c_lane *lane, d2c_task *task)
{
    pthread_mutex_lock(&queue->lock);
    task->lane = lane;
    task->next = NULL;
    if (lane->waiting == 0) {
        lane->first = task;
        enter_ring(queue, lane);
    } else
        lane->last->next = task;
    lane->last = task;
    lane->waiting++;
    lane->waiting_bytes += task->frame.length;
    queue->counts.waiting++;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

/* Takes the first lane's first task and sends the lane to the end; the lock is held. */
static d2c_task *
take_next(d2c_queue *queue)
{
    d2c_lane *lane = queue->first;
    d2c_task *task = lane->first;

    leave_ring(queue, lane);
    lane->first = task->next;
    lane->waiting--;
    lane->running++;
    lane->waiting_bytes -= task->frame.length;
    if (lane->waiting > 0)
        enter_ring(queue, lane);
    queue->counts.waiting--;
    queue->counts.running++;
    return task;
}

d2c_task *
d2c_queue_pop(d2c_queue *queue, uint64_t *seen)
{
    d2c_task *task = NULL;

    pthread_mutex_lock(&queue->lock);
    while (queue->first == NULL && queue->rouses == *seen)
        pthread_cond_wait(&queue->filled, &queue->lock);
    if (queue->rouses != *seen)
        *seen = queue->rouses;
    else
        task = take_next(queue);
    pthread_mutex_unlock(&queue->lock);
    return task;
}

void
d2c_queue_finish(d2c_queue *queue, d2c_task *task)
{
    int was_empty;

    pthread_mutex_lock(&queue->lock);
    was_empty = queue->done_first == NULL;
    task->next = NULL;
    if (was_empty)
        queue->done_first = task;
    else
        queue->done_last->next = task;
    queue->done_last = task;
    queue->counts.running--;
    queue->counts.finished++;
    pthread_mutex_unlock(&queue->lock);
    /* A full pipe already wakes the server. */
    if (was_empty && write(queue->wake_fd, "", 1) < 0)
        return;
}

void
d2c_queue_rouse(d2c_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->rouses++;
    pthread_cond_broadcast(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

void
d2c_queue_fail(d2c_queue *queue, const d2c_error *failure)
{
    pthread_mutex_lock(&queue->lock);
    if (queue->failure.status == D2C_OK)
        queue->failure = *failure;
    pthread_mutex_unlock(&queue->lock);
}

int
d2c_queue_failed(d2c_queue *queue, d2c_error *failure)
{
    int failed;

    pthread_mutex_lock(&queue->lock);
    failed = queue->failure.status != D2C_OK;
    if (failed)
        *failure = queue->failure;
    pthread_mutex_unlock(&queue->lock);
    return failed;
}

d2c_task *
d2c_queue_take_done(d2c_queue *queue)
{
    d2c_task *done, *task;

    pthread_mutex_lock(&queue->lock);
    done = queue->done_first;
    queue->done_first = queue->done_last = NULL;
    for (task = done; task != NULL; task = task->next)
        task->lane->running--;
    pthread_mutex_unlock(&queue->lock);
    return done;
}

void
d2c_queue_drop(d2c_queue *queue, d2c_lane *lane)
{
    d2c_task *task, *next;

    atomic_store(&lane->dropped, 1);
    pthread_mutex_lock(&queue->lock);
    if (lane->waiting > 0)
        leave_ring(queue, lane);
    queue->counts.waiting -= lane->waiting;
    task = lane->waiting > 0 ? lane->first : NULL;
    lane->waiting = 0;
    lane->waiting_bytes = 0;
    pthread_mutex_unlock(&queue->lock);
    for (; task != NULL; task = next) {
        next = task->next;
        d2c_task_free(task);
    }
}

void
d2c_lane_load(d2c_queue *queue, const d2c_lane *lane, int *tasks, size_t *bytes)
{
    pthread_mutex_lock(&queue->lock);
    *tasks = lane->waiting + lane->running;
    *bytes = lane->waiting_bytes;
    pthread_mutex_unlock(&queue->lock);
}

d2c_queue_counts
d2c_queue_count(d2c_queue *queue)
{
    d2c_queue_counts counts;

    pthread_mutex_lock(&queue->lock);
    counts = queue->counts;
    pthread_mutex_unlock(&queue->lock);
    return counts;
}
