/*
 * relief.h: what the computing threads do for one of them that finds no memory left on the device.
 *
 * It asks.  Each other thread gives back, between two tasks, what it can make again, its scorers and buffers; the one
 * that asked holds nothing either and waits for them, though not for long: a thread may be busy.  Two that ask at once
 * count each other as having given.
 */
#ifndef D2C_ENGINE_RELIEF_H
#define D2C_ENGINE_RELIEF_H

#include "engine/queue.h"

typedef struct d2c_relief d2c_relief;

d2c_status d2c_relief_create(d2c_relief **relief, d2c_error *err);

/* A thread takes part from now on. */
void d2c_relief_join(d2c_relief *relief);
void d2c_relief_leave(d2c_relief *relief);

/* For a thread that has given back everything itself; the queue's rouse is how the others hear of it.  *seen is the
 * thread's own, as below. */
void d2c_relief_ask(d2c_relief *relief, d2c_queue *queue, uint64_t *seen);

/* Whether another thread has asked since this one last gave; then it gives back what it has, and says so. */
int d2c_relief_owed(d2c_relief *relief, uint64_t *seen);
void d2c_relief_given(d2c_relief *relief, uint64_t seen);

/* True the first time: what is said once in an engine's life. */
int d2c_relief_is_new(d2c_relief *relief);

#endif
