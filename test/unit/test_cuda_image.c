/*
 * test_cuda_image.c: what image ops and wide attention promise on a CUDA device beyond the op table: results that are
 * made in several pieces, in memory that is bounded and there when a capture needs it, and sizes that are refused.
 */
#include "cuda_fixture.h"
#include "op_cases.h"

static d2c_backend *reference, *be;

/* ---- several pieces ------------------------------------------------------------------------------------------------- */

/* An image is cut into tiles, the last of which is smaller; a tile is two of six images; the weights' rows are continued
 * with zeros. */
static const op_case tiles[] = {
    CASE(conv2d_forward, F32, F32, WINDOW(SAME_3X3) | RELU, TOL_F32, 2, 45, 41, 512, 5),
    CASE(conv2d_forward, F32, BF16, WINDOW(SAME_3X3), TOL_BF16, 6, 25, 27, 509, 3),
    CASE(conv2d_forward, BF16, BF16, WINDOW(SAME_3X3) | GELU_TANH, TOL_BF16_2, 1, 61, 60, 512, 8),
    CASE(conv2d_forward, BF16, F32, WINDOW(SAME_3X3), TOL_F32 * 10, 3, 35, 36, 511, 3),
};

/* Channels beside each other in more blocks than one, and more chunks of pixels than a block's threads. */
static const op_case chunks[] = {
    CASE(groupnorm_forward, F32, F32, SILU, TOL_APPROX, 1, 3, 5, 1300, 26),
    CASE(groupnorm_forward, BF16, BF16, LARGE, TOL_BF16, 2, 40, 30, 1280, 32),
    CASE(groupnorm_forward, F32, F32, LARGE, TOL_F32 * 10, 1, 130, 131, 16, 2),
};

static void
run_case(op_fixture *f, d2c_backend *on, const op_case *c)
{
    *f = (op_fixture){.be = on, .oracle = reference, .seed = 3};
    CHECK_OK(c->run(f, c), &on->error);
    op_download(f);
}

/* Normalised mean squared error of the last tensor, an op's result. */
static double
error_of(const op_fixture *a, const op_fixture *r)
{
    const op_buffer *x = &a->buffer[a->count - 1], *y = &r->buffer[r->count - 1];
    double error = 0, power = 0;

    for (int64_t n = 0; n < d2c_tensor_count(y->view); n++) {
        double off = op_result(x, n) - op_result(y, n);

        error += off * off;
        power += op_result(y, n) * op_result(y, n);
    }
    return error / power;
}

static void
check_case(const op_case *c)
{
    op_fixture a, r;
    double error;

    run_case(&a, be, c);
    run_case(&r, reference, c);
    error = error_of(&a, &r);
    CHECK(error <= c->tolerance);
    if (!(error <= c->tolerance))
        fprintf(stderr, "%s of %d channels has NMSE %g\n", c->op, (int)c->d[3], error);
    for (int i = 0; i < a.count; i++)
        CHECK(op_untouched(&a.buffer[i]));
    op_release(&a);
    op_release(&r);
}

static void
test_tiles(void)
{
    for (size_t i = 0; i < sizeof tiles / sizeof tiles[0]; i++)
        check_case(&tiles[i]);
}

static void
test_chunks(void)
{
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++)
        check_case(&chunks[i]);
}

/* Softmax-weighted sum of column d of v for one query, from the op's own input. */
static double
attend(const op_buffer *qkv, int64_t tokens, int64_t width, double scale, int64_t query, int64_t d)
{
    double total = 0, sum = 0;

    for (int64_t key = 0; key < tokens; key++) {
        double score = 0, weight;

        for (int64_t e = 0; e < width; e++)
            score += op_before(qkv, query * 3 * width + e) * op_before(qkv, (key * 3 + 1) * width + e);
        weight = exp(score * scale);
        total += weight;
        sum += weight * op_before(qkv, (key * 3 + 2) * width + d);
    }
    return sum / total;
}

/* Queries whose scores do not all fit at once: some of each part are computed here. */
static void
test_parts_of_scores(void)
{
    const op_case c = CASE(attention_forward, F32, F32, NO_BIAS, TOL_APPROX, 1, 2500, 260, 1);
    const int64_t queries[] = {0, 1217, 2431, 2432, 2499};
    op_fixture f;

    run_case(&f, be, &c);
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        int64_t d = (int64_t)i * 60;

        CHECK_NEAR(op_result(&f.buffer[1], queries[i] * 260 + d),
                   attend(&f.buffer[0], 2500, 260, attention_scale(&c), queries[i], d), 1e-6);
    }
    op_release(&f);
}

/* ---- captures ------------------------------------------------------------------------------------------------------- */

/* A small network: y = pool(act(norm(conv(x)))), attention over its pixels, and T5's norm and gate of that. */
typedef struct network {
    op_fixture f;
    d2c_tensor x, wide, normed, larger, smaller, qkv, o, t;
    d2c_tensor gamma, beta;
    d2c_weight conv, project;
} network;

#define SIDE 6
#define CHANNELS 16
#define WIDTH 264 /* of a head */

static d2c_tensor
image_of(int64_t side, int64_t channels)
{
    return d2c_tensor4(OP_VIEW, D2C_BF16, 2, side, side, channels);
}

static void
open_network(network *n)
{
    const op_case weights = {.flags = 0};
    d2c_tensor rows = d2c_tensor2(OP_VIEW, D2C_BF16, 2 * SIDE * SIDE, 3 * WIDTH);

    *n = (network){.f = {.be = be, .oracle = reference, .seed = 5}};
    n->x = op_input(&n->f, "x", image_of(SIDE, 5));
    n->conv = make_weight(&n->f, &weights, 9 * 5, CHANNELS);
    n->project = make_weight(&n->f, &weights, CHANNELS, 3 * WIDTH);
    n->gamma = op_input(&n->f, "gamma", d2c_tensor1(OP_VIEW, D2C_F32, CHANNELS));
    n->beta = op_input(&n->f, "beta", d2c_tensor1(OP_VIEW, D2C_F32, CHANNELS));
    n->wide = op_output(&n->f, "conv", OP_SET, image_of(SIDE, CHANNELS));
    n->normed = op_output(&n->f, "norm", OP_SET, image_of(SIDE, CHANNELS));
    n->larger = op_output(&n->f, "upsample", OP_SET, image_of(2 * SIDE, CHANNELS));
    n->smaller = op_output(&n->f, "pool", OP_SET, image_of(SIDE, CHANNELS));
    n->qkv = op_output(&n->f, "qkv", OP_SET, rows);
    rows.dim[1] = rows.stride[0] = WIDTH;
    n->o = op_output(&n->f, "o", OP_SET, rows);
    n->t = op_output(&n->f, "t", OP_SET, rows);
}

static d2c_status
run_network(const network *n)
{
    const d2c_window halve = {2, 2, 2, 0, 0, 0, 0};
    d2c_tensor pixels = d2c_tensor2(n->smaller.data, D2C_BF16, 2 * SIDE * SIDE, CHANNELS);
    d2c_tensor qkv = d2c_tensor3(n->qkv.data, D2C_BF16, 2, SIDE * SIDE, 3 * WIDTH);
    d2c_tensor o = d2c_tensor3(n->o.data, D2C_BF16, 2, SIDE * SIDE, WIDTH);
    d2c_tensor gamma = d2c_tensor1(n->project.bias.data, D2C_F32, WIDTH);

    D2C_TRY(d2c_conv2d_forward(be, n->wide, n->x, &n->conv, &windows[SAME_3X3], D2C_ACT_NONE));
    D2C_TRY(d2c_groupnorm_forward(be, n->normed, n->wide, n->gamma, n->beta, 4, 1e-6f, D2C_ACT_SILU));
    D2C_TRY(d2c_upsample_forward(be, n->larger, n->normed));
    D2C_TRY(d2c_pool_forward(be, n->smaller, n->larger, &halve, D2C_POOL_MEAN));
    D2C_TRY(d2c_linear_forward(be, n->qkv, d2c_absent(), pixels, &n->project, D2C_ACT_GELU_QUICK));
    D2C_TRY(d2c_attention_forward(be, o, d2c_absent(), qkv, d2c_absent(), 1, 0.06f));
    D2C_TRY(d2c_rmsnorm_forward(be, n->t, n->o, gamma, 1e-6f));
    return d2c_glu_forward(be, n->t, n->t, n->o, D2C_ACT_GELU_TANH);
}

/* Whether all tensors are as they were after another run. */
static int
same_results(const network *n, char *const *kept)
{
    for (int i = 0; i < n->f.count; i++)
        if (memcmp(n->f.buffer[i].end, kept[i], n->f.buffer[i].bytes + 2 * OP_GUARD) != 0)
            return 0;
    return 1;
}

static void
keep_results(network *n, char **kept)
{
    op_download(&n->f);
    for (int i = 0; i < n->f.count; i++) {
        kept[i] = n->f.buffer[i].end;
        n->f.buffer[i].end = malloc(n->f.buffer[i].bytes + 2 * OP_GUARD);
        if (n->f.buffer[i].role == OP_SET)
            op_upload(&n->f, &n->f.buffer[i]);
    }
}

static void
close_network(network *n, char *const *kept)
{
    for (int i = 0; i < n->f.count; i++)
        free(kept[i]);
    op_release(&n->f);
}

/* What ran before is captured and replayed, with the same bits. */
static void
test_captured(void)
{
    char *kept[OP_MAX_TENSORS];
    d2c_graph *graph = NULL;
    network n;

    open_network(&n);
    CHECK_OK(run_network(&n), &be->error);
    keep_results(&n, kept);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK_OK(run_network(&n), &be->error);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    op_download(&n.f);
    CHECK(!same_results(&n, kept));
    CHECK_OK(d2c_graph_launch(be, graph), &be->error);
    op_download(&n.f);
    CHECK(same_results(&n, kept));
    d2c_graph_free(be, graph);
    close_network(&n, kept);
}

/* The order in which threads and blocks get on changes no bit. */
static void
test_orders(void)
{
    char *kept[OP_MAX_TENSORS];
    network n;

    if (!is_deferred())
        return;
    open_network(&n);
    CHECK_OK(run_network(&n), &be->error);
    keep_results(&n, kept);
    for (unsigned long seed = 1; seed <= 3; seed++) {
        emu.set_order(seed);
        CHECK_OK(run_network(&n), &be->error);
        op_download(&n.f);
        CHECK(same_results(&n, kept));
    }
    emu.set_order(0);
    close_network(&n, kept);
}

/* An op that needs more memory than there is must have run before. */
static void
test_first_met_in_capture(void)
{
    d2c_backend *shared = be, *own = NULL;
    d2c_graph *graph = NULL;
    d2c_error err;
    network n;

    CHECK_OK(d2c_backend_open(&own, "cuda", 1, &err), &err);
    be = own;
    open_network(&n);
    CHECK_OK(d2c_capture_begin(be), &be->error);
    CHECK(run_network(&n) == D2C_INTERNAL);
    CHECK(strstr(be->error.message, "capture") != NULL);
    CHECK_OK(d2c_capture_end(be, &graph), &be->error);
    d2c_graph_free(be, graph);
    CHECK_OK(run_network(&n), &be->error);
    op_release(&n.f);
    d2c_backend_close(own);
    be = shared;
}

/* ---- refused -------------------------------------------------------------------------------------------------------- */

static void
check_refused(d2c_status status, const char *message)
{
    CHECK(status == D2C_UNSUPPORTED);
    CHECK(strstr(be->error.message, message) != NULL);
}

/* Places in an image are counted in 31 bits; tensors that large have no memory here. */
static void
test_too_large(void)
{
    const char *message = "larger than 2^31 elements";
    d2c_tensor x = d2c_tensor4(OP_VIEW, D2C_BF16, 1, 65536, 32768, 8), y = x;
    d2c_weight w = {.value = d2c_tensor2(OP_VIEW, D2C_F32, 8, 72),
                    .shadow = d2c_tensor2(OP_VIEW, D2C_BF16, 8, 72)};

    check_refused(d2c_conv2d_forward(be, y, x, &w, &windows[SAME_3X3], D2C_ACT_NONE), message);
    check_refused(d2c_pool_forward(be, y, x, &windows[SAME_3X3], D2C_POOL_MAX), message);
    x = d2c_tensor4(OP_VIEW, D2C_BF16, 1, 1, 1 << 28, 8);
    y = d2c_tensor4(OP_VIEW, D2C_BF16, 1, 2, 1 << 29, 8);
    check_refused(d2c_upsample_forward(be, y, x), message);
}

/* Heads wider than 256 are for networks that are not trained here. */
static void
test_wide_heads_are_not_trained(void)
{
    const op_case c = CASE(attention_backward, F32, F32, NO_BIAS, TOL_APPROX, 1, 3, 264, 1);
    op_fixture f = {.be = be, .oracle = reference, .seed = 3};

    check_refused(c.run(&f, &c), "training of attention with heads of width 264");
    CHECK(strstr(be->error.detail, "at most 256 wide") != NULL);
    op_release(&f);
}

/* ---------------------------------------------------------------------------------------------------------------- */

int
main(void)
{
    d2c_error err;

    if (!find_library())
        return check_report();
    if (d2c_backend_open(&reference, "reference", 1, &err) != D2C_OK ||
        d2c_backend_open(&be, "cuda", 1, &err) != D2C_OK) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    RUN(test_tiles);
    RUN(test_chunks);
    RUN(test_parts_of_scores);
    RUN(test_captured);
    RUN(test_orders);
    RUN(test_first_met_in_capture);
    RUN(test_too_large);
    RUN(test_wide_heads_are_not_trained);
    d2c_backend_close(be);
    d2c_backend_close(reference);
    return check_report();
}
