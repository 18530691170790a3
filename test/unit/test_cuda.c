/*
 * test_cuda.c: what the CUDA backend promises beyond the op table: order, overlap, events, captures, and how it fails.
 *
 * Runs on the emulator or on a real device, where what needs the emulator's controls is left out.  The program runs
 * itself again for what costs a process its device, and under the emulator's other orders.
 */
#include "cuda_fixture.h"

#include <pthread.h>
#include <stdint.h>

#include "base/philox.h"
#include "ops/ops.h"

#define COUNT 5000 /* floats of a vector */
#define VECTOR_BYTES (COUNT * sizeof(float))

static d2c_backend *be;

/* ---- small parts ----------------------------------------------------------------------------------------------- */

static void *
allocate(size_t bytes, d2c_memory kind)
{
    void *block = NULL;

    CHECK_OK(d2c_alloc(be, &block, bytes, kind), &be->error);
    return block;
}

static d2c_tensor
vector(void *data)
{
    return d2c_tensor1(data, D2C_F32, COUNT);
}

/* A vector of the device that holds first, first + 1, ... */
static float *
counting(float first)
{
    static float host[COUNT];
    float *device = allocate(VECTOR_BYTES, D2C_MEMORY_DEVICE);
    int i;

    for (i = 0; i < COUNT; i++)
        host[i] = first + (float)i;
    CHECK_OK(d2c_upload(be, device, host, sizeof host), &be->error);
    return device;
}

/* Whether a vector of the host holds first + i * each. */
static int
holds(const float *host, float first, float each)
{
    int i;

    for (i = 0; i < COUNT; i++)
        if (host[i] != first + (float)i * each)
            return 0;
    return 1;
}

static int
device_holds(const float *device, float first, float each)
{
    static float host[COUNT];

    CHECK_OK(d2c_download(be, host, device, sizeof host), &be->error);
    return holds(host, first, each);
}

static void
release(void *device)
{
    d2c_free(be, device, D2C_MEMORY_DEVICE);
}

/* y = a x + b y of vectors */
static d2c_status
axpby(float *y, float a, float *x, float b)
{
    return d2c_axpby(be, vector(y), a, vector(x), b);
}

/* The backend still works. */
static void
check_works(void)
{
    float *x = counting(1), *y = counting(2);

    CHECK_OK(axpby(y, 2, x, 1), &be->error);
    CHECK(device_holds(y, 4, 3));
    CHECK(!be->lost);
    release(x);
    release(y);
}

/* ---- copies ---------------------------------------------------------------------------------------------------- */

#define MODEL_BYTES 9000

/* Two blocks of the device and what they should hold. */
typedef struct model {
    char *device[2];
    char host[2][MODEL_BYTES];
    uint32_t drawn;
} model;

static size_t
draw(model *m, size_t below)
{
    return d2c_philox(11, m->drawn++, 0, D2C_PURPOSE_TEST).w[0] % below;
}

/* A random copy, fill or upload, of any alignment; the source of an upload is overwritten as soon as it returns. */
static void
change_blocks(model *m)
{
    char source[MODEL_BYTES];
    size_t bytes = 1 + draw(m, draw(m, 2) ? 40 : MODEL_BYTES), to = draw(m, MODEL_BYTES - bytes + 1),
           from = draw(m, MODEL_BYTES - bytes + 1), kind = draw(m, 3), k = draw(m, 2);

    if (kind == 0) {
        memset(source, (int)draw(m, 256), bytes);
        memcpy(m->host[k] + to, source, bytes);
        CHECK_OK(d2c_upload(be, m->device[k] + to, source, bytes), &be->error);
        memset(source, 0x77, bytes);
    } else if (kind == 1) {
        memset(m->host[k] + to, 0, bytes);
        CHECK_OK(d2c_zero(be, m->device[k] + to, bytes), &be->error);
    } else {
        memcpy(m->host[k] + to, m->host[1 - k] + from, bytes);
        CHECK_OK(d2c_copy(be, m->device[k] + to, m->device[1 - k] + from, bytes), &be->error);
    }
}

static void
test_copies_in_order(void)
{
    static model m;
    char got[MODEL_BYTES];
    int i, k;

    memset(&m, 0, sizeof m);
    for (k = 0; k < 2; k++) {
        m.device[k] = allocate(MODEL_BYTES, D2C_MEMORY_DEVICE);
        CHECK_OK(d2c_zero(be, m.device[k], MODEL_BYTES), &be->error);
    }
    for (i = 0; i < 300; i++) {
        change_blocks(&m);
        if (i % 60 != 59)
            continue;
        for (k = 0; k < 2; k++) {
            CHECK_OK(d2c_download(be, got, m.device[k], MODEL_BYTES), &be->error);
            CHECK(memcmp(got, m.host[k], MODEL_BYTES) == 0);
        }
    }
    release(m.device[0]);
    release(m.device[1]);
}

/* More than the pinned memory that uploads pass through, in pieces that do not divide it. */
static void
test_large_uploads(void)
{
    const size_t bytes = ((size_t)37 << 20) + 13, piece = ((size_t)5 << 20) + 1;
    unsigned char *source = malloc(piece), *got = malloc(bytes);
    char *device = allocate(bytes, D2C_MEMORY_DEVICE);
    size_t done, count, i, wrong = 0;

    for (done = 0; done < bytes; done += count) {
        count = bytes - done < piece ? bytes - done : piece;
        for (i = 0; i < count; i++)
            source[i] = (unsigned char)((done + i) * 2654435761u >> 13);
        CHECK_OK(d2c_upload(be, device + done, source, count), &be->error);
        memset(source, 0x55, count);
    }
    CHECK_OK(d2c_download(be, got, device, bytes), &be->error);
    for (i = 0; i < bytes; i++)
        wrong += got[i] != (unsigned char)(i * 2654435761u >> 13);
    CHECK(wrong == 0);
    release(device);
    free(source);
    free(got);
}

/* As the trainer does: batches by turns into two buffers, each overwritten when what read it is done. */
static void
test_early_uploads(void)
{
    enum { STEPS = 12, FLOATS = 1 << 19 };
    float *sum = allocate(FLOATS * sizeof(float), D2C_MEMORY_DEVICE), *batch[2], *host;
    d2c_event *read[2] = {NULL, NULL};
    int step, i, wrong = 0;

    host = malloc(FLOATS * sizeof(float));
    for (i = 0; i < 2; i++)
        batch[i] = allocate(FLOATS * sizeof(float), D2C_MEMORY_DEVICE);
    CHECK_OK(d2c_zero(be, sum, FLOATS * sizeof(float)), &be->error);
    for (step = 0; step < STEPS; step++) {
        CHECK_OK(d2c_event_wait(be, read[step % 2]), &be->error);
        for (i = 0; i < FLOATS; i++)
            host[i] = (float)(step + i % 100);
        CHECK_OK(d2c_upload_early(be, batch[step % 2], host, FLOATS * sizeof(float)), &be->error);
        memset(host, 0xFF, FLOATS * sizeof(float));
        CHECK_OK(d2c_axpby(be, d2c_tensor1(sum, D2C_F32, FLOATS), 1,
                           d2c_tensor1(batch[step % 2], D2C_F32, FLOATS), 1),
                 &be->error);
        CHECK_OK(d2c_event_record(be, &read[step % 2]), &be->error);
    }
    CHECK_OK(d2c_download(be, host, sum, FLOATS * sizeof(float)), &be->error);
    for (i = 0; i < FLOATS; i++)
        wrong += host[i] != (float)(STEPS * (STEPS - 1) / 2 + STEPS * (i % 100));
    CHECK(wrong == 0);
    for (i = 0; i < 2; i++) {
        d2c_event_free(be, read[i]);
        release(batch[i]);
    }
    release(sum);
    free(host);
}

/* An early upload does not make the host wait for what is queued before it. */
static void
test_early_upload_overlaps(void)
{
    float *x = counting(1), *y = counting(5), *pinned = allocate(VECTOR_BYTES, D2C_MEMORY_PINNED);
    static float host[COUNT];

    CHECK_OK(d2c_synchronize(be), &be->error);
    memset(pinned, 0, VECTOR_BYTES);
    CHECK_OK(d2c_download_later(be, pinned, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_upload_early(be, y, host, VECTOR_BYTES), &be->error);
    if (is_deferred())
        CHECK(pinned[0] == 0);
    CHECK(device_holds(y, 0, 0));
    CHECK(holds(pinned, 1, 1));
    d2c_free(be, pinned, D2C_MEMORY_PINNED);
    release(x);
    release(y);
}

/* ---- events ---------------------------------------------------------------------------------------------------- */

/* What was queued before the event has been brought, whatever was queued after it. */
static void
test_download_later(void)
{
    float *x = counting(1), *pinned = allocate(2 * VECTOR_BYTES, D2C_MEMORY_PINNED);
    d2c_event *event = NULL;

    CHECK_OK(axpby(x, 1, x, 1), &be->error);
    CHECK_OK(d2c_download_later(be, pinned, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_event_record(be, &event), &be->error);
    CHECK_OK(d2c_zero(be, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_download_later(be, pinned + COUNT, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_event_wait(be, event), &be->error);
    CHECK(holds(pinned, 2, 2));
    CHECK_OK(d2c_synchronize(be), &be->error);
    CHECK(holds(pinned + COUNT, 0, 0));
    d2c_event_free(be, event);
    d2c_free(be, pinned, D2C_MEMORY_PINNED);
    release(x);
}

/* An event recorded again stands for its newest place; waiting for none, or twice, does nothing. */
static void
test_events(void)
{
    float *x = counting(1), *pinned = allocate(VECTOR_BYTES, D2C_MEMORY_PINNED);
    d2c_event *event = NULL, *first;

    CHECK_OK(d2c_event_wait(be, NULL), &be->error);
    d2c_event_free(be, NULL);
    CHECK_OK(d2c_event_record(be, &event), &be->error);
    first = event;
    CHECK_OK(d2c_download_later(be, pinned, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_event_record(be, &event), &be->error);
    CHECK(event == first);
    CHECK_OK(d2c_event_wait(be, event), &be->error);
    CHECK_OK(d2c_event_wait(be, event), &be->error);
    CHECK(holds(pinned, 1, 1));
    d2c_event_free(be, event);
    d2c_free(be, pinned, D2C_MEMORY_PINNED);
    release(x);
}

/* ---- captures -------------------------------------------------------------------------------------------------- */

/* A step that depends on what the last one left, with every kind of work that a capture takes. */
typedef struct steps {
    float *x, *sum, *changed, *record;
} steps;

static void
open_steps(steps *s)
{
    s->x = counting(-2000);
    s->sum = counting(7);
    s->changed = counting(0);
    s->record = allocate(sizeof(d2c_step_record), D2C_MEMORY_DEVICE);
    CHECK_OK(d2c_zero(be, s->record, sizeof(d2c_step_record)), &be->error);
}

static void
close_steps(steps *s)
{
    release(s->x);
    release(s->sum);
    release(s->changed);
    release(s->record);
}

static d2c_status
run_step(steps *s)
{
    D2C_TRY(axpby(s->sum, 0.125f, s->x, 0.5f));
    D2C_TRY(d2c_act_forward(be, vector(s->changed), vector(s->sum), D2C_ACT_GELU_TANH));
    D2C_TRY(d2c_gradient_norm(be, (d2c_step_record *)s->record, vector(s->changed)));
    D2C_TRY(axpby(s->sum, 1, s->changed, 1));
    D2C_TRY(d2c_copy(be, s->changed, s->sum, VECTOR_BYTES));
    return d2c_zero(be, s->x, VECTOR_BYTES / 2);
}

/* sum, then the record */
static void
download_steps(steps *s, char got[VECTOR_BYTES + sizeof(d2c_step_record)])
{
    CHECK_OK(d2c_download(be, got, s->sum, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_download(be, got + VECTOR_BYTES, s->record, sizeof(d2c_step_record)), &be->error);
}

static void
test_capture(void)
{
    static char start[VECTOR_BYTES + sizeof(d2c_step_record)], eager[sizeof start], replayed[sizeof start];
    d2c_graph *graph = NULL;
    steps s;
    int i;

    open_steps(&s);
    download_steps(&s, start);
    for (i = 0; i < 3; i++)
        CHECK_OK(run_step(&s), &be->error);
    download_steps(&s, eager);
    close_steps(&s);
    CHECK(memcmp(start, eager, sizeof eager) != 0);

    open_steps(&s);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK_OK(run_step(&s), &be->error);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    download_steps(&s, replayed);
    CHECK(memcmp(start, replayed, sizeof replayed) == 0);
    for (i = 0; i < 3; i++)
        CHECK_OK(d2c_graph_launch(be, graph), &be->error);
    d2c_graph_free(be, graph);
    download_steps(&s, replayed);
    CHECK(memcmp(eager, replayed, sizeof replayed) == 0);
    close_steps(&s);
}

/* Between launches the inputs change by early uploads, as a trainer's do. */
static void
test_replay_with_new_inputs(void)
{
    float *x = counting(0), *y = counting(0), host[COUNT];
    d2c_graph *graph = NULL;
    int i, k;

    CHECK_OK(axpby(y, 1, x, 1), &be->error);
    CHECK_OK(d2c_zero(be, y, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK_OK(axpby(y, 1, x, 2), &be->error);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    for (k = 1; k <= 3; k++) {
        CHECK_OK(d2c_synchronize(be), &be->error);
        for (i = 0; i < COUNT; i++)
            host[i] = (float)k;
        CHECK_OK(d2c_upload_early(be, x, host, sizeof host), &be->error);
        memset(host, 0xFF, sizeof host);
        CHECK_OK(d2c_graph_launch(be, graph), &be->error);
    }
    CHECK(device_holds(y, 1 * 4 + 2 * 2 + 3, 0));
    d2c_graph_free(be, graph);
    release(x);
    release(y);
}

static d2c_status
allocate_something(float *x)
{
    void *block = NULL;

    (void)x;
    return d2c_alloc(be, &block, 1000, D2C_MEMORY_DEVICE);
}

static d2c_status
wait_for_stream(float *x)
{
    (void)x;
    return d2c_synchronize(be);
}

static d2c_status
download_something(float *x)
{
    static float host[COUNT];

    return d2c_download(be, host, x, sizeof host);
}

/* What a capture does not bear fails and spoils it; the backend goes on. */
static void
test_spoilt_captures(void)
{
    d2c_status (*const spoil[])(float *x) = {allocate_something, wait_for_stream, download_something};
    float *x = counting(1);
    d2c_graph *graph;
    size_t i;

    for (i = 0; i < sizeof spoil / sizeof spoil[0]; i++) {
        CHECK_OK(d2c_capture_begin(be), &be->error);
        CHECK_OK(axpby(x, 1, x, 0), &be->error);
        CHECK(spoil[i](x) != D2C_OK);
        graph = (d2c_graph *)x;
        CHECK(d2c_capture_end(be, &graph) != D2C_OK);
        CHECK(graph == NULL);
        check_works();
    }
    CHECK(device_holds(x, 1, 1));
    release(x);
}

static void
test_capture_misuse(void)
{
    d2c_graph *graph = NULL;

    CHECK(d2c_capture_end(be, &graph) == D2C_INTERNAL);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK(d2c_capture_begin(be) == D2C_INTERNAL);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    CHECK_OK(d2c_graph_launch(be, graph), &be->error);
    d2c_graph_free(be, graph);
    d2c_graph_free(be, NULL);
    check_works();
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static void
test_out_of_memory(void)
{
    void *block = &block;

    CHECK(d2c_alloc(be, &block, (size_t)1 << 50, D2C_MEMORY_DEVICE) == D2C_NO_MEMORY);
    CHECK(block == NULL);
    CHECK(strstr(be->error.message, "out of memory") != NULL);
    CHECK(strstr(be->error.detail, "Asked for 1073741824.0 MiB; ") != NULL);
    CHECK(strstr(be->error.detail, " MiB are free.") != NULL);
    check_works();
}

/* On a small device: what is free is told truly, and is there again once freed. */
static void
test_memory_use(void)
{
    const size_t mib = 1 << 20;
    size_t available = 0, total = 0, before;
    void *block, *more;
    char text[128];

    if (!is_emulated())
        return;
    emu.set_memory(64 * mib);
    CHECK_OK(d2c_memory_use(be, &before, &total), &be->error);
    CHECK(total == 64 * mib && before <= total);
    block = allocate(before - 8 * mib, D2C_MEMORY_DEVICE);
    CHECK_OK(d2c_memory_use(be, &available, &total), &be->error);
    CHECK(available == 8 * mib);
    CHECK(d2c_alloc(be, &more, 9 * mib, D2C_MEMORY_DEVICE) == D2C_NO_MEMORY);
    snprintf(text, sizeof text, "Asked for 9.0 MiB; 8.0 of 64.0 MiB are free.");
    CHECK(strcmp(be->error.detail, text) == 0);
    more = allocate(8 * mib, D2C_MEMORY_DEVICE);
    release(block);
    release(more);
    CHECK_OK(d2c_memory_use(be, &available, &total), &be->error);
    CHECK(available == before);
    emu.set_memory((size_t)4 << 30);
    check_works();
}

/* ---- failing launches ------------------------------------------------------------------------------------------ */

enum { LAUNCH_OUT_OF_RESOURCES = 701, LAUNCH_FAILURE = 719 }; /* of cudaError_t */

/* A launch that the device refuses is that op's failure alone. */
static void
test_refused_launch(void)
{
    float *x = counting(1);

    if (!is_emulated())
        return;
    emu.fail_launch(1, LAUNCH_OUT_OF_RESOURCES);
    CHECK(axpby(x, 1, x, 1) == D2C_DEVICE);
    CHECK(strstr(be->error.message, "too many resources requested for launch") != NULL);
    CHECK(!be->lost);
    CHECK_OK(axpby(x, 1, x, 1), &be->error);
    CHECK(device_holds(x, 2, 2));
    release(x);
}

static void
test_refused_launch_in_capture(void)
{
    float *x = counting(1);
    d2c_graph *graph = NULL;

    if (!is_emulated())
        return;
    CHECK_OK(d2c_capture_begin(be), &be->error);
    emu.fail_launch(1, LAUNCH_OUT_OF_RESOURCES);
    CHECK(axpby(x, 1, x, 1) == D2C_DEVICE);
    d2c_capture_end(be, &graph);
    d2c_graph_free(be, graph);
    check_works();
    release(x);
}

/* The device fails while it runs: the next wait says so, and every call from then on, of new backends as well. */
static void
check_loss(void)
{
    float *x = counting(1), *pinned = allocate(VECTOR_BYTES, D2C_MEMORY_PINNED);
    d2c_backend *second = NULL;
    d2c_event *event = NULL;
    d2c_graph *graph = NULL;
    void *block = NULL;
    float host[COUNT] = {0};
    d2c_error err;

    emu.fail_launch(1, LAUNCH_FAILURE);
    CHECK_OK(axpby(x, 1, x, 1), &be->error);
    CHECK(!be->lost);
    CHECK(d2c_synchronize(be) == D2C_DEVICE);
    CHECK(be->lost);
    CHECK(strstr(be->error.message, "unspecified launch failure") != NULL);
    CHECK(axpby(x, 1, x, 1) == D2C_DEVICE);
    CHECK(be->lost);
    CHECK(d2c_alloc(be, &block, 1000, D2C_MEMORY_DEVICE) == D2C_DEVICE);
    CHECK(d2c_alloc(be, &block, 1000, D2C_MEMORY_PINNED) == D2C_DEVICE);
    CHECK(d2c_upload(be, x, host, sizeof host) == D2C_DEVICE);
    CHECK(d2c_upload_early(be, x, host, sizeof host) == D2C_DEVICE);
    CHECK(d2c_download(be, host, x, sizeof host) == D2C_DEVICE);
    CHECK(d2c_download_later(be, pinned, x, VECTOR_BYTES) == D2C_DEVICE);
    CHECK(d2c_zero(be, x, VECTOR_BYTES) == D2C_DEVICE);
    CHECK(d2c_event_record(be, &event) == D2C_DEVICE);
    CHECK(d2c_capture_begin(be) == D2C_DEVICE);
    CHECK(d2c_capture_end(be, &graph) != D2C_OK);
    CHECK(d2c_backend_open(&second, "cuda", 1, &err) != D2C_OK);
    CHECK(second == NULL);
    d2c_free(be, pinned, D2C_MEMORY_PINNED);
    release(x);
}

/* ---- many at once ---------------------------------------------------------------------------------------------- */

#define ROWS 40
#define WIDTH 64

/* Draws, a product, a reduction: the results of a small run on a backend of its own. */
typedef struct run {
    const char *device;
    d2c_status status;
    float y[ROWS * WIDTH];
    d2c_step_record record;
} run;

typedef struct run_memory {
    float *x, *y, *w, *record;
    int64_t *id, *epoch;
} run_memory;

static d2c_status
allocate_run(d2c_backend *own, run_memory *m)
{
    const int64_t numbers[2] = {7, 2};

    D2C_TRY(d2c_alloc(own, (void **)&m->x, ROWS * WIDTH * sizeof(float), D2C_MEMORY_DEVICE));
    D2C_TRY(d2c_alloc(own, (void **)&m->y, ROWS * WIDTH * sizeof(float), D2C_MEMORY_DEVICE));
    D2C_TRY(d2c_alloc(own, (void **)&m->w, WIDTH * WIDTH * sizeof(float), D2C_MEMORY_DEVICE));
    D2C_TRY(d2c_alloc(own, (void **)&m->record, sizeof(d2c_step_record), D2C_MEMORY_DEVICE));
    D2C_TRY(d2c_alloc(own, (void **)&m->id, sizeof numbers, D2C_MEMORY_DEVICE));
    m->epoch = m->id + 1;
    D2C_TRY(d2c_upload(own, m->id, numbers, sizeof numbers));
    return d2c_zero(own, m->record, sizeof(d2c_step_record));
}

static void
free_run(d2c_backend *own, run_memory *m)
{
    void *all[] = {m->x, m->y, m->w, m->record, m->id};
    size_t i;

    for (i = 0; i < sizeof all / sizeof all[0]; i++)
        d2c_free(own, all[i], D2C_MEMORY_DEVICE);
}

static d2c_status
draw_run(d2c_backend *own, const run_memory *m, float *to, int64_t count, uint64_t seed)
{
    return d2c_draw_normal(own, d2c_tensor2(to, D2C_F32, 1, count), seed, d2c_tensor1(m->id, D2C_I64, 1),
                           d2c_tensor1(m->epoch, D2C_I64, 1), D2C_PURPOSE_TEST);
}

static d2c_status
compute_run(d2c_backend *own, const run_memory *m)
{
    d2c_tensor x = d2c_tensor2(m->x, D2C_F32, ROWS, WIDTH), y = d2c_tensor2(m->y, D2C_F32, ROWS, WIDTH);
    d2c_weight layer;
    int i;

    memset(&layer, 0, sizeof layer);
    layer.value = d2c_tensor2(m->w, D2C_F32, WIDTH, WIDTH);
    D2C_TRY(draw_run(own, m, m->x, ROWS * WIDTH, 1));
    D2C_TRY(draw_run(own, m, m->w, WIDTH * WIDTH, 2));
    for (i = 0; i < 4; i++) {
        D2C_TRY(d2c_linear_forward(own, y, d2c_absent(), x, &layer, D2C_ACT_NONE));
        D2C_TRY(d2c_axpby(own, x, 0.1f, y, 0.5f));
        D2C_TRY(
            d2c_gradient_norm(own, (d2c_step_record *)m->record, d2c_tensor1(m->x, D2C_F32, ROWS * WIDTH)));
    }
    return D2C_OK;
}

static void *
run_alone(void *argument)
{
    run *r = argument;
    run_memory m;
    d2c_backend *own;

    memset(&m, 0, sizeof m);
    r->status = d2c_backend_open(&own, r->device, 1, NULL);
    if (r->status != D2C_OK)
        return NULL;
    r->status = allocate_run(own, &m);
    if (r->status == D2C_OK)
        r->status = compute_run(own, &m);
    if (r->status == D2C_OK)
        r->status = d2c_download(own, r->y, m.x, sizeof r->y);
    if (r->status == D2C_OK)
        r->status = d2c_download(own, &r->record, m.record, sizeof r->record);
    free_run(own, &m);
    d2c_backend_close(own);
    return NULL;
}

static int
same_run(const run *a, const run *b)
{
    return memcmp(a->y, b->y, sizeof a->y) == 0 && memcmp(&a->record, &b->record, sizeof a->record) == 0;
}

static void
test_two_threads(void)
{
    static run alone = {.device = "cuda"}, both[2] = {{.device = "cuda"}, {.device = "cuda:0"}};
    pthread_t thread[2];
    int i;

    run_alone(&alone);
    CHECK(alone.status == D2C_OK);
    CHECK(alone.record.grad_norm > 0);
    for (i = 0; i < 2; i++)
        CHECK(pthread_create(&thread[i], NULL, run_alone, &both[i]) == 0);
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(thread[i], NULL) == 0);
        CHECK(both[i].status == D2C_OK);
        CHECK(same_run(&alone, &both[i]));
    }
}

/* The order in which threads, blocks and streams get on changes no bit. */
static void
test_orders(void)
{
    static run natural = {.device = "cuda"}, other = {.device = "cuda"};
    unsigned long seed;

    if (!is_deferred())
        return;
    run_alone(&natural);
    CHECK(natural.status == D2C_OK);
    for (seed = 1; seed <= 5; seed++) {
        emu.set_order(seed);
        run_alone(&other);
        CHECK(other.status == D2C_OK);
        CHECK(same_run(&natural, &other));
    }
    emu.set_order(0);
}

/* ---- opening and closing --------------------------------------------------------------------------------------- */

/* Work of every kind is still queued; its memory is freed before or after the backend. */
static void
test_close_with_work_queued(void)
{
    float *x = counting(1), *y = counting(2), *z = counting(3), host[COUNT] = {0};
    float *pinned = allocate(VECTOR_BYTES, D2C_MEMORY_PINNED);
    d2c_backend *main_backend = be, *own = NULL;
    d2c_event *event = NULL;
    d2c_error err;

    CHECK_OK(d2c_synchronize(be), &be->error);
    CHECK_OK(d2c_backend_open(&own, "cuda", 1, &err), &err);
    be = own;
    CHECK_OK(axpby(x, 1, x, 1), &be->error);
    CHECK_OK(d2c_upload_early(be, y, host, sizeof host), &be->error);
    CHECK_OK(d2c_upload(be, x, host, sizeof host / 2), &be->error);
    CHECK_OK(d2c_download_later(be, pinned, x, VECTOR_BYTES), &be->error);
    CHECK_OK(d2c_event_record(be, &event), &be->error);
    CHECK_OK(axpby(y, 1, x, 1), &be->error);
    CHECK_OK(d2c_upload_early(be, z, host, sizeof host), &be->error);
    release(y);
    d2c_event_free(be, event);
    d2c_backend_close(be);
    be = main_backend;
    CHECK(pinned[COUNT / 2 - 1] == 0 && pinned[COUNT - 1] == 2 * COUNT);
    CHECK(device_holds(z, 0, 0));
    d2c_free(be, pinned, D2C_MEMORY_PINNED);
    release(x);
    release(z);
    check_works();
}

static void
test_absent_device(void)
{
    d2c_backend *none = be;
    d2c_error err;

    CHECK(d2c_backend_open(&none, "cuda:999", 1, &err) == D2C_UNSUPPORTED);
    CHECK(none == NULL);
    CHECK(strcmp(err.message, "device \"cuda:999\" is not available") == 0);
    CHECK(strstr(err.detail, "CUDA devices, numbered from 0.") != NULL);
}

static void
check_no_device(const char *reason)
{
    d2c_backend *none = NULL;
    d2c_error err;

    CHECK(d2c_backend_open(&none, "cuda", 1, &err) == D2C_UNSUPPORTED);
    CHECK(none == NULL);
    CHECK(strstr(err.detail, reason) != NULL);
}

/* ---- the program again ----------------------------------------------------------------------------------------- */

static void
test_loss(void)
{
    check_again("loss", "", "EMU_ORDER", "0");
}

static void
test_no_device(void)
{
    check_again("no device", "no CUDA-capable device is detected", "EMU_DEVICES", "0");
}

static void
test_no_driver(void)
{
    check_again("no device", "There is no NVIDIA driver.", "EMU_DEVICES", "-1");
}

static void
test_old_driver(void)
{
    check_again("no device", "is for CUDA 12.4; d2c was built with 13.", "EMU_DEVICES", "-2");
}

static void
test_eager(void)
{
    check_again("all", "", "EMU_EAGER", "1");
}

static void
test_permuted(void)
{
    check_again("all", "", "EMU_ORDER", "1");
    check_again("all", "", "EMU_ORDER", "2");
}

/* ---------------------------------------------------------------------------------------------------------------- */

static void
test_backend(void)
{
    RUN(test_copies_in_order);
    RUN(test_large_uploads);
    RUN(test_early_uploads);
    RUN(test_early_upload_overlaps);
    RUN(test_download_later);
    RUN(test_events);
    RUN(test_capture);
    RUN(test_replay_with_new_inputs);
    RUN(test_spoilt_captures);
    RUN(test_capture_misuse);
    RUN(test_out_of_memory);
    RUN(test_memory_use);
    RUN(test_refused_launch);
    RUN(test_refused_launch_in_capture);
    RUN(test_two_threads);
    RUN(test_orders);
    RUN(test_close_with_work_queued);
    RUN(test_absent_device);
}

static void
test_again(void)
{
    RUN(test_loss);
    RUN(test_no_device);
    RUN(test_no_driver);
    RUN(test_old_driver);
    RUN(test_eager);
    RUN(test_permuted);
}

int
main(int argc, char **argv)
{
    const char *mode = argc == 3 ? argv[1] : "";
    d2c_error err;

    if (!find_library())
        return check_report();
    if (strcmp(mode, "no device") == 0) {
        check_no_device(argv[2]);
        return check_current != 0;
    }
    if (d2c_backend_open(&be, "cuda", 1, &err) != D2C_OK) {
        printf("# cuda: %s: %s\n", err.message, err.detail);
        return check_report();
    }
    if (strcmp(mode, "loss") == 0) {
        check_loss();
        d2c_backend_close(be);
        return check_current != 0;
    }
    test_backend();
    if (mode[0] == '\0' && is_emulated())
        test_again();
    d2c_backend_close(be);
    return check_report();
}
