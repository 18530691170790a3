/* test_sampler.c: trajectories against the public samplers with the same noise; images independent of their batch. */
#include "nn/sampler.h"

#include "sit_fixture.h"

#define ELEMENTS 256
static const uint64_t seeds[] = {5, (1ull << 40) + 3}; /* the fixture's */

static void
check_sample(fixture *f, const d2c_sampler *setting, const char *name, double bound)
{
    const int64_t labels[] = {1, 2};
    float x[2 * ELEMENTS];
    double error;

    CHECK_OK(d2c_sample(x, f->sit, f->be, setting, 2, labels, seeds, 2, NULL, NULL, &f->err), &f->err);
    error = relative_error(f, x, name);
    if (!(error < bound))
        fprintf(stderr, "%s: %s is off by %g\n", f->be->ops->name, name, error);
    CHECK(error < bound);
}

static void
check_public(const char *device)
{
    const d2c_sampler euler = {D2C_SAMPLER_EULER, 4, 1, 0, 1, 0, 0, 0},
                      heun = {D2C_SAMPLER_HEUN, 4, 1, 0, 1, 0, 0, 0};
    const d2c_sampler guided = {D2C_SAMPLER_EULER, 4, 2.5f, 0, 1, 3, 0, 0},
                      sde = {D2C_SAMPLER_SDE, 6, 1, 0, 1, 0, 0, 0};
    const d2c_sampler interval = {D2C_SAMPLER_HEUN, 4, 2.5f, 0.3f, 0.8f, 0, 0, 0};
    fixture f;

    if (!fixture_open(&f, device, "latent", D2C_F32, 0))
        return;
    check_sample(&f, &euler, "sample.euler", 1e-5);
    check_sample(&f, &heun, "sample.heun", 1e-5);
    check_sample(&f, &guided, "sample.guided", 1e-5);
    check_sample(&f, &interval, "sample.interval", 1e-5);
    check_sample(&f, &sde, "sample.sde.linear", 1e-5);
    f.sit->config.path = D2C_PATH_GVP;
    check_sample(&f, &sde, "sample.sde.gvp", 1e-5);
    f.sit->config.path = D2C_PATH_VP;
    check_sample(&f, &sde, "sample.sde.vp", 1e-5);
    check_sample(&f, &euler, "sample.vp", 1e-5);
    fixture_close(&f);
}

static void
test_public(void)
{
    ON_EVERY_DEVICE(check_public);
}

/* The same image alone, with others and in another place; bit for bit when it is sampled alone. */
static void
check_independence(const char *device)
{
    const d2c_sampler sde = {D2C_SAMPLER_SDE, 3, 2, 0, 1, 0, 0, 0};
    const int64_t labels[] = {1, 2, 3}, turned[] = {3, 1, 2};
    const uint64_t seed[] = {10, 20, 30}, turned_seed[] = {30, 10, 20};
    static float together[3 * ELEMENTS], alone[3 * ELEMENTS], other[3 * ELEMENTS];
    fixture f;

    if (!fixture_open(&f, device, "latent", D2C_F32, 0))
        return;
    CHECK_OK(d2c_sample(together, f.sit, f.be, &sde, 3, labels, seed, 2, NULL, NULL, &f.err), &f.err);
    CHECK_OK(d2c_sample(alone, f.sit, f.be, &sde, 3, labels, seed, 1, NULL, NULL, &f.err), &f.err);
    CHECK_OK(d2c_sample(other, f.sit, f.be, &sde, 3, turned, turned_seed, 1, NULL, NULL, &f.err), &f.err);
    CHECK(memcmp(alone, other + ELEMENTS, 2 * ELEMENTS * sizeof *alone) == 0);
    CHECK(memcmp(alone + 2 * ELEMENTS, other, ELEMENTS * sizeof *alone) == 0);
    CHECK(distance(alone, together, 3 * ELEMENTS) < 1e-5 * norm_of(alone, 3 * ELEMENTS));
    CHECK(distance(alone, alone + ELEMENTS, ELEMENTS) > 0.1 * norm_of(alone, ELEMENTS));
    fixture_close(&f);
}

static void
test_independence(void)
{
    ON_EVERY_DEVICE(check_independence);
}

/* Counts the calls; says stop at the number in *closure's second element. */
static int
count_calls(void *closure, int done)
{
    int *calls = closure;

    calls[0]++;
    calls[2] = done;
    return calls[0] == calls[1];
}

static void
test_progress(void)
{
    const d2c_sampler euler = {D2C_SAMPLER_EULER, 1, 1, 0, 1, 0, 0, 0};
    const int64_t labels[5] = {0};
    const uint64_t seed[5] = {1, 2, 3, 4, 5};
    static float x[5 * ELEMENTS];
    int calls[3] = {0, -1, 0};
    fixture f;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 0))
        return;
    CHECK_OK(d2c_sample(x, f.sit, f.be, &euler, 5, labels, seed, 2, count_calls, calls, &f.err), &f.err);
    CHECK(calls[0] == 3 && calls[2] == 5);
    calls[0] = 0;
    calls[1] = 2;
    CHECK(d2c_sample(x, f.sit, f.be, &euler, 5, labels, seed, 2, count_calls, calls, &f.err) ==
          D2C_CANCELLED);
    CHECK(calls[0] == 2 && calls[2] == 4);
    CHECK_OK(d2c_sample(x, f.sit, f.be, &euler, 0, labels, seed, 2, NULL, NULL, &f.err), &f.err);
    fixture_close(&f);
}

static void
test_errors(void)
{
    const d2c_sampler wrong[] = {
        {D2C_SAMPLER_EULER, 0, 1, 0, 1, 0, 0, 0},   {D2C_SAMPLER_SDE, 1, 1, 0, 1, 0, 0, 0},
        {D2C_SAMPLER_EULER, 4, NAN, 0, 1, 0, 0, 0}, {D2C_SAMPLER_EULER, 4, 1.5f, 0, 1, 5, 0, 0},
        {(d2c_sampler_kind)9, 4, 1, 0, 1, 0, 0, 0},
    };
    const d2c_sampler fine = {D2C_SAMPLER_EULER, 2, 1, 0, 1, 0, 0, 0},
                      guided = {D2C_SAMPLER_EULER, 2, 2, 0, 1, 0, 0, 0};
    const int64_t label = 1, outside = 6;
    static float x[ELEMENTS];
    const float nan = NAN;
    size_t i;
    fixture f;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 0))
        return;
    for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        CHECK(d2c_sample(x, f.sit, f.be, &wrong[i], 1, &label, seeds, 1, NULL, NULL, &f.err) ==
              D2C_INVALID_ARGUMENT);
    CHECK(d2c_sample(x, f.sit, f.be, &fine, 1, &outside, seeds, 1, NULL, NULL, &f.err) ==
          D2C_INVALID_ARGUMENT);
    CHECK(strstr(f.err.message, "label 6") != NULL);
    CHECK(d2c_sample(x, f.sit, f.be, &fine, 1, &label, seeds, 0, NULL, NULL, &f.err) == D2C_INVALID_ARGUMENT);
    f.sit->config.null_class = 0;
    CHECK(d2c_sample(x, f.sit, f.be, &guided, 1, &label, seeds, 1, NULL, NULL, &f.err) ==
          D2C_INVALID_ARGUMENT);
    f.sit->config.null_class = 1;
    CHECK_OK(d2c_upload(f.be, f.sit->params.value, &nan, sizeof nan), &f.be->error);
    CHECK(d2c_sample(x, f.sit, f.be, &fine, 1, &label, seeds, 1, NULL, NULL, &f.err) == D2C_NOT_FINITE);
    fixture_close(&f);
}

int
main(void)
{
    RUN(test_public);
    RUN(test_independence);
    RUN(test_progress);
    RUN(test_errors);
    return check_report();
}
