/*
 * test_products.c: the plans of the CUDA backend's matrix products: made once, measured, kept as text, and what happens
 * when something is wrong.
 *
 * The emulated cuBLASLt has algorithms that differ in their last bits, and tests say which of them is fast: so a choice
 * is told by a result's bits.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>

#include "../emu/emu_lt.h"
#include "op_cases.h"

#define ALL_ALGORITHMS ((1u << EMU_LT_ALGORITHMS) - 1)
#define SLOW_BY 60000000 /* microseconds, which nobody waits for */

static d2c_backend *reference;

/* The emulator's controls. */
static __typeof__(&emu_lt_slow) slow;
static __typeof__(&emu_lt_fail) fail;
static __typeof__(&emu_lt_queries) queries;
static __typeof__(&emu_set_memory) set_memory;

static const op_case plain = CASE(linear_forward, BF16, F32, 0, TOL_F32 * 10, 33, 256, 64);
static const op_case gelu = CASE(linear_forward, BF16, BF16, GELU_TANH | WITH_PRE, TOL_BF16_2, 33, 128, 64);
static const op_case gelu_gradient =
    CASE(linear_backward_input, BF16, BF16, GELU_TANH, TOL_BF16_2, 33, 64, 128);
static const op_case weight = CASE(linear_backward_weight, BF16, BF16, 0, TOL_F32 * 10, 130, 64, 72);

/* ---- running cases ------------------------------------------------------------------------------------------------- */

static d2c_backend *
open_cuda(void)
{
    d2c_backend *be = NULL;
    d2c_error err;

    CHECK_OK(d2c_backend_open(&be, "cuda", 1, &err), &err);
    if (be == NULL)
        exit(check_report() | 1);
    return be;
}

/* A backend that tunes, where one algorithm is fast and the others are not.  `also`: what else is slow. */
static d2c_backend *
open_tuned(int fast, unsigned also, const char *choices)
{
    d2c_backend *be = open_cuda();

    slow((ALL_ALGORITHMS & ~(1u << fast)) | also, SLOW_BY);
    CHECK_OK(d2c_choose(be, choices), &be->error);
    d2c_tune(be, 1);
    return be;
}

static void
run_case(op_fixture *f, d2c_backend *be, const op_case *c)
{
    *f = (op_fixture){.be = be, .oracle = reference, .seed = 7};
    CHECK_OK(c->run(f, c), &be->error);
    op_download(f);
}

static uint64_t
digest(uint64_t hash, const void *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

#define DIGEST_START 0xcbf29ce484222325u

/* The bits of a case's outputs. */
static uint64_t
bits_of(d2c_backend *be, const op_case *c)
{
    uint64_t hash = DIGEST_START;
    op_fixture f;

    run_case(&f, be, c);
    for (int i = 0; i < f.count; i++)
        if (f.buffer[i].role != OP_INPUT)
            hash = digest(hash, f.buffer[i].end, f.buffer[i].bytes + 2 * OP_GUARD);
    op_release(&f);
    return hash;
}

/* The bits that an algorithm gives. */
static uint64_t
bits_by(int algorithm, const op_case *c)
{
    d2c_backend *be = open_tuned(algorithm, 0, NULL);
    uint64_t bits = bits_of(be, c);

    d2c_backend_close(be);
    return bits;
}

static void
check_tensor(const op_buffer *a, const op_buffer *r, double tolerance)
{
    double error = 0, power = 0;

    for (int64_t n = 0; n < d2c_tensor_count(r->view); n++) {
        double x = op_result(a, n), y = op_result(r, n);

        error += (x - y) * (x - y);
        power += y * y;
    }
    if (!(error <= tolerance * power)) {
        fprintf(stderr, "%s has NMSE %g\n", a->name, error / power);
        check_current++;
    }
    CHECK(op_untouched(a));
}

/* The case is right on this backend. */
static void
check_case(d2c_backend *be, const op_case *c)
{
    op_fixture a, r;

    run_case(&a, be, c);
    run_case(&r, reference, c);
    for (int i = 0; i < r.count; i++)
        if (r.buffer[i].role != OP_INPUT)
            check_tensor(&a.buffer[i], &r.buffer[i], c->tolerance);
    op_release(&a);
    op_release(&r);
}

/* A backend's choices, to be freed. */
static char *
choices_of(d2c_backend *be)
{
    char *text = NULL;

    CHECK_OK(d2c_tuned(be, &text), &be->error);
    return text != NULL ? text : strdup("");
}

/* ---- plans --------------------------------------------------------------------------------------------------------- */

static void
test_planned_once(void)
{
    d2c_backend *be = open_cuda();
    op_case wider = plain;
    long before = queries();

    check_case(be, &plain);
    CHECK(queries() == before + 1);
    check_case(be, &plain);
    CHECK(queries() == before + 1);
    wider.d[2] += 8;
    check_case(be, &wider);
    CHECK(queries() == before + 2);
    d2c_backend_close(be);
}

static void
test_described(void)
{
    d2c_backend *be = open_cuda();
    char *text = choices_of(be);

    CHECK(strstr(be->arithmetic, "cuBLASLt 13.1.0") != NULL);
    CHECK(strcmp(text, "") == 0);
    free(text);
    d2c_backend_close(be);
}

/* Every process takes the same algorithm. */
static void
test_first_proposal(void)
{
    d2c_backend *a = open_cuda(), *b = open_cuda();

    slow(1, SLOW_BY);
    CHECK(bits_of(a, &plain) == bits_of(b, &plain));
    CHECK(bits_of(a, &plain) == bits_by(0, &plain));
    d2c_backend_close(b);
    d2c_backend_close(a);
}

static void
test_first_met_in_capture(void)
{
    d2c_backend *be = open_cuda();
    op_fixture f = {.be = be, .oracle = reference, .seed = 7};
    d2c_tensor x = op_input(&f, "x", d2c_tensor2(OP_VIEW, D2C_BF16, 8, 64));
    d2c_tensor y = op_output(&f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, 8, 32));
    d2c_weight w = make_weight(&f, &plain, 64, 32);
    d2c_graph *graph = NULL;

    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK(d2c_linear_forward(be, y, d2c_absent(), x, &w, D2C_ACT_NONE) == D2C_INTERNAL);
    CHECK(strstr(be->error.message, "capture") != NULL && strstr(be->error.detail, "8x32x64") != NULL);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    d2c_graph_free(be, graph);
    CHECK_OK(d2c_linear_forward(be, y, d2c_absent(), x, &w, D2C_ACT_NONE), &be->error);
    CHECK_OK(d2c_zero(be, y.data, 8 * 32 * sizeof(float)), &be->error);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK_OK(d2c_linear_forward(be, y, d2c_absent(), x, &w, D2C_ACT_NONE), &be->error);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    CHECK_OK(d2c_graph_launch(be, graph), &be->error);
    op_download(&f);
    for (int64_t n = 0; n < 8 * 32; n++)
        CHECK(isfinite(op_result(&f.buffer[1], n)) && op_result(&f.buffer[1], n) != 0);
    d2c_graph_free(be, graph);
    op_release(&f);
    d2c_backend_close(be);
}

/* ---- choices ------------------------------------------------------------------------------------------------------- */

static void
test_fastest_is_kept(void)
{
    uint64_t bits[EMU_LT_ALGORITHMS];

    for (int i = 0; i < EMU_LT_ALGORITHMS; i++) {
        bits[i] = bits_by(i, &plain);
        for (int k = 0; k < i; k++)
            CHECK(bits[i] != bits[k]);
    }
}

/* Products that add to their result are measured elsewhere, and those of every algorithm are right. */
static void
test_measuring_leaves_results(void)
{
    op_case input = CASE(linear_backward_input, BF16, F32, ACCUMULATE, TOL_F32 * 10, 33, 64, 128);

    for (int i = 0; i < EMU_LT_ALGORITHMS; i++) {
        d2c_backend *be = open_tuned(i, 0, NULL);

        check_case(be, &plain);
        check_case(be, &weight);
        check_case(be, &input);
        check_case(be, &gelu);
        check_case(be, &gelu_gradient);
        d2c_backend_close(be);
    }
}

static void
test_choices_are_taken_over(void)
{
    d2c_backend *first = open_tuned(2, 0, NULL), *second;
    uint64_t bits = bits_of(first, &plain);
    char *text, *again;

    check_case(first, &weight);
    text = choices_of(first);
    d2c_backend_close(first);
    CHECK(strncmp(text, "emulated, cuBLASLt 13.1.0\n33x64x256 bf16 f32 ", 45) == 0);

    /* what is not met again is kept as well */
    second = open_tuned(0, 0, text);
    CHECK(bits_of(second, &plain) == bits);
    CHECK(bits != bits_by(0, &plain));
    again = choices_of(second);
    CHECK(strcmp(again, text) == 0);
    free(again);
    free(text);
    d2c_backend_close(second);
}

static int
count_lines(const char *text)
{
    int lines = 0;

    for (; (text = strchr(text, '\n')) != NULL; text++)
        lines++;
    return lines;
}

/* What is met while tuning is off is not measured then, but once tuning is on. */
static void
test_tuning_is_for_a_while(void)
{
    d2c_backend *be = open_tuned(2, 0, NULL);
    uint64_t first, fastest;
    char *none, *one;

    d2c_tune(be, 0);
    first = bits_of(be, &plain);
    none = choices_of(be);
    d2c_tune(be, 1);
    fastest = bits_of(be, &plain);
    d2c_tune(be, 0);
    CHECK(fastest != first && bits_of(be, &plain) == fastest);
    bits_of(be, &gelu);
    one = choices_of(be);
    CHECK(none[0] == '\0' && count_lines(one) == 3);
    free(none);
    free(one);
    d2c_backend_close(be);
}

/* A process that has measured for itself takes over what another one chose. */
static void
test_choices_replace_others(void)
{
    d2c_backend *first = open_tuned(2, EMU_LT_GELU, NULL), *second;
    uint64_t bits = bits_of(first, &plain), gelu_bits = bits_of(first, &gelu);
    char *text = choices_of(first), *again;

    d2c_backend_close(first);
    second = open_tuned(0, EMU_LT_BARE, NULL);
    CHECK(bits_of(second, &plain) != bits);
    CHECK(bits_of(second, &gelu) != gelu_bits);
    CHECK_OK(d2c_choose(second, text), &second->error);
    CHECK(bits_of(second, &plain) == bits);
    CHECK(bits_of(second, &gelu) == gelu_bits);
    again = choices_of(second);
    CHECK(strcmp(again, text) == 0);
    free(again);
    free(text);
    d2c_backend_close(second);
}

/* Writes the digest that a changed text ought to have. */
static void
sign(char *text)
{
    char *end = strstr(text, "\nend ");

    if (end != NULL)
        sprintf(end + 1, "end %016llx\n",
                (unsigned long long)digest(DIGEST_START, text, (size_t)(end + 1 - text)));
}

static void
test_other_versions_measure_anew(void)
{
    d2c_backend *first = open_tuned(2, 0, NULL), *second;
    uint64_t bits = bits_of(first, &plain);
    char *text = choices_of(first), *again;

    d2c_backend_close(first);
    memcpy(strstr(text, "13.1.0"), "13.0.9", 6);
    sign(text);
    second = open_tuned(0, 0, text);
    CHECK(bits_of(second, &plain) != bits);
    again = choices_of(second);
    CHECK(strstr(again, "13.1.0") != NULL);
    free(again);
    free(text);
    d2c_backend_close(second);
}

/* Any change of a text is found by its digest. */
static void
test_damaged_choices_are_refused(void)
{
    d2c_backend *be = open_tuned(2, 0, NULL);
    char *text, *damaged;
    size_t length;

    check_case(be, &plain);
    check_case(be, &gelu);
    text = choices_of(be);
    length = strlen(text);
    damaged = malloc(length + 1);
    for (size_t i = 0; i < length; i++) {
        memcpy(damaged, text, length + 1);
        damaged[i] = (char)(damaged[i] ^ 1);
        CHECK(d2c_choose(be, damaged) == D2C_BAD_DATA);
        if (i > 0) {
            memcpy(damaged, text, i);
            damaged[i] = '\0';
            CHECK(d2c_choose(be, damaged) == D2C_BAD_DATA);
        }
    }
    free(damaged);
    free(text);
    d2c_backend_close(be);
}

/* A text that was changed and signed anew is malformed, or has choices that fit nothing and are measured again. */
static void
test_forged_choices_are_harmless(void)
{
    d2c_backend *be = open_tuned(2, 0, NULL);
    char *text, *forged;

    check_case(be, &plain);
    check_case(be, &gelu);
    text = choices_of(be);
    d2c_backend_close(be);
    forged = malloc(strlen(text) + 1);
    slow(0, 0);
    for (uint32_t i = 0; i < 40; i++) {
        d2c_philox_block words = d2c_philox(11, i, 0, D2C_PURPOSE_TEST);
        size_t lines = (size_t)(strstr(text, "\nend ") - text);
        d2c_status status;

        strcpy(forged, text);
        for (uint32_t k = 0; k <= words.w[0] % 3; k++)
            forged[words.w[1 + k] % lines] = " :\nap0f9x"[words.w[0] / 3 % 9];
        sign(forged);
        be = open_cuda();
        status = d2c_choose(be, forged);
        d2c_tune(be, 1);
        CHECK(status == D2C_OK || status == D2C_BAD_DATA);
        check_case(be, &plain);
        check_case(be, &gelu);
        d2c_backend_close(be);
    }
    free(forged);
    free(text);
}

/* Memory that measuring would need is not there: the first proposal is taken. */
static void
test_no_memory_to_measure(void)
{
    d2c_backend *be = open_tuned(2, 0, NULL);
    op_fixture f = {.be = be, .oracle = reference, .seed = 7};
    d2c_tensor dy = op_input(&f, "dy", d2c_tensor2(OP_VIEW, D2C_F32, 8, 2048));
    d2c_tensor x = op_input(&f, "x", d2c_tensor2(OP_VIEW, D2C_F32, 8, 1024));
    d2c_weight w = {.grad = op_output(&f, "grad", OP_ADD, d2c_tensor2(OP_VIEW, D2C_F32, 2048, 1024))};
    size_t available, total;

    CHECK_OK(d2c_memory_use(be, &available, &total), &be->error);
    set_memory(total - available + (4 << 20));
    CHECK_OK(d2c_linear_backward_weight(be, &w, dy, x), &be->error);
    CHECK_OK(d2c_synchronize(be), &be->error);
    set_memory(total);
    op_release(&f);
    d2c_backend_close(be);
}

/* ---- epilogues ----------------------------------------------------------------------------------------------------- */

static int
is_apart(d2c_backend *be)
{
    char *text = choices_of(be);
    int apart = strstr(text, ": apart\n") != NULL;

    free(text);
    return apart;
}

static void
test_fused_where_it_is_faster(void)
{
    d2c_backend *fused = open_tuned(0, EMU_LT_BARE, NULL), *apart, *again;
    uint64_t fused_bits = bits_of(fused, &gelu), apart_bits;
    char *text;

    check_case(fused, &gelu_gradient);
    CHECK(!is_apart(fused));
    apart = open_tuned(0, EMU_LT_GELU, NULL);
    apart_bits = bits_of(apart, &gelu);
    check_case(apart, &gelu);
    check_case(apart, &gelu_gradient);
    CHECK(is_apart(apart));
    CHECK(fused_bits != apart_bits);
    text = choices_of(apart);
    again = open_tuned(0, 0, text);
    CHECK(bits_of(again, &gelu) == apart_bits);
    free(text);
    d2c_backend_close(again);
    d2c_backend_close(apart);
    d2c_backend_close(fused);
}

/* Without measuring, by the device. */
static void
test_fused_by_capability(void)
{
    uint64_t bits[2];

    slow(0, 0);
    for (int i = 0; i < 2; i++) {
        d2c_backend *be;

        setenv("EMU_CAPABILITY", i == 0 ? "90" : "100", 1);
        be = open_cuda();
        check_case(be, &gelu);
        check_case(be, &gelu_gradient);
        bits[i] = bits_of(be, &gelu);
        d2c_backend_close(be);
    }
    unsetenv("EMU_CAPABILITY");
    CHECK(bits[0] != bits[1]);
}

/* Results that go through scratch memory in several runs, and those whose bias is rounded. */
static void
test_large_results(void)
{
    static const op_case large[] = {
        CASE(linear_forward, BF16, BF16, SILU, TOL_BF16_2, 6200, 8, 1024),
        CASE(linear_forward, BF16, BF16, 0, TOL_BF16_2, 1032, 24, 512),
        CASE(linear_forward, BF16, BF16, 0, TOL_BF16_2, 1032, 25, 513),
    };
    d2c_backend *be = open_cuda();

    slow(0, 0);
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++)
        check_case(be, &large[i]);
    d2c_backend_close(be);
}

/* A bias that the library could not read where it lies. */
static void
test_misaligned_bias(void)
{
    d2c_backend *be = open_cuda();
    op_fixture f = {.be = be, .oracle = reference, .seed = 7};
    d2c_tensor x = op_input(&f, "x", d2c_tensor2(OP_VIEW, D2C_F32, 8, 64));
    d2c_weight w = make_weight(&f, &plain, 64, 32);
    d2c_tensor y = op_output(&f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, 8, 32));
    d2c_tensor moved = op_output(&f, "moved", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, 8, 32));
    d2c_tensor room = op_input(&f, "room", d2c_tensor1(OP_VIEW, D2C_F32, 33));

    CHECK_OK(d2c_linear_forward(be, y, d2c_absent(), x, &w, D2C_ACT_NONE), &be->error);
    CHECK_OK(d2c_copy(be, (float *)room.data + 1, w.bias.data, 32 * sizeof(float)), &be->error);
    w.bias.data = (float *)room.data + 1;
    CHECK_OK(d2c_linear_forward(be, moved, d2c_absent(), x, &w, D2C_ACT_NONE), &be->error);
    op_download(&f);
    for (int64_t n = 0; n < 8 * 32; n++)
        CHECK(op_result(&f.buffer[4], n) == op_result(&f.buffer[5], n));
    op_release(&f);
    d2c_backend_close(be);
}

/* A library that forgets the bias of a single row is not given one. */
static void
test_bias_of_one_row(void)
{
    op_case row = CASE(linear_forward, BF16, F32, 0, TOL_F32 * 10, 1, 256, 64);
    op_case row_gelu = CASE(linear_forward, BF16, BF16, GELU_TANH | WITH_PRE, TOL_BF16_2, 1, 128, 64);
    d2c_backend *be;

    setenv("EMU_LT_VERSION", "120803", 1);
    be = open_cuda();
    check_case(be, &row);
    check_case(be, &row_gelu);
    check_case(be, &plain);
    d2c_backend_close(be);
    unsetenv("EMU_LT_VERSION");
}

/* ---- failures ------------------------------------------------------------------------------------------------------ */

static void
check_failure(d2c_backend *be, int status, d2c_status wanted)
{
    op_fixture f = {.be = be, .oracle = reference, .seed = 7};

    fail(1, status);
    CHECK(plain.run(&f, &plain) == wanted);
    CHECK(be->error.status == wanted && strstr(be->error.message, "cuBLASLt says CUBLAS_STATUS_") != NULL);
    CHECK(strstr(be->error.detail, "33x64x256 bf16 f32") != NULL);
    CHECK(!be->lost);
    fail(0, 0);
    op_release(&f);
}

static void
test_failures_of_the_library(void)
{
    d2c_backend *be = open_cuda();

    check_case(be, &plain);
    check_failure(be, 3, D2C_NO_MEMORY);
    check_failure(be, 7, D2C_INTERNAL);
    check_failure(be, 8, D2C_UNSUPPORTED);
    check_failure(be, 13, D2C_DEVICE);
    check_failure(be, 15, D2C_UNSUPPORTED);
    check_case(be, &plain);
    d2c_backend_close(be);
}

/* The library says "internal error" where a kernel that it loads finds no memory. */
static void
test_no_memory_to_load(void)
{
    d2c_backend *be = open_cuda();
    size_t available, total;

    check_case(be, &plain);
    CHECK_OK(d2c_memory_use(be, &available, &total), &be->error);
    set_memory(total - available + (32 << 20));
    check_failure(be, 14, D2C_NO_MEMORY);
    set_memory(total);
    check_case(be, &plain);
    d2c_backend_close(be);
}

/* An algorithm that does not run after all is passed over. */
static void
test_failing_proposals(void)
{
    static const int statuses[] = {13, 15};

    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        d2c_backend *be = open_tuned(0, 0, NULL);
        uint64_t bits;

        fail(1, statuses[i]);
        bits = bits_of(be, &plain);
        CHECK(bits != bits_by(0, &plain));
        d2c_backend_close(be);
    }
}

/* ---------------------------------------------------------------------------------------------------------------- */

/* Whether the library beside this program is the emulated one. */
static int
find_controls(void)
{
    d2c_backend *be = open_cuda();
    Dl_info info;
    void *library = NULL;

    if (dladdr((void *)be->ops, &info) != 0)
        library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    d2c_backend_close(be);
    if (library == NULL)
        return 0;
    *(void **)&slow = dlsym(library, "emu_lt_slow");
    *(void **)&fail = dlsym(library, "emu_lt_fail");
    *(void **)&queries = dlsym(library, "emu_lt_queries");
    *(void **)&set_memory = dlsym(library, "emu_set_memory");
    return slow != NULL && fail != NULL && queries != NULL && set_memory != NULL;
}

int
main(void)
{
    d2c_error err;

    if (d2c_backend_open(&reference, "reference", 1, &err) != D2C_OK || !find_controls()) {
        fprintf(stderr, "the emulated CUDA library is not there\n");
        return 1;
    }
    RUN(test_described);
    RUN(test_planned_once);
    RUN(test_first_proposal);
    RUN(test_first_met_in_capture);
    RUN(test_fastest_is_kept);
    RUN(test_measuring_leaves_results);
    RUN(test_choices_are_taken_over);
    RUN(test_tuning_is_for_a_while);
    RUN(test_choices_replace_others);
    RUN(test_other_versions_measure_anew);
    RUN(test_damaged_choices_are_refused);
    RUN(test_forged_choices_are_harmless);
    RUN(test_no_memory_to_measure);
    RUN(test_fused_where_it_is_faster);
    RUN(test_fused_by_capability);
    RUN(test_large_results);
    RUN(test_misaligned_bias);
    RUN(test_bias_of_one_row);
    RUN(test_failures_of_the_library);
    RUN(test_no_memory_to_load);
    RUN(test_failing_proposals);
    d2c_backend_close(reference);
    return check_report();
}
