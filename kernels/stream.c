/* stream.c: events, and graphs captured from the stream. */
#include <stdlib.h>

#include "cuda.h"

/* ---- events -------------------------------------------------------------------------------------------------------- */

struct d2c_event {
    cudaEvent_t event;
};

static d2c_status
make_event(d2c_cuda *cuda, d2c_event **event)
{
    d2c_event *made = calloc(1, sizeof *made);
    d2c_status status;

    if (made == NULL)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "out of memory");
    status = d2c_cuda_check(
        cuda, cudaEventCreateWithFlags(&made->event, cudaEventDisableTiming | cudaEventBlockingSync),
        "make an event");
    if (status != D2C_OK) {
        free(made);
        return status;
    }
    *event = made;
    return D2C_OK;
}

d2c_status
d2c_cuda_event_record(d2c_backend *be, d2c_event **event)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    if (*event == NULL)
        D2C_TRY(make_event(cuda, event));
    return d2c_cuda_check(cuda, cudaEventRecord((*event)->event, cuda->stream), "record an event");
}

d2c_status
d2c_cuda_event_wait(d2c_backend *be, d2c_event *event)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    if (event == NULL)
        return D2C_OK;
    return d2c_cuda_check(cuda, cudaEventSynchronize(event->event), "reach an event");
}

void
d2c_cuda_event_free(d2c_backend *be, d2c_event *event)
{
    d2c_cuda_enter(be);
    if (event == NULL)
        return;
    cudaEventDestroy(event->event);
    free(event);
}

/* ---- graphs -------------------------------------------------------------------------------------------------------- */

struct d2c_graph {
    cudaGraphExec_t executable;
};

d2c_status
d2c_cuda_capture_begin(d2c_backend *be)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    if (cuda->capturing)
        return d2c_fail(&be->error, D2C_INTERNAL, "a capture is running already");
    D2C_TRY(d2c_cuda_check(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
                           "begin a capture"));
    cuda->capturing = 1;
    return D2C_OK;
}

static d2c_status
instantiate(d2c_cuda *cuda, d2c_graph **graph, cudaGraph_t captured)
{
    d2c_graph *made = calloc(1, sizeof *made);
    d2c_status status;

    if (made == NULL)
        return d2c_fail(&cuda->base.error, D2C_NO_MEMORY, "out of memory");
    status = d2c_cuda_check(cuda, cudaGraphInstantiate(&made->executable, captured, 0), "prepare a graph");
    if (status != D2C_OK) {
        free(made);
        return status;
    }
    *graph = made;
    cuda->graphs++;
    return D2C_OK;
}

/* A capture in which an op failed ends here as well: its graph is thrown away. */
d2c_status
d2c_cuda_capture_end(d2c_backend *be, d2c_graph **graph)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);
    cudaGraph_t captured = NULL;
    d2c_status status;

    *graph = NULL;
    if (!cuda->capturing)
        return d2c_fail(&be->error, D2C_INTERNAL, "no capture is running");
    cuda->capturing = 0;
    status = d2c_cuda_check(cuda, cudaStreamEndCapture(cuda->stream, &captured), "end a capture");
    if (status == D2C_OK)
        status = instantiate(cuda, graph, captured);
    if (captured != NULL)
        cudaGraphDestroy(captured);
    return status;
}

d2c_status
d2c_cuda_graph_launch(d2c_backend *be, d2c_graph *graph)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    return d2c_cuda_check(cuda, cudaGraphLaunch(graph->executable, cuda->stream), "run a graph");
}

void
d2c_cuda_graph_free(d2c_backend *be, d2c_graph *graph)
{
    d2c_cuda *cuda = d2c_cuda_enter(be);

    if (graph == NULL)
        return;
    cudaGraphExecDestroy(graph->executable);
    free(graph);
    if (--cuda->graphs == 0)
        d2c_cuda_scratch_release(cuda);
}
