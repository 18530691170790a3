/* ops_memory.c: memory, order, capture and choices. */
#include "ops/dispatch.h"

#include <stdlib.h>

d2c_status
d2c_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind)
{
    return be->ops->alloc(be, block, bytes, kind);
}

void
d2c_free(d2c_backend *be, void *block, d2c_memory kind)
{
    if (block != NULL)
        be->ops->free(be, block, kind);
}

d2c_status
d2c_upload(d2c_backend *be, void *device, const void *host, size_t bytes)
{
    return be->ops->upload(be, device, host, bytes);
}

d2c_status
d2c_download(d2c_backend *be, void *host, const void *device, size_t bytes)
{
    return be->ops->download(be, host, device, bytes);
}

d2c_status
d2c_copy(d2c_backend *be, void *to, const void *from, size_t bytes)
{
    return be->ops->copy(be, to, from, bytes);
}

d2c_status
d2c_zero(d2c_backend *be, void *device, size_t bytes)
{
    return be->ops->zero(be, device, bytes);
}

d2c_status
d2c_synchronize(d2c_backend *be)
{
    return be->ops->synchronize(be);
}

d2c_status
d2c_upload_early(d2c_backend *be, void *device, const void *host, size_t bytes)
{
    return D2C_HAS(be, upload_early) ? be->ops->upload_early(be, device, host, bytes)
                                     : be->ops->upload(be, device, host, bytes);
}

d2c_status
d2c_download_later(d2c_backend *be, void *pinned, const void *device, size_t bytes)
{
    return D2C_HAS(be, download_later) ? be->ops->download_later(be, pinned, device, bytes)
                                       : be->ops->download(be, pinned, device, bytes);
}

d2c_status
d2c_memory_use(d2c_backend *be, size_t *available, size_t *total)
{
    *available = *total = 0;
    return D2C_HAS(be, memory_use) ? be->ops->memory_use(be, available, total) : D2C_OK;
}

d2c_status
d2c_event_record(d2c_backend *be, d2c_event **event)
{
    return D2C_HAS(be, event_record) ? be->ops->event_record(be, event) : D2C_OK;
}

d2c_status
d2c_event_wait(d2c_backend *be, d2c_event *event)
{
    return D2C_HAS(be, event_wait) ? be->ops->event_wait(be, event) : D2C_OK;
}

void
d2c_event_free(d2c_backend *be, d2c_event *event)
{
    if (D2C_HAS(be, event_free))
        be->ops->event_free(be, event);
}

d2c_status
d2c_capture_begin(d2c_backend *be)
{
    if (!D2C_HAS(be, capture_begin))
        return d2c_fail(&be->error, D2C_UNSUPPORTED, "backend %s has no capture", be->ops->name);
    return be->ops->capture_begin(be);
}

d2c_status
d2c_capture_end(d2c_backend *be, d2c_graph **graph)
{
    return D2C_DISPATCH(be, capture_end, graph);
}

d2c_status
d2c_graph_launch(d2c_backend *be, d2c_graph *graph)
{
    return D2C_DISPATCH(be, graph_launch, graph);
}

void
d2c_graph_free(d2c_backend *be, d2c_graph *graph)
{
    if (D2C_HAS(be, graph_free))
        be->ops->graph_free(be, graph);
}

void
d2c_tune(d2c_backend *be, int on)
{
    if (D2C_HAS(be, tune))
        be->ops->tune(be, on);
}

d2c_status
d2c_choose(d2c_backend *be, const char *choices)
{
    return D2C_HAS(be, choose) ? be->ops->choose(be, choices) : D2C_OK;
}

d2c_status
d2c_tuned(d2c_backend *be, char **choices)
{
    if (D2C_HAS(be, tuned))
        return be->ops->tuned(be, choices);
    *choices = calloc(1, 1);
    return *choices != NULL ? D2C_OK : d2c_fail(&be->error, D2C_NO_MEMORY, "out of memory");
}
