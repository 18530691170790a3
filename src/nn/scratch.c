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

void
d2c_scratch_free(d2c_scratch *scratch, d2c_backend *be)
{
    d2c_free(be, scratch->block, D2C_MEMORY_DEVICE);
    *scratch = (d2c_scratch){0};
}
