/* scratch.h: device memory that one thread keeps from one unit of work to the next, whichever the model. */
#ifndef D2C_NN_SCRATCH_H
#define D2C_NN_SCRATCH_H

#include "ops/ops.h"

/* {0} at first.  On a GPU, allocating and freeing wait for everything that runs there. */
typedef struct d2c_scratch {
    void *block;
    size_t bytes;
} d2c_scratch;

/* At least so many bytes, of unknown content.  What was there must not be in use. */
d2c_status d2c_scratch_reserve(d2c_scratch *scratch, d2c_backend *be, size_t bytes, d2c_error *err);
void d2c_scratch_free(d2c_scratch *scratch, d2c_backend *be);

#endif
