/* scratch.c: memory kept between units of work (scratch.h). */
#include "nn/scratch.h"

d2c_status
d2c_scratch_reserve(d2c_scratch *scratch, d2c_backend *be, size_t bytes, d2c_error *err)
{
    if (bytes <= scratch->bytes)
        return D2C_OK;
    d2c_scratch_free(scratch, be);
    if (d2c_alloc(be, &scratch->block, bytes, D2C_MEMORY_DEVICE) != D2C_OK)
        return d2c_backend_error(be, err);
    scratch->bytes = bytes;
    return D2C_OK;
}

d2c_status
d2c_scratch_arena(d2c_arena *arena, d2c_scratch *scratch, d2c_backend *be, const d2c_arena *plan,
                  d2c_error *err)
{
    D2C_TRY(d2c_arena_check(plan, err));
    D2C_TRY(d2c_scratch_reserve(scratch, be, plan->peak, err));
    *arena = (d2c_arena){.base = scratch->block, .capacity = plan->peak};
    return D2C_OK;
}

d2c_tensor
d2c_arena_tensor(d2c_arena *arena, d2c_dtype dtype, int64_t rows, int64_t columns)
{
    size_t bytes;

    if (d2c_size_mul(&bytes, (size_t)rows, (size_t)columns) != 0 ||
        d2c_size_mul(&bytes, bytes, d2c_dtype_size(dtype)) != 0)
        bytes = SIZE_MAX;
    return d2c_tensor2(d2c_arena_alloc(arena, bytes), dtype, rows, columns);
}

void
d2c_scratch_free(d2c_scratch *scratch, d2c_backend *be)
{
    d2c_free(be, scratch->block, D2C_MEMORY_DEVICE);
    *scratch = (d2c_scratch){0};
}
