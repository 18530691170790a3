/*
 * test_ops.c: every backend that can be opened against the reference, by the table of op_cases.h.
 *
 *   test_ops                         the reference itself, the CPU, and CUDA where there is a device
 *   test_ops DEVICE                  that device, which must be there
 *   test_ops --large DEVICE SHRINK   the same by the table of op_cases_large.h; a SHRINK above 1 tries it out: rows
 *                                    and batches divided by it, other dimensions at most 96
 *
 * Compared are every output's NMSE and largest error in units of the RMS, NaN and infinity in place, and that nothing
 * but the outputs was written.  On the reference, the table also checks which outputs are set and which added to.
 */
#include "op_cases_large.h"
#include "base/progress.h"
#include "ops/dispatch.h"

static d2c_backend *reference;
static d2c_backend *tested; /* NULL: the reference's own checks */
static const op_case *current;

static d2c_backend *
open_backend(const char *device, int threads)
{
    d2c_backend *be = NULL;
    d2c_error err;
    d2c_status status = d2c_backend_open(&be, device, threads, &err);

    if (status == D2C_UNSUPPORTED)
        printf("# %s: %s\n", device, err.message);
    else
        CHECK_OK(status, &err);
    return be;
}

/* A case's contents depend on its op and dims alone. */
static uint64_t
case_seed(const op_case *c)
{
    uint64_t hash = 1469598103934665603u;

    for (const char *s = c->op; *s != '\0'; s++)
        hash = (hash ^ (unsigned char)*s) * 1099511628211u;
    for (int i = 0; i < 5; i++)
        hash = (hash ^ (uint64_t)c->d[i]) * 1099511628211u;
    return hash;
}

static void
complain(const char *tensor, const char *what, double number)
{
    const op_case *c = current;

    fprintf(stderr, "%s %s->%s flags %d [%d %d %d %d %d] on %s, %s: %s %g\n", c->op,
            c->in == D2C_BF16 ? "bf16" : "f32", c->out == D2C_BF16 ? "bf16" : "f32", c->flags, (int)c->d[0],
            (int)c->d[1], (int)c->d[2], (int)c->d[3], (int)c->d[4],
            tested != NULL ? tested->ops->name : "reference", tensor, what, number);
#pragma omp atomic
    check_current++;
}

/* Runs the current case; guards are checked on the way. */
static void
run_case(op_fixture *f, d2c_backend *be, int fill)
{
    *f = (op_fixture){.be = be, .oracle = reference, .seed = case_seed(current), .fill = fill};
    CHECK_OK(current->run(f, current), &be->error);
    op_download(f);
    for (int i = 0; i < f->count; i++)
        if (!op_untouched(&f->buffer[i]))
            complain(f->buffer[i].name, "was written where it should not be", 0);
}

static double
tolerance_of(const op_buffer *b)
{
    if (current->tolerance == EXACT)
        return EXACT;
    if (b->view.dtype == D2C_BF16)
        return fmax(current->tolerance, TOL_BF16);
    return current->tolerance < TOL_BF16 ? current->tolerance : TOL_APPROX;
}

/* Whether both are the same NaN or infinity; differences of those are no numbers. */
static int
same_special(double a, double r)
{
    return (isnan(a) && isnan(r)) || a == r;
}

/* With errors of one size everywhere the largest of n is below 6 times their RMS; elements are not of one size. */
#define MAX_OVER_RMS 30

/* Whether x and y are neighbours in bf16, or the same: next to a tie the smallest error takes a large element that far,
 * which in units of the RMS may be more than the above. */
static int
one_unit_apart(double x, double y)
{
    int exponent;

    frexp(fmax(fabs(x), fabs(y)), &exponent);
    return fabs(x - y) <= ldexp(1, exponent - 8);
}

/* Tensor i as the tested backend left it beside the reference's, which may be a part of it. */
static void
compare_tensor(const op_fixture *whole, const op_fixture *part, int i)
{
    const op_buffer *a = &whole->buffer[i], *r = &part->buffer[i];
    int64_t count = d2c_tensor_count(r->view);
    double error = 0, power = 0, largest = 0, tolerance = tolerance_of(r);

    for (int64_t n = 0; n < count; n++) {
        double x = op_result(a, op_in_whole(part, r->view, n)), y = op_result(r, n);

        if (!isfinite(x) || !isfinite(y)) {
            if (!same_special(x, y))
                complain(r->name, "is not finite where the reference is, or the other way; element",
                         (double)n);
            continue;
        }
        error += (x - y) * (x - y);
        power += y * y;
        if (fabs(x - y) > largest && (r->view.dtype != D2C_BF16 || !one_unit_apart(x, y)))
            largest = fabs(x - y);
    }
    if (!(error <= tolerance * power))
        complain(r->name, "has NMSE", error / power);
    if (!(largest * largest * (double)count <= MAX_OVER_RMS * MAX_OVER_RMS * tolerance * power))
        complain(r->name, "has a largest error, in RMS, of", largest / sqrt(power / (double)count));
}

static void
test_against_reference(void)
{
    op_fixture a, r;

    run_case(&r, reference, 0);
    run_case(&a, tested, 0);
    for (int i = 0; i < r.count; i++)
        if (r.buffer[i].role != OP_INPUT)
            compare_tensor(&a, &r, i);
    op_release(&a);
    op_release(&r);
}

/* Without hardware for it, products of bf16 and e4m3 operands are refused, never emulated slowly. */
static int
is_refused(const op_case *c)
{
    if (strcmp(c->op, "quantize") == 0)
        return !D2C_HAS(tested, quantize);
    if (c->in == D2C_F8)
        return !tested->has_f8;
    return !tested->has_bf16 && c->in == D2C_BF16 &&
           (strncmp(c->op, "linear", 6) == 0 || strncmp(c->op, "attention", 9) == 0 ||
            strncmp(c->op, "conv2d", 6) == 0);
}

static void
test_refused(void)
{
    op_fixture f = {.be = tested, .oracle = reference, .seed = case_seed(current)};

    CHECK(current->run(&f, current) == D2C_UNSUPPORTED);
    CHECK(tested->error.message[0] != '\0');
    op_release(&f);
}

/* From other starting values, outputs that are set come out the same, and those that are added to differ as much as
 * their starts do; rounding of the sums aside. */
static void
check_contract(const op_buffer *a, const op_buffer *b)
{
    for (int64_t n = 0; n < d2c_tensor_count(a->view); n++) {
        double difference = op_result(a, n) - op_result(b, n);
        double size =
            fabs(op_result(a, n)) + fabs(op_result(b, n)) + fabs(op_before(a, n)) + fabs(op_before(b, n));

        if (a->role == OP_SET && !same_special(op_result(a, n), op_result(b, n)))
            complain(a->name, "depends on its start at element", (double)n);
        if (a->role == OP_ADD && !(fabs(difference - (op_before(a, n) - op_before(b, n))) <= 1e-6 * size))
            complain(a->name, "is not added to at element", (double)n);
    }
}

static void
test_set_or_added(void)
{
    op_fixture a, b;

    run_case(&a, reference, 0);
    run_case(&b, reference, 1);
    for (int i = 0; i < a.count; i++)
        check_contract(&a.buffer[i], &b.buffer[i]);
    op_release(&a);
    op_release(&b);
}

/* ---- one image's result does not depend on the others -------------------------------------------------------- */

/* A case and one of its inputs: it has one part an image; matrix products take each row for an image here. */
typedef struct batch_case {
    op_case c;
    const char *input;
} batch_case;

static const batch_case batch_cases[] = {
    {CASE(linear_forward, F32, F32, GELU_TANH | WITH_PRE, EXACT, 64, 96, 384), "x"},
    {CASE(linear_forward, BF16, BF16, 0, EXACT, 64, 72, 40), "x"},
    {CASE(attention_forward, F32, F32, NO_BIAS, EXACT, 4, 49, 96, 3), "qkv"},
    {CASE(attention_forward, BF16, BF16, NO_BIAS, EXACT, 4, 49, 96, 3), "qkv"},
    {CASE(modulate_forward, F32, F32, STRIDED, EXACT, 4, 49, 96), "x"},
    {CASE(modulate_forward, F32, BF16, 0, EXACT, 4, 17, 40), "x"},
    {CASE(gate_modulate_forward, F32, F32, 0, EXACT, 4, 17, 40), "x"},
    {CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | SILU, EXACT, 4, 7, 6, 16, 24), "x"},
    {CASE(conv2d_forward, BF16, BF16, WINDOW(DOWN_3X3), EXACT, 4, 6, 8, 32, 32), "x"},
    {CASE(groupnorm_forward, F32, F32, SILU, EXACT, 4, 17, 9, 64, 32), "x"},
};

static const batch_case *batch;

static void
run_varied(op_fixture *f, int64_t kept, uint64_t stream)
{
    *f = (op_fixture){.be = tested,
                      .oracle = reference,
                      .seed = case_seed(&batch->c),
                      .vary = {batch->input, batch->c.d[0], kept, stream}};
    CHECK_OK(batch->c.run(f, &batch->c), &tested->error);
    op_download(f);
}

static int
same_image(const op_buffer *a, const op_buffer *b, int64_t image)
{
    int64_t part = d2c_tensor_count(a->view) / batch->c.d[0];

    for (int64_t n = image * part; n < (image + 1) * part; n++)
        if (op_result(a, n) != op_result(b, n))
            return 0;
    return 1;
}

/* With the same place in a batch of the same size, an image gives the same bits whatever the others are.  Libraries
 * choose kernels by shape and some treat the last rows differently, so nothing is said about other places and sizes:
 * that is why the engine's unit of work is one image. */
static void
test_neighbours(void)
{
    const int64_t images = batch->c.d[0], kept[] = {0, images / 2, images - 1};
    op_fixture a, b;

    current = &batch->c;
    for (int k = 0; k < 3; k++) {
        run_varied(&a, kept[k], 501);
        run_varied(&b, kept[k], 502);
        for (int i = 0; i < a.count; i++)
            if (a.buffer[i].role != OP_INPUT && !same_image(&a.buffer[i], &b.buffer[i], kept[k]))
                complain(a.buffer[i].name, "depends on the neighbours of image", (double)kept[k]);
        op_release(&a);
        op_release(&b);
    }
}

/* ---- a NaN spreads as far as in the reference, and no further -------------------------------------------------- */

static const batch_case poisoned_cases[] = {
    {CASE(linear_forward, F32, F32, GELU_TANH | WITH_PRE, TOL_APPROX, 9, 40, 72), "x"},
    {CASE(linear_forward, F32, F32, SILU, TOL_APPROX, 9, 40, 72), "x"},
    {CASE(linear_forward, F32, F32, RELU, TOL_F32, 9, 40, 72), "bias"},
    {CASE(linear_backward_input, F32, F32, SILU, TOL_APPROX, 9, 40, 72), "pre"},
    {CASE(linear_backward_weight, F32, F32, 0, TOL_F32, 9, 40, 72), "dy"},
    {CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 3, 17, 40, 2), "qkv"},
    {CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 3, 17, 40, 2), "dout"},
    {CASE(attention_forward, BF16, BF16, NO_BIAS, TOL_BF16_2, 3, 17, 48, 2), "qkv"},
    {CASE(attention_backward, BF16, BF16, NO_BIAS, TOL_BF16_2, 3, 17, 48, 2), "dout"},
    {CASE(modulate_forward, F32, F32, 0, TOL_F32, 3, 17, 40), "x"},
    {CASE(modulate_backward, F32, F32, 0, TOL_F32, 3, 17, 40), "dy"},
    {CASE(gate_residual_forward, F32, F32, 0, TOL_F32, 3, 17, 40), "gate"},
    {CASE(layernorm_forward, F32, F32, 0, TOL_F32, 3, 17, 40), "x"},
    {CASE(act_forward, F32, F32, SILU, TOL_APPROX, 7, 33), "x"},
    {CASE(act_forward, F32, F32, GELU_TANH, TOL_APPROX, 7, 33), "x"},
    {CASE(act_forward, F32, F32, GELU_ERF, TOL_APPROX, 7, 33), "x"},
    {CASE(act_forward, F32, F32, RELU, TOL_F32, 7, 33), "x"},
    {CASE(act_backward, F32, F32, SILU, TOL_APPROX, 7, 33), "x"},
    {CASE(cast, F32, BF16, 0, EXACT, 7, 33), "x"},
    {CASE(cast, F32, F16, 0, EXACT, 7, 33), "x"},
    {CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 2, 9, 11, 16, 24), "x"},
    {CASE(conv2d_forward, F32, F32, WINDOW(DOWN_3X3) | SILU, TOL_APPROX, 2, 9, 11, 5, 24), "x"},
    {CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | RELU, TOL_F32, 2, 9, 11, 16, 24), "x"},
    {CASE(conv2d_forward, F32, F32, WINDOW(WIDE_7) | GELU_TANH, TOL_APPROX, 2, 9, 11, 3, 24), "bias"},
    {CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | GELU_ERF, TOL_APPROX, 2, 9, 11, 16, 24), "x"},
    {CASE(groupnorm_forward, F32, F32, SILU, TOL_APPROX, 3, 9, 7, 64, 32), "x"},
    {CASE(pool_forward, F32, F32, WINDOW(HALVE_3X3), EXACT, 2, 9, 8, 16, D2C_POOL_MAX), "x"},
    {CASE(pool_forward, F32, F32, WINDOW(SAME_3X3), TOL_F32, 2, 9, 8, 16, D2C_POOL_MEAN), "x"},
    {CASE(rmsnorm_forward, F32, F32, 0, TOL_F32, 3, 17, 40), "x"},
    {CASE(glu_forward, F32, F32, GELU_TANH | STRIDED, TOL_APPROX, 7, 33), "both"},
    {CASE(mse_loss, F32, F32, 0, TOL_F32, 3, 33), "v"},
    {CASE(dit_loss, F32, F32, 0, TOL_APPROX, 3, 33), "v"},
    {CASE(cosine_loss, F32, F32, 0, TOL_F32, 3, 5, 33), "z"},
    {CASE(finish_loss, F32, F32, 0, TOL_F32, 9), "loss"},
    {CASE(gradient_norm, F32, F32, 0, TOL_F32, 1033), "grad"},
};

static void
run_poisoned(op_fixture *f, d2c_backend *be)
{
    *f = (op_fixture){.be = be, .oracle = reference, .seed = case_seed(current), .poisoned = batch->input};
    CHECK_OK(current->run(f, current), &be->error);
    op_download(f);
}

static void
test_poisoned(void)
{
    op_fixture a, r;
    int64_t spread = 0;

    current = &batch->c;
    run_poisoned(&r, reference);
    run_poisoned(&a, tested);
    for (int i = 0; i < r.count; i++) {
        if (r.buffer[i].role == OP_INPUT)
            continue;
        compare_tensor(&a, &r, i);
        for (int64_t n = 0; n < d2c_tensor_count(r.buffer[i].view); n++)
            spread += isnan(op_result(&r.buffer[i], n));
    }
    CHECK(spread > 0);
    op_release(&a);
    op_release(&r);
}

/* ---- the table at real sizes ------------------------------------------------------------------------------------- */

static const large_case *large;
static int64_t shrink = 1;

#define SHRUNK_MOST 96

/* The case, shrunk where that is wanted, and its part. */
static void
shrink_case(op_case *whole, op_case *part)
{
    *whole = large->c;
    for (int k = 1; k < 5 && shrink > 1; k++)
        if (whole->d[k] > SHRUNK_MOST)
            whole->d[k] = SHRUNK_MOST;
    whole->d[0] = whole->d[0] / shrink > large->part[0] ? whole->d[0] / shrink : large->part[0];
    if (whole->d[0] == 0)
        whole->d[0] = 1;
    *part = *whole;
    for (int k = 0; k < 5; k++)
        if (large->part[k] != 0)
            part->d[k] = large->part[k];
}

static void
check_written(const op_buffer *b)
{
    int64_t unwritten = 0;

#pragma omp parallel for reduction(+ : unwritten)
    for (int64_t n = 0; n < d2c_tensor_count(b->view); n++)
        unwritten += !isfinite(op_result(b, n));
    if (unwritten > 0)
        complain(b->name, "has elements that are not finite:", (double)unwritten);
}

/* A part is computed at up to three places at once, each on a reference of its own: a backend keeps one error. */
#define PLACES 3

static d2c_backend *place_reference[PLACES];

/* place: 0 the first part of every dimension that is cut, 1 one in the middle, 2 the last.  Returns what the reference
 * did. */
static d2c_status
compare_part(const op_fixture *whole, const op_case *part, int place)
{
    d2c_backend *own = place_reference[place];
    op_fixture r = {.be = own,
                    .oracle = own,
                    .seed = whole->seed,
                    .large = 1,
                    .part = {.whole = current->d, .size = part->d}};
    d2c_status status;

    for (int k = 0; k < 5; k++)
        r.part.from[k] = (current->d[k] - part->d[k]) * place / 2;
    status = part->run(&r, part);
    op_download(&r);
    for (int i = 0; i < r.count; i++)
        if (r.buffer[i].role != OP_INPUT)
            compare_tensor(whole, &r, i);
    op_release(&r);
    return status;
}

static void
compare_parts(const op_fixture *whole, const op_case *part)
{
    int places = memcmp(current->d, part->d, sizeof part->d) == 0 ? 1 : PLACES;
    d2c_status status[PLACES];

#pragma omp parallel for num_threads(places) schedule(static, 1) if (places > 1)
    for (int place = 0; place < places; place++)
        status[place] = compare_part(whole, part, place);
    for (int place = 0; place < places; place++)
        CHECK_OK(status[place], &place_reference[place]->error);
}

static void
test_large(void)
{
    op_case whole, part;
    op_fixture a;

    shrink_case(&whole, &part);
    current = &whole;
    a = (op_fixture){.be = tested, .oracle = reference, .seed = case_seed(&large->c), .large = 1};
    CHECK_OK(whole.run(&a, &whole), &tested->error);
    op_download(&a);
    for (int i = 0; i < a.count; i++) {
        if (!op_untouched(&a.buffer[i]))
            complain(a.buffer[i].name, "was written where it should not be", 0);
        check_written(&a.buffer[i]);
    }
    compare_parts(&a, &part);
    op_release(&a);
}

static void
run_large(void)
{
    for (int place = 0; place < PLACES; place++)
        place_reference[place] = open_backend("reference", 1);
    for (size_t i = 0; i < sizeof large_cases / sizeof large_cases[0]; i++) {
        double start = d2c_clock();

        large = &large_cases[i];
        if (is_refused(&large->c))
            continue;
        RUN(test_large);
        printf("# %s [%d %d %d %d] %s: %.1f s\n", large->c.op, (int)large->c.d[0], (int)large->c.d[1],
               (int)large->c.d[2], (int)large->c.d[3], large->c.in == D2C_BF16 ? "bf16" : "f32",
               d2c_clock() - start);
        fflush(stdout);
    }
    for (int place = 0; place < PLACES; place++)
        d2c_backend_close(place_reference[place]);
}

/* ---------------------------------------------------------------------------------------------------------------- */

static void
run_table(void)
{
    for (size_t i = 0; i < sizeof op_cases / sizeof op_cases[0]; i++) {
        current = &op_cases[i];
        if (is_refused(current))
            RUN(test_refused);
        else
            RUN(test_against_reference);
    }
    for (size_t i = 0; tested->threads == 1 && i < sizeof batch_cases / sizeof batch_cases[0]; i++) {
        batch = &batch_cases[i];
        if (!is_refused(&batch->c))
            RUN(test_neighbours);
    }
    for (size_t i = 0; i < sizeof poisoned_cases / sizeof poisoned_cases[0]; i++) {
        batch = &poisoned_cases[i];
        if (!is_refused(&batch->c))
            RUN(test_poisoned);
    }
}

/* Runs a table on a device; one that is not there is left out, or counts as a failure where it was asked for. */
static void
run_on(void (*table)(void), const char *device, int threads, int asked_for)
{
    tested = open_backend(device, threads);
    if (tested != NULL)
        table();
    else if (asked_for)
        check_failed++;
    d2c_backend_close(tested);
    tested = NULL;
}

static void
run_all(void)
{
    for (size_t i = 0; i < sizeof op_cases / sizeof op_cases[0]; i++) {
        current = &op_cases[i];
        RUN(test_set_or_added);
    }
    run_on(run_table, "cpu", 1, 1);
    run_on(run_table, "cpu", 2, 1);
    run_on(run_table, "cuda", 1, 0);
}

int
main(int argc, char **argv)
{
    reference = open_backend("reference", 1);
    if (argc == 4 && strcmp(argv[1], "--large") == 0) {
        shrink = atoi(argv[3]) > 0 ? atoi(argv[3]) : 1;
        run_on(run_large, argv[2], 1, 1);
    } else if (argc == 2) {
        run_on(run_table, argv[1], 1, 1);
    } else {
        run_all();
    }
    d2c_backend_close(reference);
    return check_report();
}
