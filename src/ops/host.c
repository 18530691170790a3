/* host.c: memory entries of the backends that compute on the host. */
#include "ops/backend.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/arena.h"

/* Large blocks ask for huge pages: a training step walks through gigabytes. */
#define HUGE_PAGE ((size_t)2 << 20)

d2c_status
d2c_host_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind)
{
    size_t align = bytes >= 4 * HUGE_PAGE ? HUGE_PAGE : D2C_DEVICE_ALIGN, rounded;

    (void)kind;
    *block = NULL;
    if (d2c_size_add(&rounded, bytes, align) == 0)
        *block = aligned_alloc(align, rounded / align * align);
    if (*block == NULL)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "could not allocate %zu bytes", bytes);
    if (align == HUGE_PAGE)
        madvise(*block, rounded / align * align, MADV_HUGEPAGE);
    return D2C_OK;
}

void
d2c_host_free(d2c_backend *be, void *block, d2c_memory kind)
{
    (void)be;
    (void)kind;
    free(block);
}

d2c_status
d2c_host_upload(d2c_backend *be, void *device, const void *host, size_t bytes)
{
    (void)be;
    memcpy(device, host, bytes);
    return D2C_OK;
}

d2c_status
d2c_host_download(d2c_backend *be, void *host, const void *device, size_t bytes)
{
    (void)be;
    memcpy(host, device, bytes);
    return D2C_OK;
}

d2c_status
d2c_host_copy(d2c_backend *be, void *to, const void *from, size_t bytes)
{
    (void)be;
    memmove(to, from, bytes);
    return D2C_OK;
}

d2c_status
d2c_host_zero(d2c_backend *be, void *device, size_t bytes)
{
    (void)be;
    memset(device, 0, bytes);
    return D2C_OK;
}

d2c_status
d2c_host_synchronize(d2c_backend *be)
{
    (void)be;
    return D2C_OK;
}

d2c_status
d2c_host_check_index(d2c_backend *be, const char *op, d2c_tensor index, int64_t rows)
{
    const int64_t *value = index.data;
    int64_t i;

    for (i = 0; i < index.dim[0]; i++)
        if (value[i] < 0 || value[i] >= rows) {
            d2c_fail(&be->error, D2C_INVALID_ARGUMENT, "operation %s: index %lld is outside the table", op,
                     (long long)value[i]);
            d2c_detail(&be->error, "Row %lld asks for it; the table has %lld rows.", (long long)i,
                       (long long)rows);
            return D2C_INVALID_ARGUMENT;
        }
    return D2C_OK;
}
