/*
 * test_ops_random.c: draws of every backend: the generator's own numbers, the same in every batch, with the moments of
 * their distribution.
 */
#include "base/philox.h"
#include "op_fixture.h"

#define SEED 0xFEDCBA9876543210u
#define EPOCH 3

static d2c_backend *be;

/* y [rows, count] = the draws for these ids. */
static void
draw_rows(float *y, const int64_t *id, int64_t rows, int64_t count)
{
    op_fixture f = {.be = be};
    int64_t epoch[8];
    d2c_tensor ids = op_given(&f, "id", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_I64, rows), id), epochs;
    d2c_tensor out = op_output(&f, "y", OP_SET, d2c_tensor2(OP_VIEW, D2C_F32, rows, count));

    for (int i = 0; i < 8; i++)
        epoch[i] = EPOCH;
    epochs = op_given(&f, "epoch", OP_INPUT, d2c_tensor1(OP_VIEW, D2C_I64, rows), epoch);
    CHECK_OK(d2c_draw_normal(be, out, SEED, ids, epochs, D2C_PURPOSE_NOISE), &be->error);
    CHECK_OK(d2c_download(be, y, out.data, (size_t)(rows * count) * sizeof *y), &be->error);
    op_release(&f);
}

/* A row's draws are the same alone, among others, elsewhere in the batch, and as part of a longer row. */
static void
test_rows(void)
{
    const int64_t id[5] = {7, -1, INT64_MAX, 0, 8}, turned[5] = {8, 0, INT64_MAX, -1, 7};
    float batch[5 * 21], other[5 * 21], alone[37];

    draw_rows(batch, id, 5, 21);
    draw_rows(other, turned, 5, 21);
    for (int row = 0; row < 5; row++) {
        draw_rows(alone, &id[row], 1, 37);
        CHECK(memcmp(alone, batch + row * 21, 21 * sizeof(float)) == 0);
        CHECK(memcmp(batch + row * 21, other + (4 - row) * 21, 21 * sizeof(float)) == 0);
        if (row > 0)
            CHECK(memcmp(batch + row * 21, batch, 21 * sizeof(float)) != 0);
    }
}

/* Element j is number j % 4 of the generator's block j / 4. */
static void
test_generator(void)
{
    const int64_t id = 0x123456789ABCDEF;
    float normal[10], four[4];

    draw_rows(normal, &id, 1, 10);
    for (uint32_t j = 0; j < 10; j++) {
        d2c_philox_normal4(four, d2c_philox(SEED, j / 4, (uint64_t)id, EPOCH * 256 + D2C_PURPOSE_NOISE));
        CHECK(normal[j] == four[j % 4]);
    }
}

/* First to fourth moments of 65,536 draws, to five of their standard errors; the draws are always the same ones. */
#define DRAWS 65536

static void
test_moments(void)
{
    /* E x^k, and the deviation of x^k: sqrt(E x^2k - (E x^k)^2) */
    const double wanted[4] = {0, 1, 0, 3}, deviation[4] = {1, sqrt(2), sqrt(15), sqrt(96)};
    static float y[DRAWS];
    const int64_t id = 1;
    double sum[4] = {0, 0, 0, 0};

    draw_rows(y, &id, 1, DRAWS);
    for (int i = 0; i < DRAWS; i++) {
        double power = 1;

        for (int k = 0; k < 4; k++)
            sum[k] += power *= y[i];
    }
    for (int k = 0; k < 4; k++)
        CHECK_NEAR(sum[k] / DRAWS, wanted[k], 5 * deviation[k] / sqrt(DRAWS));
}

/* Labels kept and dropped at the asked rate, kept and keep agreeing; never at 0, always at 1. */
static void
check_dropped(float probability)
{
    static int64_t id[4096], label[4096], zero[4096], kept[4096];
    static float keep[4096];
    const int64_t rows = 4096;
    d2c_tensor view = d2c_tensor1(OP_VIEW, D2C_I64, rows);
    op_fixture f = {.be = be};
    int64_t dropped = 0;
    d2c_tensor kept_at, keep_at, label_at, id_at, epoch_at;

    for (int64_t i = 0; i < rows; i++) {
        id[i] = 1000 + i;
        label[i] = i % 10;
    }
    kept_at = op_output(&f, "kept", OP_SET, view);
    keep_at = op_output(&f, "keep", OP_SET, d2c_tensor1(OP_VIEW, D2C_F32, rows));
    label_at = op_given(&f, "label", OP_INPUT, view, label);
    id_at = op_given(&f, "id", OP_INPUT, view, id);
    epoch_at = op_given(&f, "epoch", OP_INPUT, view, zero);
    CHECK_OK(d2c_drop_labels(be, kept_at, keep_at, label_at, SEED, id_at, epoch_at, probability, 10),
             &be->error);
    CHECK_OK(d2c_download(be, kept, kept_at.data, sizeof kept), &be->error);
    CHECK_OK(d2c_download(be, keep, keep_at.data, sizeof keep), &be->error);
    for (int64_t i = 0; i < rows; i++) {
        dropped += kept[i] == 10;
        CHECK(kept[i] == (keep[i] == 1 ? label[i] : 10) && (keep[i] == 0 || keep[i] == 1));
    }
    CHECK_NEAR((double)dropped / rows, probability, 5 * sqrt(probability * (1 - probability) / rows));
    op_release(&f);
}

static void
test_drop_labels(void)
{
    check_dropped(0);
    check_dropped(0.1f);
    check_dropped(0.5f);
    check_dropped(1);
}

static void
run_all(const char *device)
{
    d2c_error err;
    d2c_status status = d2c_backend_open(&be, device, 2, &err);

    if (status == D2C_UNSUPPORTED) {
        printf("# %s: %s\n", device, err.message);
        return;
    }
    CHECK_OK(status, &err);
    RUN(test_rows);
    RUN(test_generator);
    RUN(test_moments);
    RUN(test_drop_labels);
    d2c_backend_close(be);
}

int
main(void)
{
    run_all("reference");
    run_all("cpu");
    run_all("cuda");
    return check_report();
}
