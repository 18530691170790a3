/*
 * together.h: what the processes of a training agree on; every one of them calls these at the same point.
 *
 * Rank 0 alone reads checkpoints, writes and speaks.  In a training by one process all of this is nothing.
 */
#ifndef D2C_TRAIN_TOGETHER_H
#define D2C_TRAIN_TOGETHER_H

#include "train/run.h"

/* Whether this process is the one that writes and speaks. */
static inline int
d2c_train_speaks(const d2c_train *train)
{
    return d2c_rank_of(train->setting->ranks) == 0;
}

/* The share of each batch; an error where it is not the same for all, or not whole micro-batches. */
d2c_status d2c_together_share(d2c_train *train, d2c_error *err);

/* That all have read the same rows and compute with the same arithmetic. */
d2c_status d2c_together_compare(d2c_train *train, d2c_error *err);

/* What rank 0 found to go on from. */
d2c_status d2c_together_head(d2c_train *train, d2c_error *err);

/* The least of what is there. */
d2c_status d2c_together_least(d2c_train *train, size_t *bytes, d2c_error *err);

/* Rank 0's position and weights, with what the optimizer keeps of them. */
d2c_status d2c_together_weights(d2c_train *train, d2c_error *err);

/* Before a step: sets train->stopped when anyone is asked to stop, and train->streamed. */
d2c_status d2c_together_step(d2c_train *train, d2c_error *err);

/* After the first step: rank 0's choices of algorithms become everyone's. */
d2c_status d2c_together_choices(d2c_train *train, d2c_error *err);

/* Before a checkpoint: completes the position, and compares weights and moments by digest; a rank that differs is an
 * error that names it. */
d2c_status d2c_together_checkpoint(d2c_train *train, d2c_error *err);

/* The ids of all ranks' rows of a batch, [global batch]; malloc'd. */
d2c_status d2c_together_ids(d2c_train *train, const d2c_batch *batch, char (**id)[D2C_BATCH_ID],
                            d2c_error *err);

#endif
