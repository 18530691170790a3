/* device.c: the ranks on a device's memory: NCCL where every rank has it, copies by way of the host otherwise. */
#include "ranks/device.h"

#include <stdlib.h>
#include <string.h>

#include "ops/backend.h"

typedef __typeof__(d2c_cuda_ranks_id) ranks_id;
typedef __typeof__(d2c_cuda_ranks) ranks_join;

/* Whether it holds for every rank. */
static d2c_status
all_agree(int *all, d2c_ranks *host, int mine, d2c_error *err)
{
    char *flag = calloc((size_t)host->size, 1);
    d2c_status status;
    int r;

    if (flag == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    flag[host->rank] = (char)mine;
    status = d2c_ranks_gather(host, flag, 1, err);
    for (*all = 1, r = 0; r < host->size; r++)
        *all &= flag[r];
    free(flag);
    return status;
}

/* *device stays NULL where some rank has no NCCL, or NCCL cannot bring them together, as with two ranks on one GPU. */
static d2c_status
join(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, d2c_error *err)
{
    ranks_id *make_id;
    ranks_join *join_group;
    char id[D2C_RANKS_ID] = {0};
    int all;

    *(void **)&make_id = d2c_backend_symbol("d2c_cuda_ranks_id");
    *(void **)&join_group = d2c_backend_symbol("d2c_cuda_ranks");
    D2C_TRY(all_agree(
        &all, host,
        make_id != NULL && join_group != NULL && make_id(host->rank == 0 ? id : NULL, NULL) == D2C_OK, err));
    if (!all)
        return D2C_OK;
    D2C_TRY(d2c_ranks_broadcast(host, 0, id, sizeof id, err));
    D2C_TRY(all_agree(&all, host, join_group(device, host, be, id, NULL) == D2C_OK, err));
    if (!all && *device != NULL) {
        (*device)->ops->close(*device);
        *device = NULL;
    }
    return D2C_OK;
}

/* Ranks on processors and on GPUs would not have the same bits. */
static d2c_status
check_kinds(const d2c_backend *be, d2c_ranks *host, d2c_error *err)
{
    int all_host, none_host;

    D2C_TRY(all_agree(&all_host, host, d2c_backend_is_host(be), err));
    D2C_TRY(all_agree(&none_host, host, !d2c_backend_is_host(be), err));
    if (all_host || none_host)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "some processes compute on a GPU, others on the CPU");
    d2c_hint(err, "Start no more processes than there are GPUs, or all of them with --device cpu; where each "
                  "process sees its own GPU alone, with --device cuda:0.");
    return D2C_INVALID_ARGUMENT;
}

d2c_status
d2c_ranks_device(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, d2c_error *err)
{
    *device = host;
    if (host == NULL)
        return D2C_OK;
    D2C_TRY(check_kinds(be, host, err));
    if (d2c_backend_is_host(be))
        return D2C_OK;
    *device = NULL;
    D2C_TRY(join(device, host, be, err));
    return *device != NULL ? D2C_OK : d2c_ranks_staged(device, host, be, err);
}

void
d2c_ranks_device_close(d2c_ranks *device, const d2c_ranks *host)
{
    if (device != NULL && device != host)
        device->ops->close(device);
}
