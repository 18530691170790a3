/* stepper.h: a stepper's inner state, shared by the files that make it up. */
#ifndef D2C_TRAIN_STEPPER_H
#define D2C_TRAIN_STEPPER_H

#include "train/step.h"

#define STEP_SLOTS 2
#define STEP_VELOCITY_FLOATS 2 /* of time, a row */
#define STEP_DIT_FLOATS 10

/*
 * What a step is given and what it tells.  An asynchronous device has two slots, and a step's batch is copied into one
 * while the step of the other one is computed.  K texts; n = channels * size * size.
 */
typedef struct step_slot {
    d2c_step_record *record;
    float *x;                                     /* [B, n] */
    int64_t *label, *number, *epoch, *text_index; /* [B] */
    float *text, *text_mask;                      /* [K, L, W], [K, L] */
    uint16_t *visual;                             /* f16 [B, T, width] */
    float
        *time; /* [B] of the network, [B] of the path; of a DiT then [B, 4] coefficients and [B, 4] bounds */

    d2c_step_record *told; /* pinned */
    float *told_loss;      /* pinned, as losses are */
    d2c_event *event;      /* behind the copies into the two */

    d2c_graph *graph; /* of a training step with this slot's memory, when there is one */
    int runs;         /* training steps before */
} step_slot;

struct d2c_stepper {
    d2c_sit *sit;
    d2c_backend *be;
    d2c_step_setting setting; /* micro_batch: what it is now */
    int slots;
    step_slot slot[STEP_SLOTS];
    int64_t queued, collected; /* training steps; step q has the slot q % slots */
    int graphs;                /* whether steps become graphs */
    d2c_objective objective;
    float *host_time; /* what a slot's time is uploaded from */

    void *block; /* all device memory, the network's activations included */
    void *pinned;
    d2c_arena arena;       /* of the block */
    size_t batches, bytes; /* the slots' part of it, and the whole */
    float *losses;         /* [2, rows of all ranks]: both kinds of loss of every row of the step */
    float *loss, *aligned; /* [B] each: in there, those of this rank's rows */
    float *received;       /* what sums over the ranks need */
    /* Of a micro-batch, M rows; T and width those of the projector. */
    float *noise, *xt, *target;    /* [M, n]; a DiT's target is the noise */
    float *v, *dv;                 /* [M, n]; a DiT's [M, 2n] */
    float *coefficient;            /* [M, 4], of the path */
    int64_t *kept, *kept_text;     /* [M] */
    float *projected, *dprojected; /* [M, T, width] */
};

/* Whether a step's exchanges between ranks are queued like ops, and may be part of its graph. */
static inline int
step_is_shared(const d2c_stepper *s)
{
    return s->setting.ranks != NULL && s->setting.ranks->on_stream;
}

/* step_times.c */
/* Floats of a row's time. */
size_t step_time_floats(const d2c_stepper *s);
d2c_status step_times_open(d2c_stepper *s, d2c_error *err);
/* Draws the times of the batch's rows into the slot. */
d2c_status step_times_upload(d2c_stepper *s, const step_slot *slot, const d2c_batch *batch);

/* step_memory.c */
/* Texts that a step computes: on a device always as many as a batch may have, so that all steps have one shape.  None
 * of the rows refers to those that are too many. */
int step_texts(const d2c_stepper *s, int texts);
d2c_status step_memory_open(d2c_stepper *s, d2c_error *err);
void step_memory_close(d2c_stepper *s);
/* Half the micro-batch, and memory for it; D2C_NO_MEMORY when it cannot be halved any more. */
d2c_status step_memory_shrink(d2c_stepper *s, d2c_error *err);

/* step_ranks.c: the rows of a step on all ranks; and what they compute, brought together once each has its own. */
int step_rows(const d2c_stepper *s);
d2c_status step_join(d2c_stepper *s, int training, d2c_error *err);

/* step_pass.c: queues the ops of a step, whose batch is in the slot. */
d2c_status step_pass(d2c_stepper *s, const step_slot *slot, int texts, int training, d2c_error *err);

/* step_graph.c: the same for a training step, as a graph once the slot's ops have been called one by one. */
d2c_status step_graph(d2c_stepper *s, step_slot *slot, int texts, d2c_error *err);
void step_graph_free(d2c_stepper *s);

/* Tells a line, if anyone listens. */
void step_notice(const d2c_stepper *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
