/*
 * nccl.c: exchanges between GPUs by NCCL (ranks.h), queued on the backend's stream, so that nothing waits for them.
 *
 * NCCL is opened at run time: a machine without it lacks nothing else.  Only messages from one rank to another are used;
 * sums are d2c's own, in the order of the ranks, since those of NCCL depend on how the GPUs are connected.  NCCL has no
 * word for a rank that is gone: MPI, which started all of them, ends the others.  To close waits for what is queued, and all
 * ranks do it at once: after a failure it is left out.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"
#include "ranks/device.h"

#define EXPORTED __attribute__((visibility("default")))

#if __has_include(<nccl.h>)
#include <nccl.h>

#ifndef D2C_NCCL_OPEN
#define D2C_NCCL_OPEN() dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL)
#define D2C_NCCL_FIND(library, name) dlsym(library, #name)
#endif

typedef struct nccl_functions {
    __typeof__(ncclGetUniqueId) *get_id;
    __typeof__(ncclCommInitRank) *init;
    __typeof__(ncclCommDestroy) *destroy;
    __typeof__(ncclGetErrorString) *text;
    __typeof__(ncclGroupStart) *start;
    __typeof__(ncclGroupEnd) *end;
    __typeof__(ncclSend) *send;
    __typeof__(ncclRecv) *receive;
} nccl_functions;

typedef struct nccl_ranks {
    d2c_ranks base;
    d2c_ranks *host;
    d2c_cuda *cuda;
    nccl_functions nccl;
    ncclComm_t comm;
} nccl_ranks;

/* The library stays open. */
static d2c_status
load(nccl_functions *f, d2c_error *err)
{
    void *library = D2C_NCCL_OPEN();

    if (library == NULL) {
        d2c_fail(err, D2C_UNSUPPORTED, "NCCL is not available");
        d2c_detail(err, "%s", dlerror());
        return D2C_UNSUPPORTED;
    }
    *(void **)&f->get_id = D2C_NCCL_FIND(library, ncclGetUniqueId);
    *(void **)&f->init = D2C_NCCL_FIND(library, ncclCommInitRank);
    *(void **)&f->destroy = D2C_NCCL_FIND(library, ncclCommDestroy);
    *(void **)&f->text = D2C_NCCL_FIND(library, ncclGetErrorString);
    *(void **)&f->start = D2C_NCCL_FIND(library, ncclGroupStart);
    *(void **)&f->end = D2C_NCCL_FIND(library, ncclGroupEnd);
    *(void **)&f->send = D2C_NCCL_FIND(library, ncclSend);
    *(void **)&f->receive = D2C_NCCL_FIND(library, ncclRecv);
    if (f->get_id != NULL && f->init != NULL && f->destroy != NULL && f->text != NULL && f->start != NULL &&
        f->end != NULL && f->send != NULL && f->receive != NULL)
        return D2C_OK;
    return d2c_fail(err, D2C_UNSUPPORTED, "NCCL is too old: it has no messages between two ranks");
}

static d2c_status
check(const nccl_functions *f, ncclResult_t result, const char *doing, d2c_error *err)
{
    if (result == ncclSuccess)
        return D2C_OK;
    d2c_fail(err, D2C_DEVICE, "NCCL could not %s", doing);
    d2c_detail(err, "%s", f->text(result));
    return D2C_DEVICE;
}

/* The group is ended in any case, or NCCL would take what follows for a part of it. */
static d2c_status
exchange(d2c_ranks *ranks, const d2c_piece *out, const d2c_piece *in, d2c_error *err)
{
    nccl_ranks *n = (nccl_ranks *)ranks;
    cudaStream_t stream = d2c_cuda_enter(&n->cuda->base)->stream;
    ncclResult_t result = n->nccl.start(), ended;
    int r;

    for (r = 0; r < ranks->size && result == ncclSuccess; r++) {
        if (r == ranks->rank)
            continue;
        if (out[r].bytes > 0)
            result = n->nccl.send(out[r].data, out[r].bytes, ncclUint8, r, n->comm, stream);
        if (in[r].bytes > 0 && result == ncclSuccess)
            result = n->nccl.receive(in[r].data, in[r].bytes, ncclUint8, r, n->comm, stream);
    }
    ended = n->nccl.end();
    return check(&n->nccl, result != ncclSuccess ? result : ended, "exchange messages", err);
}

static void
fail(d2c_ranks *ranks, const d2c_error *why)
{
    d2c_ranks *host = ((nccl_ranks *)ranks)->host;

    host->ops->fail(host, why);
}

static void
close_nccl(d2c_ranks *ranks)
{
    nccl_ranks *n = (nccl_ranks *)ranks;

    cudaStreamSynchronize(d2c_cuda_enter(&n->cuda->base)->stream);
    n->nccl.destroy(n->comm);
    n->host->deaf = 0;
    free(n);
}

static const d2c_ranks_ops nccl_ops = {
    .size = sizeof nccl_ops,
    .version = D2C_RANKS_VERSION,
    .name = "nccl",
    .exchange = exchange,
    .fail = fail,
    .close = close_nccl,
};

_Static_assert(sizeof(ncclUniqueId) == D2C_RANKS_ID, "the id of a group of ranks");

EXPORTED d2c_status
d2c_cuda_ranks_id(char id[D2C_RANKS_ID], d2c_error *err)
{
    nccl_functions f;
    ncclUniqueId made;

    D2C_TRY(load(&f, err));
    if (id == NULL)
        return D2C_OK;
    D2C_TRY(check(&f, f.get_id(&made), "make an id", err));
    memcpy(id, &made, sizeof made);
    return D2C_OK;
}

EXPORTED d2c_status
d2c_cuda_ranks(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, const char id[D2C_RANKS_ID],
               d2c_error *err)
{
    nccl_ranks *n = calloc(1, sizeof *n);
    ncclUniqueId unique;
    d2c_status status;

    if (n == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    memcpy(&unique, id, sizeof unique);
    n->base = *host;
    n->base.ops = &nccl_ops;
    n->base.on_stream = 1;
    n->host = host;
    n->cuda = d2c_cuda_enter(be);
    status = load(&n->nccl, err);
    if (status == D2C_OK)
        status = check(&n->nccl, n->nccl.init(&n->comm, host->size, unique, host->rank),
                       "bring the GPUs together", err);
    if (status != D2C_OK) {
        free(n);
        return status;
    }
    host->deaf = 1;
    *device = &n->base;
    return D2C_OK;
}

#else

static d2c_status
not_built(d2c_error *err)
{
    d2c_fail(err, D2C_UNSUPPORTED, "NCCL is not available");
    d2c_detail(err, "nccl.h was not there when d2c was built.");
    return D2C_UNSUPPORTED;
}

EXPORTED d2c_status
d2c_cuda_ranks_id(char id[D2C_RANKS_ID], d2c_error *err)
{
    (void)id;
    return not_built(err);
}

EXPORTED d2c_status
d2c_cuda_ranks(d2c_ranks **device, d2c_ranks *host, d2c_backend *be, const char id[D2C_RANKS_ID],
               d2c_error *err)
{
    (void)device;
    (void)host;
    (void)be;
    (void)id;
    return not_built(err);
}

#endif
