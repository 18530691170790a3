/*
 * test_difficulty.c: scores against the public transport's own noise estimate with the same noise, computed in Python;
 * hidden tokens and the raw output against the public network; independence of order, threads and neighbours.
 */
#include "nn/difficulty.h"

#include <pthread.h>

#include "sit_fixture.h"

#define SEED 7 /* of the fixture */
#define LABEL 2
#define ELEMENTS 144

/* The curve of x1[0], and its mean, on one path, by passes of at most so many rows. */
static void
check_curve(fixture *f, d2c_path path, const char *name, int timesteps, int rows)
{
    d2c_scorer *scorer = NULL;
    double score = 0, mean = 0, curve[32], *expected = fixture_host(f, sizeof curve);
    int i;

    f->sit->config.path = path;
    memcpy(expected, golden_tensor(f, name)->data, (size_t)timesteps * sizeof *expected);
    CHECK_OK(d2c_scorer_open_narrow(&scorer, f->sit, f->be, timesteps, rows, &f->err), &f->err);
    if (scorer == NULL)
        return;
    CHECK_OK(d2c_scorer_run(scorer, &score, curve, golden(f, "x1"), LABEL, SEED, &f->err), &f->err);
    for (i = 0; i < timesteps; i++) {
        CHECK_NEAR(curve[i], expected[i], 2e-5 * expected[i]);
        mean += curve[i] / timesteps;
    }
    CHECK_NEAR(score, mean, 1e-12);
    d2c_scorer_close(scorer);
}

static void
check_scores(const char *device)
{
    fixture f;

    if (!fixture_open(&f, device, "pixel", D2C_F32, 0))
        return;
    check_curve(&f, D2C_PATH_LINEAR, "difficulty.linear.4", 4, D2C_PASS_ROWS);
    check_curve(&f, D2C_PATH_LINEAR, "difficulty.linear.20", 20, D2C_PASS_ROWS); /* two passes */
    check_curve(&f, D2C_PATH_LINEAR, "difficulty.linear.20", 20, 3);
    check_curve(&f, D2C_PATH_GVP, "difficulty.gvp.4", 4, D2C_PASS_ROWS);
    check_curve(&f, D2C_PATH_VP, "difficulty.vp.4", 4, 1);
    fixture_close(&f);
}

static void
test_scores(void)
{
    ON_EVERY_DEVICE(check_scores);
}

static void
check_outputs(const char *device)
{
    d2c_scorer *scorer = NULL;
    float v[ELEMENTS], hidden[9 * 24];
    const float *xt, *out, *t;
    const int64_t label[] = {1, -1, 0}; /* the fixture's, its null class as -1 */
    fixture f;
    int i;

    if (!fixture_open(&f, device, "pixel", D2C_F32, 0))
        return;
    xt = golden(&f, "linear.xt");
    out = golden(&f, "linear.out");
    t = golden(&f, "t");
    CHECK_OK(d2c_scorer_open(&scorer, f.sit, f.be, 4, &f.err), &f.err);
    for (i = 0; i < 3; i++) {
        CHECK_OK(d2c_scorer_denoise(scorer, v, xt + i * ELEMENTS, (double)t[i], label[i], &f.err), &f.err);
        CHECK(distance(v, out + i * ELEMENTS, ELEMENTS) < 1e-5 * norm_of(out + i * ELEMENTS, ELEMENTS));
    }
    CHECK_OK(d2c_scorer_tokens(scorer, hidden, golden(&f, "x1"), 9, 1, &f.err), &f.err);
    CHECK(relative_error(&f, hidden, "tokens") < 1e-5);
    memset(hidden, 0, sizeof hidden);
    CHECK_OK(d2c_scorer_tokens(scorer, hidden, golden(&f, "x1"), 4, 0, &f.err), &f.err);
    CHECK(distance(hidden, golden(&f, "tokens"), 4 * 24) < 1e-5 * norm_of(hidden, 4 * 24));
    CHECK(hidden[4 * 24] == 0);
    d2c_scorer_close(scorer);
    fixture_close(&f);
}

/* A network with a text condition: the score of an image with a text beside its label. */
static void
check_prompt(const char *device)
{
    const int steps = 4, tokens = 4, width = 6;
    d2c_scorer *scorer = NULL;
    double score = 0, curve[4], expected[4];
    fixture f;
    int i;

    if (!fixture_open(&f, device, "attached", D2C_F32, 0))
        return;
    memcpy(expected, golden_tensor(&f, "difficulty")->data, sizeof expected);
    CHECK_OK(d2c_scorer_open_narrow(&scorer, f.sit, f.be, steps, 3, &f.err), &f.err);
    CHECK_OK(d2c_scorer_set_text(scorer, golden(&f, "class_text"), golden(&f, "class_mask"), &f.err), &f.err);
    CHECK_OK(d2c_scorer_run(scorer, &score, curve, golden(&f, "x"), LABEL, SEED, &f.err), &f.err);
    CHECK(fabs(curve[0] - expected[0]) > 1e-3 * expected[0]); /* another text, another score */
    CHECK_OK(d2c_scorer_set_text(scorer, golden(&f, "class_text") + 3 * tokens * width,
                                 golden(&f, "class_mask") + 3 * tokens, &f.err),
             &f.err);
    CHECK_OK(d2c_scorer_run(scorer, &score, curve, golden(&f, "x"), LABEL, SEED, &f.err), &f.err);
    for (i = 0; i < steps; i++)
        CHECK_NEAR(curve[i], expected[i], 2e-5 * expected[i]);
    d2c_scorer_close(scorer);
    fixture_close(&f);
}

static void
test_prompt(void)
{
    ON_EVERY_DEVICE(check_prompt);
}

static void
test_outputs(void)
{
    ON_EVERY_DEVICE(check_outputs);
}

/* ---- an end before the end ----------------------------------------------------------------------------------------- */

static int
stop_at_third(const void *asked)
{
    return ++*(int *)asked == 3;
}

static void
test_stop(void)
{
    d2c_scorer *scorer = NULL;
    double score, again;
    int asked = 0;
    fixture f;

    if (!fixture_open(&f, "cpu", "attached", D2C_F32, 0))
        return;
    CHECK_OK(d2c_scorer_open_narrow(&scorer, f.sit, f.be, 8, 2, &f.err), &f.err);
    CHECK_OK(d2c_scorer_set_text(scorer, golden(&f, "class_text"), golden(&f, "class_mask"), &f.err), &f.err);
    CHECK_OK(d2c_scorer_run(scorer, &score, NULL, golden(&f, "x"), LABEL, SEED, &f.err), &f.err);
    d2c_scorer_set_stop(scorer, stop_at_third, &asked);
    CHECK(d2c_scorer_run(scorer, &again, NULL, golden(&f, "x"), LABEL, SEED, &f.err) == D2C_CANCELLED &&
          asked == 3);
    CHECK_OK(d2c_scorer_run(scorer, &again, NULL, golden(&f, "x"), LABEL, SEED, &f.err), &f.err);
    CHECK(again == score && asked == 7);
    d2c_scorer_close(scorer);
    fixture_close(&f);
}

/* ---- independence ------------------------------------------------------------------------------------------------ */

/* One thread's work: a backend and a scorer of its own on the shared network, the images in a given order. */
typedef struct worker {
    pthread_t thread;
    const char *device;
    d2c_sit *sit;
    const float *x;
    int order[3];
    double score[3];
    d2c_status status;
} worker;

static d2c_status
score_in_order(worker *w, d2c_backend *be)
{
    d2c_scorer *scorer;
    d2c_status status = D2C_OK;
    double other;
    int i;

    D2C_TRY(d2c_scorer_open(&scorer, w->sit, be, 6, NULL));
    for (i = 0; i < 3 && status == D2C_OK; i++) {
        int image = w->order[i];

        /* Another seed in between: the kept noise must not leak. */
        status = d2c_scorer_run(scorer, &other, NULL, w->x, 0, 1000 + (uint64_t)i, NULL);
        if (status == D2C_OK)
            status =
                d2c_scorer_run(scorer, &w->score[image], NULL, w->x + image * ELEMENTS, image, SEED, NULL);
    }
    d2c_scorer_close(scorer);
    return status;
}

static void *
work(void *argument)
{
    worker *w = argument;
    d2c_backend *be = NULL;

    w->status = d2c_backend_open(&be, w->device, 1, NULL);
    if (w->status == D2C_OK)
        w->status = score_in_order(w, be);
    if (be != NULL)
        d2c_backend_close(be);
    return NULL;
}

/* Two threads score the same images at once in different order: the bits are the same. */
static void
check_precision(const char *device, d2c_dtype precision)
{
    worker w[2] = {{.device = device, .order = {0, 1, 2}}, {.device = device, .order = {2, 0, 1}}};
    fixture f;
    int i;

    if (!fixture_open(&f, device, "pixel", precision, 0))
        return;
    for (i = 0; i < 2; i++) {
        w[i].sit = f.sit;
        w[i].x = golden(&f, "x1");
        CHECK(pthread_create(&w[i].thread, NULL, work, &w[i]) == 0);
    }
    for (i = 0; i < 2; i++) {
        CHECK(pthread_join(w[i].thread, NULL) == 0);
        CHECK(w[i].status == D2C_OK);
    }
    CHECK(memcmp(w[0].score, w[1].score, sizeof w[0].score) == 0);
    CHECK(w[0].score[0] > 0 && w[0].score[0] != w[0].score[1]);
    fixture_close(&f);
}

static void
check_independence(const char *device)
{
    check_precision(device, D2C_F32);
    if (device_has_bf16(device))
        check_precision(device, D2C_BF16);
}

static void
test_independence(void)
{
    ON_EVERY_DEVICE(check_independence);
}

/* ---- wrong input --------------------------------------------------------------------------------------------------- */

static void
test_errors(void)
{
    d2c_scorer *scorer = NULL;
    float x[ELEMENTS] = {0}, out[9 * 24];
    double score = -1;
    fixture f;

    if (!fixture_open(&f, "reference", "pixel", D2C_F32, 0))
        return;
    CHECK(d2c_scorer_open(&scorer, f.sit, f.be, 0, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_open(&scorer, f.sit, f.be, 1001, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK_OK(d2c_scorer_open(&scorer, f.sit, f.be, 3, &f.err), &f.err);
    CHECK(d2c_scorer_run(scorer, &score, NULL, x, 4, 0, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(f.err.message, "label 4") != NULL && strstr(f.err.detail, "0 to 3") != NULL);
    CHECK(d2c_scorer_run(scorer, &score, NULL, x, -1, 0, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_run(scorer, &score, NULL, x, INT64_MAX, 0, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_denoise(scorer, out, x, 0.5, -2, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_denoise(scorer, out, x, NAN, 0, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_tokens(scorer, out, x, 10, 1, &f.err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_scorer_tokens(scorer, out, x, 9, 3, &f.err) == D2C_INVALID_ARGUMENT);
    x[7] = NAN;
    CHECK(d2c_scorer_run(scorer, &score, NULL, x, 1, 0, &f.err) == D2C_NOT_FINITE);
    CHECK(score == -1);
    x[7] = 0;
    CHECK_OK(d2c_scorer_run(scorer, &score, NULL, x, 1, 0, &f.err), &f.err);
    CHECK(score > 0);
    d2c_scorer_close(scorer);
    fixture_close(&f);
}

int
main(void)
{
    RUN(test_scores);
    RUN(test_prompt);
    RUN(test_stop);
    RUN(test_outputs);
    RUN(test_independence);
    RUN(test_errors);
    return check_report();
}
