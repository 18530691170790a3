/*
 * queue.h: the work of all connections, handed to the computing threads in turn.
 *
 * Each connection has a lane.  Threads take one task of the first lane and move that lane to the end, so a connection
 * with a thousand tasks delays another's by no more than one task a thread.  Finished tasks are collected for the server,
 * which is woken through a pipe.
 */
#ifndef D2C_ENGINE_QUEUE_H
#define D2C_ENGINE_QUEUE_H

#include <stdatomic.h>

#include <stdint.h>

#include "base/status.h"
#include "engine/buffer.h"
#include "engine/protocol.h"

typedef struct d2c_lane d2c_lane;

/* One request: the queue owns it from push to take_done. */
typedef struct d2c_task {
    struct d2c_task *next;
    d2c_lane *lane;
    d2c_frame frame; /* the request's; in the reply length and status are the reply's */
    char *payload;   /* malloc'd */
    d2c_buffer reply;
} d2c_task;

/* One connection's tasks; part of the connection, which must outlive `waiting` and `running`. */
struct d2c_lane {
    d2c_lane *next; /* in the ring of lanes that have something waiting */
    d2c_task *first, *last;
    int waiting, running;
    size_t waiting_bytes;
    atomic_int dropped; /* nobody waits for what runs: long units look at it */
};

typedef struct d2c_queue d2c_queue;

typedef struct d2c_queue_counts {
    int waiting, running;
    int64_t finished;
} d2c_queue_counts;

/* wake_fd: the writing end of a non-blocking pipe that gets a byte when a task is done. */
d2c_status d2c_queue_create(d2c_queue **queue, int wake_fd, d2c_error *err);

/* Of a queue that no thread uses and whose lanes are empty. */
void d2c_queue_destroy(d2c_queue *queue);

d2c_task *d2c_task_create(const d2c_frame *frame);
void d2c_task_free(d2c_task *task);

void d2c_queue_push(d2c_queue *queue, d2c_lane *lane, d2c_task *task);
/* Waits for a task; NULL when d2c_queue_rouse was called since this thread's last pop (*seen is the thread's own). */
d2c_task *d2c_queue_pop(d2c_queue *queue, uint64_t *seen);
void d2c_queue_finish(d2c_queue *queue, d2c_task *task);
/* Every thread returns from pop once. */
void d2c_queue_rouse(d2c_queue *queue);

/* The device is lost: every task is answered with this from now on, and the engine ends.  The first failure stays. */
void d2c_queue_fail(d2c_queue *queue, const d2c_error *failure);
/* Whether that has happened; *failure is then why. */
int d2c_queue_failed(d2c_queue *queue, d2c_error *failure);

/* The finished tasks, oldest first, linked by `next`; their lanes' `running` has been counted down. */
d2c_task *d2c_queue_take_done(d2c_queue *queue);
/* Frees the lane's waiting tasks. */
void d2c_queue_drop(d2c_queue *queue, d2c_lane *lane);
/* Reads a lane's counters under the lock. */
void d2c_lane_load(d2c_queue *queue, const d2c_lane *lane, int *tasks, size_t *bytes);
d2c_queue_counts d2c_queue_count(d2c_queue *queue);

#endif
