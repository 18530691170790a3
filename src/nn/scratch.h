/* scratch.h: device memory that one thread keeps from one unit of work to the next, whichever the model. */
#ifndef D2C_NN_SCRATCH_H
#define D2C_NN_SCRATCH_H

#include "base/arena.h"
#include "ops/ops.h"

/* {0} at first.  On a GPU, allocating and freeing wait for everything that runs there. */
typedef struct d2c_scratch {
    void *block;
    size_t bytes;
} d2c_scratch;

/* At least so many bytes, of unknown content.  What was there must not be in use. */
d2c_status d2c_scratch_reserve(d2c_scratch *scratch, d2c_backend *be, size_t bytes, d2c_error *err);
/* An arena in it, with room for all that the planning arena counted. */
d2c_status d2c_scratch_arena(d2c_arena *arena, d2c_scratch *scratch, d2c_backend *be, const d2c_arena *plan,
                             d2c_error *err);
void d2c_scratch_free(d2c_scratch *scratch, d2c_backend *be);

/* [rows, columns] in the arena. */
d2c_tensor d2c_arena_tensor(d2c_arena *arena, d2c_dtype dtype, int64_t rows, int64_t columns);

#endif
