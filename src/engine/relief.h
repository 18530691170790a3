/*
 * relief.h: what the computing threads do for one of them that finds no memory left on the device.
 *
 * It gives back what it holds and takes the floor.  Each other thread gives back, between two tasks, what it can make
 * again, its scorers and buffers, and pauses until the floor is free.  So a unit of work fails only when it does not fit
 * alone; where memory is that short, units take turns.
 */
#ifndef D2C_ENGINE_RELIEF_H
#define D2C_ENGINE_RELIEF_H

#include "engine/queue.h"

typedef struct d2c_relief d2c_relief;

d2c_status d2c_relief_create(d2c_relief **relief, d2c_error *err);

/* A thread takes part from now on. */
void d2c_relief_join(d2c_relief *relief);
void d2c_relief_leave(d2c_relief *relief);

/* For a thread that holds nothing: waits for the floor, unless it has it already, then for the others, though not for
 * long: one may be busy.  The queue's rouse is how they hear of it. */
void d2c_relief_take_floor(d2c_relief *relief, d2c_queue *queue, int has_it);
void d2c_relief_free_floor(d2c_relief *relief);

/* Whether a thread has the floor or waits for it; then the others give back what they have and pause. */
int d2c_relief_is_wanted(d2c_relief *relief);
void d2c_relief_pause(d2c_relief *relief);

/* True the first time: what is said once in an engine's life. */
int d2c_relief_is_new(d2c_relief *relief);

#endif
