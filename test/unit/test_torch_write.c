/* test_torch_write.c: the writer of PyTorch archives, by our reader and by what torch.load made of the same bytes. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "nn/torch_write.h"
#include "nn/weights.h"

static char folder[64];

static const float matrix[6] = {1, -2, 3.5f, 0, 1e-30f, -7};
static const uint16_t half[2] = {0x3c00, 0xc000};
static const int64_t step[1] = {INT64_MIN + 1};
static float wide[300];

static const d2c_st_item items[] = {
    {"a.weight", D2C_ST_F32, 2, {2, 3}, matrix},
    {"h", D2C_ST_F16, 1, {2}, half},
    {"b", D2C_ST_BF16, 1, {2}, half},
    {"step", D2C_ST_I64, 0, {0}, step},
    {"empty", D2C_ST_F32, 2, {0, 4}, matrix},
    {"wide", D2C_ST_F32, 3, {300, 1, 1}, wide},
};
#define ITEMS ((int)(sizeof items / sizeof items[0]))

static void
check_file(const char *path, const char *prefix)
{
    d2c_weights *weights = NULL;
    char name[64];
    d2c_error err;
    int i, d;

    CHECK_OK(d2c_weights_open(&weights, path, &err), &err);
    if (weights == NULL)
        return;
    CHECK(d2c_weights_count(weights) == ITEMS);
    for (i = 0; i < ITEMS; i++) {
        const d2c_st_tensor *t;

        snprintf(name, sizeof name, "%s%s", prefix, items[i].name);
        t = d2c_weights_find(weights, name);
        CHECK(t != NULL && t->dtype == items[i].dtype && t->ndim == items[i].ndim);
        if (t == NULL)
            continue;
        for (d = 0; d < t->ndim; d++)
            CHECK(t->dim[d] == items[i].dim[d]);
        CHECK(t->bytes == 0 || memcmp(t->data, items[i].data, t->bytes) == 0);
        CHECK(t->bytes == 0 || (uintptr_t)t->data % 64 == 0);
    }
    d2c_weights_close(weights);
}

static void
comes_back(void)
{
    char path[96];
    d2c_error err;

    snprintf(path, sizeof path, "%s/flat.pt", folder);
    CHECK_OK(d2c_torch_write(path, items, ITEMS, NULL, &err), &err);
    check_file(path, "");
    CHECK_OK(d2c_torch_write(path, items, ITEMS, "ema", &err), &err);
    check_file(path, "ema.");
    unlink(path);
}

/* golden/check_torch_write.py says what torch.load made of these very bytes. */
static void
is_what_torch_read(void)
{
    char path[96], ours[65], theirs[65];
    d2c_error err;

    snprintf(path, sizeof path, "%s/golden.pt", folder);
    CHECK_OK(d2c_torch_write(path, items, ITEMS, "ema", &err), &err);
    CHECK_OK(d2c_file_sha256(ours, path, &err), &err);
    CHECK_OK(d2c_file_sha256(theirs, GOLDEN "/torch/written.pt", &err), &err);
    CHECK(strcmp(ours, theirs) == 0);
    unlink(path);
}

static void
refusals(void)
{
    const d2c_st_item flag = {"flag", D2C_ST_BOOL, 1, {1}, matrix};
    const d2c_st_item large = {"large", D2C_ST_F32, 2, {INT64_MAX, 8}, matrix};
    char path[96];
    d2c_error err;

    snprintf(path, sizeof path, "%s/none.pt", folder);
    CHECK(d2c_torch_write(path, &flag, 1, NULL, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_torch_write(path, &large, 1, NULL, &err) == D2C_TOO_LARGE);
    CHECK(access(path, F_OK) != 0);
    CHECK(d2c_torch_write("/dev/full/none.pt", items, ITEMS, NULL, &err) != D2C_OK);
}

/* With an argument, writes the golden there. */
int
main(int argc, char **argv)
{
    d2c_error err;
    int i;

    for (i = 0; i < 300; i++)
        wide[i] = (float)i / 3;
    if (argc == 2)
        return d2c_torch_write(argv[1], items, ITEMS, "ema", &err) != D2C_OK;
    snprintf(folder, sizeof folder, "/tmp/d2c-torch-write-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    RUN(comes_back);
    RUN(is_what_torch_read);
    RUN(refusals);
    rmdir(folder);
    return check_report();
}
