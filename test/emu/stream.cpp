/*
 * stream.cpp: streams, events and graphs.
 *
 * What is given to a stream waits in its queue until the host waits for it, or another stream's queue comes to an event
 * that stands in it; then the queue runs in order.  So what nobody waited for has not happened, and a forgotten wait is
 * seen.  With EMU_EAGER everything runs at the call; with EMU_ORDER queues also run ahead, by chance.
 */
#include <string.h>
#include <time.h>

#include <deque>
#include <set>
#include <thread>
#include <vector>

#include "internal.h"

/* The place of an event in a queue, when it was recorded last. */
typedef struct mark {
    cudaStream_t stream;
    bool done;
    double seconds;
} mark;

typedef enum work_kind { WORK_RUN, WORK_RECORD, WORK_WAIT } work_kind;

typedef struct work {
    work_kind kind;
    std::function<void()> run;
    std::shared_ptr<mark> at;
} work;

typedef std::vector<std::function<void()>> sequence;

typedef struct capture {
    cudaStreamCaptureMode mode;
    std::thread::id owner;
    bool invalid;
    std::shared_ptr<sequence> steps;
} capture;

struct CUstream_st {
    std::deque<work> queue;
    std::unique_ptr<capture> captured; /* while a capture runs */
};

struct CUevent_st {
    bool timed;
    std::shared_ptr<sequence> captured; /* what it was recorded last into, when that was a capture */
    std::shared_ptr<mark> at;           /* otherwise; NULL: never recorded */
};

struct CUgraph_st {
    std::shared_ptr<sequence> steps;
};

struct CUgraphExec_st {
    std::shared_ptr<sequence> steps;
};

static CUstream_st &default_stream = *new CUstream_st;
static std::set<cudaStream_t> &streams = *new std::set<cudaStream_t>{&default_stream};

static cudaStream_t
known(cudaStream_t stream)
{
    return stream != NULL ? stream : &default_stream;
}

/* Seconds that work has taken without the host's having waited for them. */
static double pretended;

void
emu_pretend_seconds(double seconds)
{
    pretended += seconds;
}

static double
now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec + pretended;
}

/* ---- running queues -------------------------------------------------------------------------------------------- */

static void reach(mark *at);

/* The first of a queue; once the device is lost, nothing is done any more. */
static void
step(cudaStream_t stream)
{
    work first = std::move(stream->queue.front());

    stream->queue.pop_front();
    if (first.kind == WORK_RUN && !emu_lost())
        first.run();
    if (first.kind == WORK_WAIT)
        reach(first.at.get());
    if (first.kind == WORK_RECORD) {
        first.at->done = true;
        first.at->seconds = now();
    }
}

/* Runs the queue that an event stands in until it is done. */
static void
reach(mark *at)
{
    while (!at->done)
        step(at->stream);
}

static void
run_queue(cudaStream_t stream)
{
    emu_open_memory open;

    while (!stream->queue.empty())
        step(stream);
}

cudaError_t
emu_drain(cudaStream_t stream)
{
    run_queue(known(stream));
    return emu_usable();
}

cudaError_t
emu_drain_all(void)
{
    for (cudaStream_t stream : streams)
        run_queue(stream);
    return emu_usable();
}

/* By chance some stream gets on, as far as it may without another's help. */
static void
run_ahead(void)
{
    auto chosen = streams.begin();
    unsigned steps = emu_below(4);

    std::advance(chosen, emu_below((unsigned)streams.size()));
    emu_open_memory open;
    while (steps-- > 0 && !(*chosen)->queue.empty()) {
        const work &first = (*chosen)->queue.front();

        if (first.kind == WORK_WAIT && !first.at->done)
            return;
        step(*chosen);
    }
}

static bool
is_eager(void)
{
    static const bool eager = emu_setting("EMU_EAGER", 0) != 0;

    return eager;
}

static void
push(cudaStream_t stream, work added)
{
    stream->queue.push_back(std::move(added));
    if (is_eager())
        run_queue(stream);
    else if (emu_permuted())
        run_ahead();
}

/* ---- captures -------------------------------------------------------------------------------------------------- */

/* A stream whose capture was spoilt takes nothing. */
static cudaError_t
capture_state(cudaStream_t stream)
{
    return stream->captured != NULL && stream->captured->invalid ? cudaErrorStreamCaptureInvalidated
                                                                 : cudaSuccess;
}

static cudaError_t
spoil(cudaStream_t stream, cudaError_t error)
{
    stream->captured->invalid = true;
    return error;
}

bool
emu_is_capturing(cudaStream_t stream)
{
    return known(stream)->captured != NULL;
}

cudaError_t
emu_spoil_capture(cudaStream_t stream)
{
    return spoil(known(stream), cudaErrorStreamCaptureUnsupported);
}

cudaError_t
emu_forbidden_in_capture(void)
{
    cudaError_t error = cudaSuccess;

    for (cudaStream_t stream : streams) {
        const capture *running = stream->captured.get();

        if (running == NULL || running->mode == cudaStreamCaptureModeRelaxed ||
            (running->mode == cudaStreamCaptureModeThreadLocal &&
             running->owner != std::this_thread::get_id()))
            continue;
        error = spoil(stream, cudaErrorStreamCaptureUnsupported);
    }
    return error;
}

cudaError_t
emu_queue(cudaStream_t stream, std::function<void()> run)
{
    cudaError_t error = emu_usable();

    stream = known(stream);
    if (error == cudaSuccess)
        error = capture_state(stream);
    if (error != cudaSuccess)
        return error;
    if (stream->captured != NULL)
        stream->captured->steps->push_back(std::move(run));
    else
        push(stream, {WORK_RUN, std::move(run), NULL});
    return emu_usable();
}

cudaError_t
cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    if (error != cudaSuccess)
        return emu_result(error);
    if (stream == NULL)
        return emu_result(cudaErrorStreamCaptureUnsupported);
    if (stream->captured != NULL)
        return emu_result(cudaErrorIllegalState);
    stream->captured.reset(
        new capture{mode, std::this_thread::get_id(), false, std::make_shared<sequence>()});
    return cudaSuccess;
}

cudaError_t
cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    emu_entry entry;
    std::unique_ptr<capture> ended;
    cudaError_t error = emu_usable();

    *graph = NULL;
    stream = known(stream);
    if (stream->captured == NULL)
        return emu_result(error != cudaSuccess ? error : cudaErrorIllegalState);
    if (stream->captured->mode == cudaStreamCaptureModeThreadLocal &&
        stream->captured->owner != std::this_thread::get_id())
        return emu_result(spoil(stream, cudaErrorStreamCaptureWrongThread));
    ended = std::move(stream->captured);
    if (error == cudaSuccess && ended->invalid)
        error = cudaErrorStreamCaptureInvalidated;
    if (error == cudaSuccess)
        *graph = new CUgraph_st{ended->steps};
    return emu_result(error);
}

cudaError_t
cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    emu_entry entry;

    *status = cudaStreamCaptureStatusNone;
    if (known(stream)->captured != NULL)
        *status = known(stream)->captured->invalid ? cudaStreamCaptureStatusInvalidated
                                                   : cudaStreamCaptureStatusActive;
    return emu_result(emu_usable());
}

cudaError_t
cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    *executable = NULL;
    if (error == cudaSuccess && (graph == NULL || flags != 0))
        error = cudaErrorInvalidValue;
    if (error == cudaSuccess)
        *executable = new CUgraphExec_st{graph->steps};
    return emu_result(error);
}

cudaError_t
cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    emu_entry entry;

    if (executable == NULL)
        return emu_result(cudaErrorInvalidValue);
    if (emu_is_capturing(stream))
        return emu_result(spoil(known(stream), cudaErrorStreamCaptureUnsupported));
    return emu_result(emu_queue(stream, [steps = executable->steps]() {
        for (const auto &run : *steps)
            if (!emu_lost())
                run();
    }));
}

cudaError_t
cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    emu_entry entry;

    delete executable;
    return emu_result(emu_usable());
}

cudaError_t
cudaGraphDestroy(cudaGraph_t graph)
{
    emu_entry entry;

    delete graph;
    return emu_result(emu_usable());
}

/* ---- streams --------------------------------------------------------------------------------------------------- */

cudaError_t
cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    *stream = NULL;
    if (error == cudaSuccess && flags != cudaStreamNonBlocking) {
        emu_complain("streams that wait for the default stream are not emulated");
        error = cudaErrorInvalidValue;
    }
    if (error != cudaSuccess)
        return emu_result(error);
    *stream = new CUstream_st;
    streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t
cudaStreamDestroy(cudaStream_t stream)
{
    emu_entry entry;
    cudaError_t error;

    if (streams.count(stream) == 0)
        return emu_result(cudaErrorInvalidResourceHandle);
    error = emu_drain(stream);
    streams.erase(stream);
    delete stream;
    return emu_result(error);
}

/* Waiting for a stream that captures, or for a device with one, spoils the capture. */
static cudaError_t
refuse_wait(cudaStream_t stream)
{
    return stream->captured != NULL ? spoil(stream, cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t
cudaStreamSynchronize(cudaStream_t stream)
{
    emu_entry entry;
    cudaError_t error = refuse_wait(known(stream));

    return emu_result(error != cudaSuccess ? error : emu_drain(stream));
}

/* A host that asks again and again waits: each time the stream gets on by one. */
cudaError_t
cudaStreamQuery(cudaStream_t stream)
{
    emu_entry entry;
    cudaError_t error = refuse_wait(known(stream));

    stream = known(stream);
    if (error == cudaSuccess && !stream->queue.empty()) {
        emu_open_memory open;
        step(stream);
    }
    if (error == cudaSuccess)
        error = emu_usable();
    return emu_result(error == cudaSuccess && !stream->queue.empty() ? cudaErrorNotReady : error);
}

cudaError_t
cudaDeviceSynchronize(void)
{
    emu_entry entry;
    cudaError_t error = cudaSuccess;

    for (cudaStream_t stream : streams)
        if (error == cudaSuccess)
            error = refuse_wait(stream);
    return emu_result(error != cudaSuccess ? error : emu_drain_all());
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

cudaError_t
cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    *event = NULL;
    if (error == cudaSuccess)
        *event = new CUevent_st{(flags & cudaEventDisableTiming) == 0, NULL, NULL};
    return emu_result(error);
}

cudaError_t
cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t
cudaEventDestroy(cudaEvent_t event)
{
    emu_entry entry;

    delete event;
    return emu_result(emu_usable());
}

cudaError_t
cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    stream = known(stream);
    if (error == cudaSuccess)
        error = event == NULL ? cudaErrorInvalidResourceHandle : capture_state(stream);
    if (error != cudaSuccess)
        return emu_result(error);
    event->captured = NULL;
    event->at = NULL;
    if (stream->captured != NULL) {
        event->captured = stream->captured->steps;
        return cudaSuccess;
    }
    event->at = std::make_shared<mark>(mark{stream, false, 0});
    push(stream, {WORK_RECORD, nullptr, event->at});
    return emu_result(emu_usable());
}

/* A wait for an event of a capture, or in one.  Within one stream's capture it changes nothing. */
static cudaError_t
wait_in_capture(cudaStream_t stream, cudaEvent_t event)
{
    if (event->captured == NULL)
        return spoil(stream, cudaErrorStreamCaptureIsolation);
    if (stream->captured != NULL && stream->captured->steps == event->captured)
        return cudaSuccess;
    for (cudaStream_t other : streams)
        if (other->captured != NULL && other->captured->steps == event->captured) {
            emu_complain("a capture of more than one stream is not emulated");
            return spoil(other, cudaErrorStreamCaptureUnsupported);
        }
    return cudaErrorCapturedEvent;
}

cudaError_t
cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    stream = known(stream);
    if (error == cudaSuccess)
        error = event == NULL ? cudaErrorInvalidResourceHandle : capture_state(stream);
    if (error == cudaSuccess && flags != 0)
        error = cudaErrorInvalidValue;
    if (error != cudaSuccess || (event->at == NULL && event->captured == NULL))
        return emu_result(error);
    if (stream->captured != NULL || event->captured != NULL)
        return emu_result(wait_in_capture(stream, event));
    push(stream, {WORK_WAIT, nullptr, event->at});
    return emu_result(emu_usable());
}

/* Whether the host may ask how far an event is. */
static cudaError_t
may_ask(cudaEvent_t event)
{
    cudaError_t error = emu_forbidden_in_capture();

    if (error == cudaSuccess)
        error = emu_usable();
    return error == cudaSuccess && event->captured != NULL ? cudaErrorCapturedEvent : error;
}

cudaError_t
cudaEventSynchronize(cudaEvent_t event)
{
    emu_entry entry;
    cudaError_t error = may_ask(event);

    if (error != cudaSuccess || event->at == NULL)
        return emu_result(error);
    emu_open_memory open;
    reach(event->at.get());
    return emu_result(emu_usable());
}

cudaError_t
cudaEventQuery(cudaEvent_t event)
{
    emu_entry entry;
    cudaError_t error = may_ask(event);

    if (error != cudaSuccess || event->at == NULL || event->at->done)
        return emu_result(error);
    emu_open_memory open;
    step(event->at->stream);
    error = emu_usable();
    return emu_result(error == cudaSuccess && !event->at->done ? cudaErrorNotReady : error);
}

cudaError_t
cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end)
{
    emu_entry entry;
    cudaError_t error = emu_usable();

    *milliseconds = 0;
    if (error != cudaSuccess)
        return emu_result(error);
    if (!start->timed || !end->timed || start->at == NULL || end->at == NULL)
        return emu_result(cudaErrorInvalidResourceHandle);
    if (!start->at->done || !end->at->done)
        return emu_result(cudaErrorNotReady);
    *milliseconds = (float)(1e3 * (end->at->seconds - start->at->seconds));
    return cudaSuccess;
}
