/* test_step.c: steps in micro-batches, results that come late, memory that does not suffice, and its plan. */
#include "ops/backend.h"
#include "step_fixture.h"
#include "train/plan.h"

static const char *const devices[] = {"reference", "cpu"};

static d2c_backend *
open_device(const char *device)
{
    d2c_backend *be = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    return be;
}

static void
open_stepper(step_fixture *f, int batch, int micro_batch)
{
    d2c_step_setting setting = step_setting(f, batch, micro_batch);

    CHECK_OK(d2c_stepper_open(&f->stepper, f->sit, f->be, &setting, &f->err), &f->err);
}

/* ---- micro-batches --------------------------------------------------------------------------------------------- */

/* Three steps and a measurement of 12 rows in micro-batches; the state after them. */
static float *
run_micro(const char *device, d2c_sit_kind kind, int micro_batch, d2c_step_result result[4])
{
    step_fixture f;
    float *state;
    int i;

    step_open_kind(&f, open_device(device), D2C_F32, 12, kind);
    open_stepper(&f, 12, micro_batch);
    CHECK(d2c_stepper_micro_batch(f.stepper) == (micro_batch > 0 ? micro_batch : 12));
    for (i = 0; i < 3; i++)
        result[i] = step_run(&f, i);
    CHECK_OK(d2c_stepper_measure(f.stepper, &result[3], step_batch(&f, 50), &f.err), &f.err);
    state = step_state(&f);
    step_close(&f);
    return state;
}

/* Three steps at that level; bytes: of activations. */
static float *
run_recompute(const char *device, d2c_sit_kind kind, int micro, d2c_recompute level, size_t *bytes,
              int64_t *count)
{
    d2c_step_setting setting;
    d2c_step_bytes plan;
    step_fixture f;
    float *state;
    int i;

    step_open_kind(&f, open_device(device), D2C_F32, 12, kind);
    setting = step_setting(&f, 12, micro);
    setting.recompute = level;
    CHECK_OK(d2c_step_plan(&plan, f.sit, &setting, 0, &f.err), &f.err);
    *bytes = plan.activations;
    CHECK_OK(d2c_stepper_open(&f.stepper, f.sit, f.be, &setting, &f.err), &f.err);
    for (i = 0; i < 3; i++)
        step_run(&f, i);
    state = step_state(&f);
    *count = 4 * f.sit->params.total;
    step_close(&f);
    return state;
}

static void
check_recompute(const char *device, d2c_sit_kind kind, int micro)
{
    float *state[3];
    size_t bytes[3];
    int64_t count;
    int level;

    for (level = 0; level < 3; level++)
        state[level] = run_recompute(device, kind, micro, (d2c_recompute)level, &bytes[level], &count);
    for (level = 1; level < 3; level++)
        CHECK(bytes[level] < bytes[level - 1] &&
              memcmp(state[level], state[0], (size_t)count * sizeof(float)) == 0);
    for (level = 0; level < 3; level++)
        free(state[level]);
}

/* Computing again in backward changes no bit, with micro-batches and without, and takes less memory. */
static void
recomputing_changes_nothing(void)
{
    int kind, d;

    for (kind = 0; kind < 3; kind++)
        for (d = 0; d < 2; d++) {
            check_recompute(devices[d], (d2c_sit_kind)kind, 0);
            check_recompute(devices[d], (d2c_sit_kind)kind, 5);
        }
}

static void
check_micro_batches(const char *device, d2c_sit_kind kind)
{
    static const int size[] = {6, 3, 5, 1};
    d2c_step_result whole[4], parts[4];
    float *expected = run_micro(device, kind, 0, whole), *state;
    step_fixture f;
    size_t i;
    int k;

    step_open_kind(&f, open_device("reference"), D2C_F32, 12, kind);
    for (i = 0; i < 4; i++) {
        state = run_micro(device, kind, size[i], parts);
        CHECK_NEAR(parts[0].record.loss, whole[0].record.loss, 1e-6);
        CHECK_NEAR(parts[0].record.grad_norm / whole[0].record.grad_norm, 1, 2e-6);
        for (k = 0; k < 4; k++) {
            CHECK_NEAR(parts[k].denoise, whole[k].denoise, 2e-5);
            CHECK_NEAR(parts[k].projection, whole[k].projection, 2e-5);
        }
        CHECK(step_distance(state, expected, &f) < 2e-4);
        free(state);
    }
    step_close(&f);
    free(expected);
}

/* The same rows, noise and dropped conditions whatever the size: what differs is rounding.  5 leaves a rest of 2. */
static void
micro_batches_agree(void)
{
    int kind, d;

    for (kind = 0; kind < 3; kind++)
        for (d = 0; d < 2; d++)
            check_micro_batches(devices[d], (d2c_sit_kind)kind);
}

/* A step whose loss is not a number is told so and changes nothing. */
static void
bad_step_changes_nothing(void)
{
    d2c_step_record record;
    d2c_step_result result;
    step_fixture f;
    float *before, *after;
    size_t d;

    for (d = 0; d < 2; d++) {
        step_open(&f, open_device(devices[d]), D2C_F32, 4);
        open_stepper(&f, 4, 2);
        step_run(&f, 0);
        before = step_state(&f);
        step_batch(&f, 1);
        f.batch.x[700] = INFINITY;
        d2c_schedule_record(&record, &f.schedule, 2);
        CHECK_OK(d2c_stepper_queue(f.stepper, &f.batch, &record, &f.err), &f.err);
        CHECK_OK(d2c_stepper_collect(f.stepper, &result, &f.err), &f.err);
        CHECK(result.record.skip == 1);
        after = step_state(&f);
        CHECK(memcmp(before, after, 4 * (size_t)f.sit->params.total * sizeof(float)) == 0);
        free(before);
        free(after);
        step_close(&f);
    }
}

/* ---- a backend that tells late, and one with little memory ------------------------------------------------------- */

/* The reference computes; copies to pinned memory arrive when an event behind them is waited for. */
typedef struct copy {
    void *to, *bytes;
    size_t count;
} copy;

static copy pending[64];
static int pending_count, waits;
static int fail_capture, capturing;
static size_t memory_limit, row_limit;
static d2c_ops altered;

static d2c_status
late_download(d2c_backend *be, void *pinned, const void *device, size_t bytes)
{
    copy *c = &pending[pending_count++];

    (void)be;
    *c = (copy){pinned, malloc(bytes), bytes};
    memcpy(c->bytes, device, bytes);
    memset(pinned, 0xff, bytes);
    return D2C_OK;
}

static d2c_status
late_record(d2c_backend *be, d2c_event **event)
{
    (void)be;
    if (*event == NULL)
        *event = malloc(sizeof(int));
    *(int *)*event = pending_count;
    return D2C_OK;
}

static d2c_status
late_wait(d2c_backend *be, d2c_event *event)
{
    int count = *(int *)event, i;

    (void)be;
    waits++;
    for (i = 0; i < count; i++) {
        if (pending[i].to != NULL)
            memcpy(pending[i].to, pending[i].bytes, pending[i].count);
        free(pending[i].bytes);
        pending[i] = (copy){NULL, NULL, 0};
    }
    return D2C_OK;
}

static void
late_free(d2c_backend *be, d2c_event *event)
{
    (void)be;
    free(event);
}

static d2c_status
late_begin(d2c_backend *be)
{
    if (!fail_capture)
        return d2c_fail(&be->error, D2C_UNSUPPORTED, "no capture");
    capturing = 1;
    return D2C_OK;
}

static d2c_status
late_end(d2c_backend *be, d2c_graph **graph)
{
    capturing = 0;
    *graph = NULL;
    return d2c_fail(&be->error, D2C_INTERNAL, "the capture was thrown away");
}

/* The first op of a step. */
static d2c_status
late_zero(d2c_backend *be, void *device, size_t bytes)
{
    if (capturing)
        return d2c_fail(&be->error, D2C_INTERNAL, "an op cannot be captured");
    return d2c_host_zero(be, device, bytes);
}

static d2c_backend *
open_late(void)
{
    d2c_backend *be = open_device("reference");

    altered = *be->ops;
    altered.event_record = late_record;
    altered.event_wait = late_wait;
    altered.event_free = late_free;
    altered.download_later = late_download;
    altered.capture_begin = late_begin;
    altered.capture_end = late_end;
    altered.zero = late_zero;
    be->ops = &altered;
    pending_count = waits = 0;
    return be;
}

/* Two steps may be queued; each one's result is its own, and equal to that of a step that is waited for. */
static void
results_come_late(void)
{
    d2c_step_result expected[5], result;
    step_fixture f;
    float *state, *late;
    int i;

    step_open(&f, open_device("reference"), D2C_F32, 6);
    open_stepper(&f, 6, 4);
    CHECK(d2c_stepper_ahead(f.stepper) == 0);
    for (i = 0; i < 5; i++)
        expected[i] = step_run(&f, i);
    CHECK(d2c_stepper_collect(f.stepper, &result, &f.err) == D2C_INTERNAL);
    state = step_state(&f);
    step_close(&f);

    step_open(&f, open_late(), D2C_F32, 6);
    open_stepper(&f, 6, 4);
    CHECK(d2c_stepper_ahead(f.stepper) == 1);
    for (i = 0; i < 5; i++) {
        CHECK_OK(step_queue(&f, i), &f.err);
        if (i == 0)
            continue;
        CHECK(step_queue(&f, i) == D2C_INTERNAL);
        CHECK(d2c_stepper_measure(f.stepper, &result, &f.batch, &f.err) == D2C_INTERNAL);
        CHECK_OK(d2c_stepper_collect(f.stepper, &result, &f.err), &f.err);
        CHECK(memcmp(&result, &expected[i - 1], sizeof result) == 0);
    }
    CHECK_OK(d2c_stepper_collect(f.stepper, &result, &f.err), &f.err);
    CHECK(memcmp(&result, &expected[4], sizeof result) == 0);
    CHECK(waits == 5 && f.notices == 0);
    late = step_state(&f);
    CHECK(memcmp(late, state, 4 * (size_t)f.sit->params.total * sizeof(float)) == 0);
    step_close(&f);
    free(state);
    free(late);
}

/* A capture that fails is told once; the steps are those without it. */
static void
capture_fails(void)
{
    d2c_step_result expected, result;
    step_fixture f;
    int i;

    step_open(&f, open_device("reference"), D2C_F32, 4);
    open_stepper(&f, 4, 0);
    for (i = 0; i < 6; i++)
        expected = step_run(&f, i);
    step_close(&f);
    fail_capture = 1;
    step_open(&f, open_late(), D2C_F32, 4);
    open_stepper(&f, 4, 0);
    for (i = 0; i < 6; i++)
        result = step_run(&f, i);
    CHECK(memcmp(&result, &expected, sizeof result) == 0);
    CHECK(f.notices == 1);
    CHECK(strcmp(f.notice, "steps are not run as a graph: an op cannot be captured") == 0);
    step_close(&f);
    fail_capture = 0;
}

static d2c_status
small_alloc(d2c_backend *be, void **block, size_t bytes, d2c_memory kind)
{
    *block = NULL;
    if (kind == D2C_MEMORY_DEVICE && bytes > memory_limit)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "out of memory");
    return d2c_host_alloc(be, block, bytes, kind);
}

static d2c_status
small_use(d2c_backend *be, size_t *available, size_t *total)
{
    (void)be;
    *available = memory_limit;
    *total = 2 * memory_limit;
    return D2C_OK;
}

/* Attention that asks for memory of its own, which there is for a few rows only. */
static d2c_status
greedy_attention(d2c_backend *be, d2c_tensor dqkv, d2c_tensor dout, d2c_tensor o, d2c_tensor lse,
                 d2c_tensor qkv, d2c_tensor bias, int heads, float scale)
{
    d2c_backend *plain;
    d2c_status status;

    if ((size_t)qkv.dim[0] > row_limit)
        return d2c_fail(&be->error, D2C_NO_MEMORY, "no memory for attention");
    plain = open_device("reference");
    status = plain->ops->attention_backward(be, dqkv, dout, o, lse, qkv, bias, heads, scale);
    d2c_backend_close(plain);
    return status;
}

static d2c_backend *
open_small(size_t bytes, size_t rows)
{
    d2c_backend *be = open_device("reference");

    altered = *be->ops;
    altered.alloc = small_alloc;
    altered.memory_use = small_use;
    altered.attention_backward = greedy_attention;
    be->ops = &altered;
    memory_limit = bytes;
    row_limit = rows;
    return be;
}

static size_t
bytes_of(step_fixture *f, int batch, int micro_batch)
{
    d2c_step_setting setting = step_setting(f, batch, micro_batch);
    d2c_step_bytes bytes = {0, 0};

    CHECK_OK(d2c_step_plan(&bytes, f->sit, &setting, 0, &f->err), &f->err);
    return bytes.batches + bytes.activations;
}

/* What does not fit is halved until it does; when it never does, the error says how much was asked and what helps. */
static void
memory_is_halved(void)
{
    d2c_step_setting setting;
    step_fixture f;

    step_open(&f, open_small(SIZE_MAX / 4, 12), D2C_F32, 12);
    memory_limit = bytes_of(&f, 12, 3);
    open_stepper(&f, 12, 0);
    CHECK(d2c_stepper_micro_batch(f.stepper) == 3 && f.notices == 2);
    CHECK(strstr(f.notice, "micro-batches of 6 rows do not fit into memory") != NULL &&
          strstr(f.notice, "going on with 3") != NULL);
    d2c_stepper_close(f.stepper);
    memory_limit = bytes_of(&f, 12, 1) - 1;
    setting = step_setting(&f, 12, 0);
    CHECK(d2c_stepper_open(&f.stepper, f.sit, f.be, &setting, &f.err) == D2C_NO_MEMORY);
    CHECK(strstr(f.err.message, "does not fit into memory") != NULL);
    CHECK(strstr(f.err.detail, "MiB asked for") != NULL && strstr(f.err.detail, "MiB free") != NULL);
    CHECK(strstr(f.err.hint, "--micro-batch") != NULL && strstr(f.err.hint, "--global-batch-size") != NULL &&
          strstr(f.err.hint, "--model") != NULL);
    step_close(&f);
}

/* Memory that an op lacks in the first step halves the micro-batch as well; the step is the one it would have been. */
static void
step_is_started_again(void)
{
    d2c_step_result expected[3], result;
    step_fixture f;
    int i;

    step_open(&f, open_device("reference"), D2C_F32, 10);
    open_stepper(&f, 10, 3);
    for (i = 0; i < 3; i++)
        expected[i] = step_run(&f, i);
    step_close(&f);
    step_open(&f, open_small(SIZE_MAX / 4, 3), D2C_F32, 10);
    open_stepper(&f, 10, 0);
    for (i = 0; i < 3; i++) {
        result = step_run(&f, i);
        CHECK(memcmp(&result, &expected[i], sizeof result) == 0);
    }
    CHECK(d2c_stepper_micro_batch(f.stepper) == 3 && f.notices == 2);
    step_close(&f);
}

/* ---- the plan ---------------------------------------------------------------------------------------------------- */

static const d2c_sit_config xl = {.depth = 28,
                                  .hidden = 1152,
                                  .heads = 16,
                                  .patch = 2,
                                  .channels = 4,
                                  .out_channels = 4,
                                  .height = 32,
                                  .width = 32,
                                  .classes = 1000,
                                  .null_class = 1};

static d2c_memory_plan
plan_xl(int micro_batch, double available)
{
    d2c_step_setting step = {
        .batch = 256, .micro_batch = micro_batch, .shape = {.size = 32, .channels = 4, .classes = 1000}};
    d2c_memory_plan plan;
    d2c_error err;

    CHECK_OK(d2c_memory_plan_make(&plan, &xl, D2C_BF16, &step, 0, 1, 50, (size_t)available, &err), &err);
    return plan;
}

/*
 * SiT-XL/2: 674.8 million parameters of 22 bytes (values, gradients, two moments, EMA; bf16 copy).  With A one bf16
 * tensor [256, 1152] of an image, a block keeps 12 A: residual stream 2, qkv 3, o and y1 1 each, GELU's input 4, y2 1;
 * 20 A of scratch, of it GELU's output 4, serve all blocks.
 */
static void
xl_is_planned(void)
{
    const double A = 256.0 * 1152 * 2, kept = 28 * 12 * A + 20 * A, GiB = 1 << 30;
    d2c_memory_plan whole = plan_xl(0, 0), h100 = plan_xl(0, 79.2 * GiB), l40s = plan_xl(0, 44.4 * GiB);
    d2c_memory_plan given = plan_xl(32, 79.2 * GiB);

    CHECK_NEAR((double)whole.parameters / 4 / 674.8e6, 1, 0.002);
    CHECK_NEAR((double)(whole.parameters + whole.gradients + whole.optimizer + whole.ema + whole.shadow) /
                   (22 * 674.8e6),
               1, 0.002);
    CHECK(whole.micro_batch == 256);
    CHECK_NEAR((double)whole.step.activations / (256 * kept), 1, 0.02);
    CHECK(h100.micro_batch == 256 && l40s.micro_batch == 64 && given.micro_batch == 32);
    CHECK_NEAR((double)l40s.step.activations / (64 * kept), 1, 0.02);
    CHECK(h100.total < (size_t)(74.3 * GiB) && h100.step.batches < (size_t)(0.1 * GiB));
    CHECK(whole.samples > whole.parameters && whole.samples < whole.parameters + (size_t)(3 * GiB));
}

/* ---- the choice of a device --------------------------------------------------------------------------------------- */

static void
device_is_chosen(void)
{
    const char *device;
    char notice[512];
    d2c_backend *be;
    d2c_error err;
    int has_gpu = d2c_backend_open(&be, "cuda", 1, NULL) == D2C_OK;

    if (has_gpu)
        d2c_backend_close(be);
    CHECK_OK(d2c_backend_choose(&be, &device, notice, sizeof notice, "auto", "cuda:0", 2, &err), &err);
    if (has_gpu)
        CHECK(strcmp(device, "cuda:0") == 0 && notice[0] == '\0' && d2c_backend_is_asynchronous(be));
    else
        CHECK(strcmp(device, "cpu") == 0 && be->threads == 2 && !d2c_backend_is_asynchronous(be) &&
              strncmp(notice, "computing on the CPU: device \"cuda", 34) == 0);
    d2c_backend_close(be);
    CHECK_OK(d2c_backend_choose(&be, &device, notice, sizeof notice, "cpu", "cuda:0", 1, &err), &err);
    CHECK(strcmp(device, "cpu") == 0 && notice[0] == '\0');
    d2c_backend_close(be);
    CHECK(d2c_backend_choose(&be, &device, notice, sizeof notice, "cuda:999", "cuda:0", 1, &err) ==
          D2C_UNSUPPORTED);
    CHECK(be == NULL);
}

int
main(void)
{
    RUN(micro_batches_agree);
    RUN(recomputing_changes_nothing);
    RUN(bad_step_changes_nothing);
    RUN(results_come_late);
    RUN(capture_fails);
    RUN(memory_is_halved);
    RUN(step_is_started_again);
    RUN(xl_is_planned);
    RUN(device_is_chosen);
    return check_report();
}
