/*
 * tensorboard.h: event files as TensorBoard reads them: records of TFRecord, each an Event of tensorflow/core/util/event.proto
 * with scalars or one picture.
 *
 * A run that goes on writes a file of its own, which begins with SessionLog START at its first step: TensorBoard then drops
 * what the killed part had written at or behind that step.
 */
#ifndef D2C_TRAIN_TENSORBOARD_H
#define D2C_TRAIN_TENSORBOARD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_tensorboard d2c_tensorboard;

/* A new file in the folder, which is made; now: seconds since 1970.  first_step: the first one that this file will have. */
d2c_status d2c_tensorboard_open(d2c_tensorboard **board, const char *folder, int64_t first_step, double now,
                                d2c_error *err);
d2c_status d2c_tensorboard_close(d2c_tensorboard *board, d2c_error *err);

/* One event of `count` scalars; and of one PNG.  Every event is handed to the system at once. */
d2c_status d2c_tensorboard_scalars(d2c_tensorboard *board, double now, int64_t step, const char *const *tag,
                                   const float *value, int count, d2c_error *err);
d2c_status d2c_tensorboard_png(d2c_tensorboard *board, double now, int64_t step, const char *tag,
                               const void *png, size_t length, d2c_error *err);

#endif
