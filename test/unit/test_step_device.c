/*
 * test_step_device.c: training on a device that computes while the host goes on, beside the CPU.
 *
 * "cuda" is a GPU, or the emulator beside this program, whose memory the host cannot touch and whose streams do nothing
 * before somebody waits.  Where neither is there, the tests have nothing to do.
 */
#include <dlfcn.h>
#include <unistd.h>

#include "ops/backend.h"
#include "step_fixture.h"

#define STEPS 20 /* at most */
#define FEW 8
#define BATCH 6

/* A run of steps as the training loop makes them: the next one is queued before the last one's result is taken. */
typedef struct run {
    d2c_step_result result[STEPS];
    float *state;
    int notices;
} run;

static void
close_run(run *r)
{
    free(r->state);
}

static d2c_backend *
open_device(const char *device)
{
    d2c_backend *be = NULL;

    d2c_backend_open(&be, device, 1, NULL);
    return be;
}

static int
has_device(void)
{
    d2c_backend *be = open_device("cuda");

    d2c_backend_close(be);
    return be != NULL;
}

static void
open_stepper(step_fixture *f, int micro_batch, int without_graphs)
{
    d2c_step_setting setting = step_setting(f, BATCH, micro_batch);

    setting.without_graphs = without_graphs;
    CHECK_OK(d2c_stepper_open(&f->stepper, f->sit, f->be, &setting, &f->err), &f->err);
}

static void
run_steps(run *r, step_fixture *f, int first, int last)
{
    int ahead = d2c_stepper_ahead(f->stepper), collected = first, i;

    for (i = first; i < last; i++) {
        CHECK_OK(step_queue(f, i), &f->err);
        for (; i + 1 - collected > (i + 1 < last ? ahead : 0); collected++)
            CHECK_OK(d2c_stepper_collect(f->stepper, &r->result[collected], &f->err), &f->err);
    }
}

static run
run_kind(d2c_sit_kind kind, const char *device, d2c_dtype precision, int steps, int micro_batch,
         int without_graphs)
{
    step_fixture f;
    run r = {0};

    step_open_kind(&f, open_device(device), precision, BATCH, kind);
    open_stepper(&f, micro_batch, without_graphs);
    run_steps(&r, &f, 0, steps);
    r.state = step_state(&f);
    r.notices = f.notices;
    step_close(&f);
    return r;
}

static run
run_on(const char *device, d2c_dtype precision, int steps, int micro_batch, int without_graphs)
{
    return run_kind(D2C_SIT_KIND_SIT, device, precision, steps, micro_batch, without_graphs);
}

static int
same_state(const run *a, const run *b)
{
    d2c_sit *sit;
    int same = 0;

    if (d2c_sit_outline(&sit, &step_config, D2C_F32, NULL) == D2C_OK)
        same = memcmp(a->state, b->state, 4 * (size_t)sit->params.total * sizeof(float)) == 0;
    d2c_sit_destroy(sit, NULL);
    return same;
}

static void
check_close(const run *a, const run *b, int steps, double bound)
{
    int i;

    for (i = 0; i < steps; i++) {
        CHECK_NEAR(a->result[i].record.loss / b->result[i].record.loss, 1, bound);
        CHECK_NEAR(a->result[i].denoise / b->result[i].denoise, 1, bound);
        CHECK_NEAR(a->result[i].projection, b->result[i].projection, bound);
        CHECK_NEAR(a->result[i].record.grad_norm / b->result[i].record.grad_norm, 1, 100 * bound);
    }
}

static void
agrees_with_cpu(void)
{
    run cpu, device;
    int kind;

    for (kind = 0; kind < 3 && has_device(); kind++) {
        cpu = run_kind((d2c_sit_kind)kind, "cpu", D2C_F32, STEPS, 0, 0);
        device = run_kind((d2c_sit_kind)kind, "cuda", D2C_F32, STEPS, 0, 0);
        check_close(&device, &cpu, STEPS, 1e-4);
        CHECK(device.notices == 0);
        close_run(&cpu);
        close_run(&device);
    }
}

/* bf16 products, beside f32 ones on the same device: the losses go the same way. */
static void
bf16_agrees(void)
{
    run wide, narrow;

    if (!has_device())
        return;
    wide = run_on("cuda", D2C_F32, FEW, 0, 0);
    narrow = run_on("cuda", D2C_BF16, FEW, 0, 0);
    CHECK_NEAR(narrow.result[0].record.loss / wide.result[0].record.loss, 1, 1e-3);
    CHECK_NEAR(narrow.result[FEW - 1].record.loss / wide.result[FEW - 1].record.loss, 1, 5e-2);
    close_run(&wide);
    close_run(&narrow);
}

/* The same bits with graphs and without, in one micro-batch and in several. */
static void
graphs_change_nothing(void)
{
    static const int size[] = {0, 4};
    int i;

    for (i = 0; i < 2 && has_device(); i++) {
        run with = run_on("cuda", D2C_F32, FEW, size[i], 0),
            without = run_on("cuda", D2C_F32, FEW, size[i], 1);

        CHECK(memcmp(with.result, without.result, sizeof with.result) == 0);
        CHECK(same_state(&with, &without));
        CHECK(with.notices == 0);
        close_run(&with);
        close_run(&without);
    }
}

static void
micro_batches_agree(void)
{
    run whole, parts;

    if (!has_device())
        return;
    whole = run_on("cuda", D2C_F32, FEW, 0, 0);
    parts = run_on("cuda", D2C_F32, FEW, 4, 0);
    CHECK_NEAR(parts.result[0].record.loss, whole.result[0].record.loss, 1e-6);
    check_close(&parts, &whole, FEW, 1e-4);
    close_run(&whole);
    close_run(&parts);
}

/* Half a run, its state written, read into another network, the other half: the bits of a whole run.  A held-out loss
 * in between changes nothing. */
static void
resume_is_exact(void)
{
    d2c_step_result measured;
    step_fixture f, g;
    run whole, halves = {0};
    float *state, *range[4];
    size_t bytes;
    int i;

    if (!has_device())
        return;
    whole = run_on("cuda", D2C_F32, FEW, 4, 0);
    step_open(&f, open_device("cuda"), D2C_F32, BATCH);
    open_stepper(&f, 4, 0);
    run_steps(&halves, &f, 0, FEW / 2 - 1);
    CHECK_OK(d2c_stepper_measure(f.stepper, &measured, step_batch(&f, 90), &f.err), &f.err);
    CHECK(measured.record.skip == 0 && measured.denoise > 0.1);
    run_steps(&halves, &f, FEW / 2 - 1, FEW / 2);
    state = step_state(&f);
    bytes = (size_t)f.sit->params.total * sizeof(float);
    step_close(&f);

    step_open(&g, open_device("cuda"), D2C_F32, BATCH);
    open_stepper(&g, 4, 0);
    range[0] = g.sit->params.value;
    range[1] = g.sit->params.m;
    range[2] = g.sit->params.v;
    range[3] = g.sit->params.ema;
    for (i = 0; i < 4; i++)
        CHECK_OK(d2c_upload(g.be, range[i], (char *)state + (size_t)i * bytes, bytes), &g.be->error);
    CHECK_OK(d2c_params_refresh(&g.sit->params, g.be, &g.err), &g.err);
    run_steps(&halves, &g, FEW / 2, FEW);
    halves.state = step_state(&g);
    step_close(&g);
    CHECK(memcmp(halves.result, whole.result, sizeof whole.result) == 0);
    CHECK(same_state(&halves, &whole));
    free(state);
    close_run(&whole);
    close_run(&halves);
}

static void
open_tuned(step_fixture *f, int micro_batch)
{
    d2c_step_setting setting = step_setting(f, BATCH, micro_batch);

    setting.tuned = 1;
    CHECK_OK(d2c_stepper_open(&f->stepper, f->sit, f->be, &setting, &f->err), &f->err);
}

static char *
choices_of(step_fixture *f)
{
    char *text = NULL;

    CHECK_OK(d2c_tuned(f->be, &text), &f->be->error);
    return text != NULL ? text : strdup("");
}

/* The choices that a checkpoint keeps are those of steps, of every micro-batch that there was; neither a held-out loss nor
 * folding texts adds to them, which a run that goes on from an earlier one does not do again. */
static void
choices_are_of_steps(void)
{
    static const float text[3 * 4 * 6], mask[3 * 4];
    char *before, *after, *smaller;
    d2c_step_result measured;
    step_fixture f;
    float *table;

    if (!has_device())
        return;
    step_open(&f, open_device("cuda"), D2C_F32, BATCH);
    table = malloc(4 * (size_t)f.sit->config.hidden * sizeof *table);
    open_tuned(&f, BATCH);
    step_run(&f, 0);
    before = choices_of(&f);
    CHECK_OK(d2c_stepper_measure(f.stepper, &measured, step_batch(&f, 90), &f.err), &f.err);
    CHECK_OK(d2c_sit_fold_text(table, f.sit, f.be, f.sit->params.value, text, mask, &f.err), &f.err);
    after = choices_of(&f);
    d2c_stepper_close(f.stepper);
    open_tuned(&f, 4);
    step_run(&f, 1);
    smaller = choices_of(&f);
    CHECK(before[0] != '\0' && strcmp(before, after) == 0);
    CHECK(strlen(smaller) > strlen(after));
    free(before);
    free(after);
    free(smaller);
    free(table);
    step_close(&f);
}

/* A bad step with another one queued behind it: it is told of the right one, which has changed nothing. */
static void
bad_step_is_told_late(void)
{
    d2c_step_result first, second;
    d2c_step_record record;
    step_fixture f;
    float *before, *after;

    if (!has_device())
        return;
    step_open(&f, open_device("cuda"), D2C_F32, BATCH);
    open_stepper(&f, 4, 0);
    step_run(&f, 0);
    before = step_state(&f);
    step_batch(&f, 1);
    f.batch.x[700] = NAN;
    d2c_schedule_record(&record, &f.schedule, 2);
    CHECK_OK(d2c_stepper_queue(f.stepper, &f.batch, &record, &f.err), &f.err);
    after = step_state(&f);
    CHECK(memcmp(before, after, 4 * (size_t)f.sit->params.total * sizeof(float)) == 0);
    CHECK_OK(step_queue(&f, 2), &f.err);
    CHECK_OK(d2c_stepper_collect(f.stepper, &first, &f.err), &f.err);
    CHECK_OK(d2c_stepper_collect(f.stepper, &second, &f.err), &f.err);
    CHECK(first.record.skip == 1 && !isfinite(first.record.loss));
    CHECK(second.record.skip == 0 && isfinite(second.record.loss));
    free(before);
    free(after);
    step_close(&f);
}

/* Between steps an op may want more scratch memory than a step does: graphs go on with what they were captured with. */
static void
graphs_keep_their_memory(void)
{
    const int64_t n = (int64_t)4 << 20;
    step_fixture f;
    run whole, parts = {0};
    void *grad, *record;

    if (!has_device())
        return;
    whole = run_on("cuda", D2C_F32, FEW, 0, 0);
    step_open(&f, open_device("cuda"), D2C_F32, BATCH);
    open_stepper(&f, 0, 0);
    run_steps(&parts, &f, 0, FEW / 2);
    CHECK_OK(d2c_alloc(f.be, &grad, (size_t)n * sizeof(float), D2C_MEMORY_DEVICE), &f.be->error);
    CHECK_OK(d2c_alloc(f.be, &record, sizeof(d2c_step_record), D2C_MEMORY_DEVICE), &f.be->error);
    CHECK_OK(d2c_zero(f.be, grad, (size_t)n * sizeof(float)), &f.be->error);
    CHECK_OK(d2c_zero(f.be, record, sizeof(d2c_step_record)), &f.be->error);
    CHECK_OK(d2c_gradient_norm(f.be, record, d2c_tensor1(grad, D2C_F32, n)), &f.be->error);
    d2c_free(f.be, grad, D2C_MEMORY_DEVICE);
    d2c_free(f.be, record, D2C_MEMORY_DEVICE);
    run_steps(&parts, &f, FEW / 2, FEW);
    parts.state = step_state(&f);
    CHECK(memcmp(parts.result, whole.result, sizeof whole.result) == 0);
    CHECK(same_state(&parts, &whole));
    step_close(&f);
    close_run(&whole);
    close_run(&parts);
}

/* ---- only with the emulator, which can be told to have little memory ---------------------------------------------- */

static void (*set_memory)(size_t bytes);
static void (*fail_launch)(long n, int error);

static int
has_emulator(void)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    void *library;

    if (!has_device() || length <= 0)
        return 0;
    path[length] = '\0';
    strcpy(strrchr(path, '/') + 1, "libd2c_cuda.so");
    library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (library != NULL) {
        *(void **)&set_memory = dlsym(library, "emu_set_memory");
        *(void **)&fail_launch = dlsym(library, "emu_fail_launch");
    }
    return set_memory != NULL && fail_launch != NULL;
}

static void
memory_is_halved(void)
{
    step_fixture f;
    d2c_step_setting setting;
    d2c_step_bytes bytes;
    size_t available, total, whole;
    run r = {0};

    if (!has_emulator())
        return;
    step_open(&f, open_device("cuda"), D2C_F32, BATCH);
    setting = step_setting(&f, BATCH, 3);
    CHECK_OK(d2c_step_plan(&bytes, f.sit, &setting, 1, &f.err), &f.err);
    CHECK_OK(d2c_memory_use(f.be, &available, &whole), &f.be->error);
    set_memory(whole - available + bytes.batches + bytes.activations);
    open_stepper(&f, 0, 0);
    CHECK(d2c_stepper_micro_batch(f.stepper) == 3 && f.notices == 1);
    run_steps(&r, &f, 0, 4);
    CHECK(r.result[3].record.skip == 0 && r.result[3].record.loss > 0.1f);
    d2c_stepper_close(f.stepper);
    CHECK_OK(d2c_memory_use(f.be, &available, &total), &f.be->error);
    set_memory(total - available + bytes.batches);
    CHECK(d2c_stepper_open(&f.stepper, f.sit, f.be, &setting, &f.err) == D2C_NO_MEMORY);
    CHECK(strstr(f.err.detail, "MiB asked for") != NULL && strstr(f.err.detail, "MiB free") != NULL);
    set_memory(whole);
    step_close(&f);
}

/* Takes two steps and returns what the third one gives, in which a launch fails with this error. */
static d2c_status
after_failure(step_fixture *f, d2c_ranks *ranks, int error)
{
    d2c_step_setting setting;
    run r = {0};
    d2c_status status;

    step_open(f, open_device("cuda"), D2C_F32, BATCH);
    setting = step_setting(f, BATCH, 0);
    setting.ranks = ranks;
    CHECK_OK(d2c_stepper_open(&f->stepper, f->sit, f->be, &setting, &f->err), &f->err);
    run_steps(&r, f, 0, 2);
    fail_launch(20, error);
    status = step_queue(f, 2);
    fail_launch(0, 0);
    return status;
}

/* What a process alone goes on after, op by op or with less, ends one that shares graphs with others. */
static void
shared_graphs_are_for_all(void)
{
    const int configuration = 9, memory = 2;
    d2c_ranks alone = {.size = 1, .on_stream = 1};
    step_fixture f;

    if (!has_emulator())
        return;
    CHECK_OK(after_failure(&f, NULL, configuration), &f.err);
    CHECK(f.notices == 1 && strstr(f.notice, "steps are not run as a graph") != NULL);
    step_close(&f);
    CHECK(after_failure(&f, &alone, configuration) == D2C_INTERNAL && f.notices == 0);
    step_close(&f);
    CHECK(after_failure(&f, &alone, memory) == D2C_NO_MEMORY && f.notices == 0);
    step_close(&f);
}

int
main(void)
{
    RUN(agrees_with_cpu);
    RUN(bf16_agrees);
    RUN(graphs_change_nothing);
    RUN(micro_batches_agree);
    RUN(resume_is_exact);
    RUN(choices_are_of_steps);
    RUN(bad_step_is_told_late);
    RUN(graphs_keep_their_memory);
    RUN(memory_is_halved);
    RUN(shared_graphs_are_for_all);
    return check_report();
}
