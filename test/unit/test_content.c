/* test_content.c: the rows' hashes: what is noticed, what is named; and when a loss has exploded. */
#include <math.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"
#include "train/content.h"
#include "train/divergence.h"

#define ROWS 3000

/* A row as COPY gives it: id, label, four values of which the last may be missing. */
typedef struct made_row {
    char id[16], value[4][16];
    uint8_t label[8];
    uint8_t hash[4][SHA256_DIGEST_LENGTH];
    d2c_field field[6], part[4];
} made_row;

static void
make_row(made_row *row, int i, int with_visual)
{
    int p;

    memset(row, 0, sizeof *row);
    snprintf(row->id, sizeof row->id, i % 2 ? "%d" : "row %d", i);
    row->label[7] = (uint8_t)(i % 7);
    row->field[0] = (d2c_field){(const uint8_t *)row->id, (int32_t)strlen(row->id)};
    row->field[1] = (d2c_field){row->label, 8};
    for (p = 0; p < 4; p++) {
        snprintf(row->value[p], sizeof row->value[p], "%d of %d", p, i);
        row->field[2 + p] = (d2c_field){(const uint8_t *)row->value[p], (int32_t)strlen(row->value[p])};
        if (p == 3 && !with_visual)
            row->field[2 + p] = (d2c_field){NULL, -1};
        SHA256(row->field[2 + p].data, (size_t)(row->field[2 + p].length > 0 ? row->field[2 + p].length : 0),
               row->hash[p]);
        row->part[p] = (d2c_field){row->hash[p], row->field[2 + p].length < 0 ? -1 : D2C_CONTENT_HASH_BYTES};
    }
}

/* All rows; a change of part p of row `changed` where it is not negative. */
static d2c_content *
make_content(char **json, int changed, int p)
{
    d2c_content *content;
    d2c_error err;
    made_row row;
    int i;

    CHECK_OK(d2c_content_create(&content, &err), &err);
    for (i = 0; i < ROWS; i++) {
        make_row(&row, i, 0);
        if (i == changed)
            row.hash[p][0] ^= 1;
        CHECK_OK(d2c_content_add(content, row.id, i % 7, row.part, &err), &err);
    }
    CHECK_OK(d2c_content_finish(content, json, &err), &err);
    return content;
}

static void
digests_differ_by_part(void)
{
    static const char *const name[] = {"image", "text embedding", "text mask"};
    char *json, *other, names[64];
    int p;

    d2c_content_free(make_content(&json, -1, 0));
    CHECK(strstr(json, "visual") == NULL);
    for (p = 0; p < 3; p++) {
        d2c_content_free(make_content(&other, 17 + p, p));
        d2c_content_differences(names, sizeof names, json, other, "image");
        CHECK(strcmp(names, name[p]) == 0);
        free(other);
    }
    d2c_content_differences(names, sizeof names, json, json, "image");
    CHECK(names[0] == '\0');
    d2c_content_differences(names, sizeof names, json, "{}", "image");
    CHECK(strcmp(names, "image, text embedding, text mask") == 0);
    d2c_content_differences(names, sizeof names, json, "damaged", "latent");
    CHECK(strcmp(names, "latent, text embedding, text mask") == 0);
    free(json);
}

static void
first_change_is_found(void)
{
    static const char name[] = "0123456789012345678901234567890123456789012345678901234567890123";
    static const char another[] = "1123456789012345678901234567890123456789012345678901234567890123";
    char path[64], *json;
    d2c_content *content = make_content(&json, -1, 0);
    d2c_error err;
    int i;

    snprintf(path, sizeof path, "/tmp/d2c-test-content-%d", (int)getpid());
    CHECK_OK(d2c_content_save(content, path, name, &err), &err);
    CHECK(d2c_content_first_change(content, path, name) == -1);
    d2c_content_free(content);
    free(json);
    for (i = 0; i < ROWS; i += 1499) {
        content = make_content(&json, i, 1);
        CHECK(d2c_content_first_change(content, path, name) == i);
        CHECK(d2c_content_first_change(content, path, another) == -1);
        CHECK(d2c_content_first_change(content, "/nowhere", name) == -1);
        d2c_content_free(content);
        free(json);
        content = make_content(&json, -1, 0);
        CHECK_OK(d2c_content_save(content, path, name, &err), &err);
        d2c_content_free(content);
        free(json);
    }
    unlink(path);
}

static void
rows_are_checked(void)
{
    char *json;
    d2c_content *content = make_content(&json, -1, 0);
    d2c_error err;
    made_row row;
    int i, p;

    d2c_content_seal(content, 1);
    for (i = 0; i < ROWS; i += 7) {
        make_row(&row, i, 0);
        CHECK_OK(d2c_content_check(content, row.field, &err), &err);
        for (p = 0; p < 3; p++) {
            row.value[p][0] ^= 1;
            CHECK(d2c_content_check(content, row.field, &err) == D2C_BAD_DATA);
            CHECK(strstr(err.message, row.id) != NULL && strstr(err.message, "has changed") != NULL);
            row.value[p][0] ^= 1;
        }
        row.label[7] ^= 1;
        CHECK(d2c_content_check(content, row.field, &err) == D2C_BAD_DATA);
        make_row(&row, i, 1);
        CHECK(d2c_content_check(content, row.field, &err) == D2C_BAD_DATA);
    }
    make_row(&row, ROWS + 1, 0);
    CHECK(d2c_content_check(content, row.field, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "was not there") != NULL);
    d2c_content_seal(content, 0);
    CHECK(d2c_content_check(content, row.field, &err) == D2C_OK);
    CHECK(d2c_content_check(NULL, row.field, &err) == D2C_OK);
    d2c_content_free(content);
    free(json);
}

/* Feeds the same loss some times; how many were taken before the end. */
static int
feed(d2c_divergence *divergence, double loss, int times)
{
    int i;

    for (i = 0; i < times; i++)
        if (d2c_divergence_put(divergence, loss, 10))
            return i;
    return times;
}

static void
losses_explode(void)
{
    d2c_divergence d = {0};

    CHECK(feed(&d, 1.5, 200) == 200);
    CHECK(feed(&d, 0.1, 1000) == 1000);
    CHECK_NEAR(d.mean, 0.1, 1e-3);
    CHECK(feed(&d, 2, D2C_DIVERGENCE_STEPS - 1) == D2C_DIVERGENCE_STEPS - 1);
    CHECK(d.above == D2C_DIVERGENCE_STEPS - 1);
    CHECK(feed(&d, 0.9, 1) == 1 && d.above == 0);
    CHECK(feed(&d, 2, 100) == D2C_DIVERGENCE_STEPS - 1);
    CHECK(d.mean < 0.12);
    CHECK(d2c_divergence_put(&d, D2C_LOSS_LIMIT, 10) == 1);
    CHECK(d2c_divergence_put(&d, NAN, 10) == 1);
    d = (d2c_divergence){0};
    CHECK(d2c_divergence_put(&d, 900, 10) == 0);
    CHECK(d2c_divergence_put(&d, 0.001, 0) == 0);
    CHECK(d2c_divergence_put(&d, 900, 0) == 0 && d.above == 0);
}

int
main(void)
{
    RUN(digests_differ_by_part);
    RUN(first_change_is_found);
    RUN(rows_are_checked);
    RUN(losses_explode);
    return check_report();
}
