/* test_dopri5.c: the adaptive solver against torchdiffeq's, one image at a time (golden/make_dopri5.py). */
#include "nn/sampler.h"

#include "sit_fixture.h"

#define ELEMENTS 256
static const uint64_t seeds[] = {5, (1ull << 40) + 3};
static const int64_t labels[] = {1, 2};

static void
check_golden(fixture *f, const d2c_safetensors *file, const d2c_sampler *setting, const char *name)
{
    static float x[2 * ELEMENTS], expected[2 * ELEMENTS];
    const d2c_st_tensor *tensor = d2c_safetensors_find(file, name);
    double error;

    CHECK(tensor != NULL);
    if (tensor == NULL)
        return;
    CHECK_OK(d2c_st_tensor_to_f32(expected, tensor, 2 * ELEMENTS, &f->err), &f->err);
    CHECK_OK(d2c_sample(x, f->sit, f->be, setting, 2, labels, seeds, 2, NULL, NULL, &f->err), &f->err);
    error = distance(x, expected, 2 * ELEMENTS) / norm_of(expected, 2 * ELEMENTS);
    if (!(error < 1e-5))
        fprintf(stderr, "%s: %s is off by %g\n", f->be->ops->name, name, error);
    CHECK(error < 1e-5);
}

static void
check_public(const char *device)
{
    const d2c_sampler plain = {D2C_SAMPLER_DOPRI5, 0, 1, 0, 1, 0, 0, 0};
    const d2c_sampler tight = {D2C_SAMPLER_DOPRI5, 0, 1, 0, 1, 0, 1e-7, 1e-5};
    const d2c_sit_hints hints = {.name = "last", .heads = 2};
    d2c_safetensors *file = NULL;
    fixture f;

    CHECK_OK(d2c_safetensors_open(&file, GOLDEN "/sit/dopri5.golden.safetensors", &f.err), &f.err);
    if (file == NULL)
        return;
    if (fixture_open(&f, device, "latent", D2C_F32, 0)) {
        check_golden(&f, file, &plain, "dopri5.linear");
        check_golden(&f, file, &tight, "dopri5.tight");
        f.sit->config.path = D2C_PATH_VP;
        check_golden(&f, file, &plain, "dopri5.vp");
        fixture_close(&f);
    }
    if (fixture_open_as(&f, device, "kinds/repa", &hints, D2C_F32, 0)) {
        check_golden(&f, file, &plain, "dopri5.repa");
        fixture_close(&f);
    }
    d2c_safetensors_close(file);
}

static void
test_public(void)
{
    ON_EVERY_DEVICE(check_public);
}

/* An image is the same bits whatever is sampled with it, and guided ones are the limit of many small steps. */
static void
test_guided(void)
{
    const d2c_sampler guided = {D2C_SAMPLER_DOPRI5, 0, 2.5f, 0, 1, 3, 1e-7, 1e-5};
    const d2c_sampler heun = {D2C_SAMPLER_HEUN, 300, 2.5f, 0, 1, 3, 0, 0};
    static float both[2 * ELEMENTS], alone[ELEMENTS], fine[2 * ELEMENTS];
    fixture f;

    if (!fixture_open(&f, "cpu", "latent", D2C_F32, 0))
        return;
    CHECK_OK(d2c_sample(both, f.sit, f.be, &guided, 2, labels, seeds, 2, NULL, NULL, &f.err), &f.err);
    CHECK_OK(d2c_sample(alone, f.sit, f.be, &guided, 1, labels + 1, seeds + 1, 1, NULL, NULL, &f.err),
             &f.err);
    CHECK(memcmp(both + ELEMENTS, alone, sizeof alone) == 0);
    CHECK_OK(d2c_sample(fine, f.sit, f.be, &heun, 2, labels, seeds, 2, NULL, NULL, &f.err), &f.err);
    CHECK(distance(both, fine, 2 * ELEMENTS) < 1e-4 * norm_of(fine, 2 * ELEMENTS));
    fixture_close(&f);
}

static void
test_errors(void)
{
    const d2c_sampler wrong = {D2C_SAMPLER_DOPRI5, 0, 1, 0, 1, 0, -1, 0};
    const d2c_sampler plain = {D2C_SAMPLER_DOPRI5, 0, 1, 0, 1, 0, 0, 0};
    static float x[ELEMENTS];
    const float nan = NAN;
    fixture f;

    if (!fixture_open(&f, "reference", "latent", D2C_F32, 0))
        return;
    CHECK(d2c_sample(x, f.sit, f.be, &wrong, 1, labels, seeds, 1, NULL, NULL, &f.err) ==
          D2C_INVALID_ARGUMENT);
    CHECK_OK(d2c_upload(f.be, f.sit->params.value, &nan, sizeof nan), &f.be->error);
    CHECK(d2c_sample(x, f.sit, f.be, &plain, 1, labels, seeds, 1, NULL, NULL, &f.err) == D2C_NOT_FINITE);
    fixture_close(&f);
}

int
main(void)
{
    RUN(test_public);
    RUN(test_guided);
    RUN(test_errors);
    return check_report();
}
