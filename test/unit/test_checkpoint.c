/* test_checkpoint.c: a run's state into a file and back, what does not fit it, and which files are kept. */
#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "scratch_folder.h"
#include "train/checkpoint.h"

static const d2c_checkpoint_facts facts = {"{\"rows\":12,\"model\":{\"depth\":1},\"table_digest\":\"abc\"}",
                                           "{\"threads\":1,\"micro_batch\":4,\"arithmetic\":\"a\"}",
                                           "12x8: 3\n",
                                           "{\"image\":\"def\"}",
                                           NULL,
                                           "{\"name\":\"ten\"}"};

static void
open_network(d2c_sit **sit, d2c_backend **be, int hidden)
{
    d2c_sit_config config = {.depth = 1,
                             .hidden = hidden,
                             .heads = 2,
                             .patch = 2,
                             .channels = 1,
                             .out_channels = 1,
                             .height = 4,
                             .width = 4,
                             .classes = 2,
                             .null_class = 1};
    d2c_error err;

    CHECK_OK(d2c_backend_open(be, "reference", 1, &err), &err);
    CHECK_OK(d2c_sit_create(sit, *be, &config, D2C_F32, 1, &err), &err);
    CHECK_OK(d2c_sit_initialize(*sit, *be, 3, &err), &err);
}

static void
close_network(d2c_sit *sit, d2c_backend *be)
{
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
}

/* Sets every parameter of a range to what its place and the salt say. */
static void
mark(const d2c_params *params, float *range, float salt)
{
    int64_t i;
    int p;

    for (p = 0; p < params->count; p++)
        for (i = 0; i < params->item[p].count; i++)
            range[params->item[p].offset + i] = salt + (float)i / 64;
}

static void
save(const char *path, const d2c_position *position)
{
    d2c_sit *sit;
    d2c_backend *be;
    d2c_error err;

    open_network(&sit, &be, 8);
    mark(&sit->params, sit->params.value, 1);
    mark(&sit->params, sit->params.ema, 2);
    mark(&sit->params, sit->params.m, 3);
    mark(&sit->params, sit->params.v, 4);
    CHECK_OK(d2c_checkpoint_save(path, sit, be, position, &facts, NULL, &err), &err);
    close_network(sit, be);
}

static d2c_status
load(const char *path, int hidden, const d2c_checkpoint_facts *wanted, d2c_position *position,
     char difference[128], d2c_error *err)
{
    d2c_sit *sit;
    d2c_backend *be;
    d2c_status status;

    open_network(&sit, &be, hidden);
    difference[0] = '\0';
    status = d2c_checkpoint_load(path, sit, be, position, wanted, difference, 128, err);
    if (status == D2C_OK) {
        const d2c_param *last = &sit->params.item[sit->params.count - 1];

        CHECK(sit->params.value[0] == 1 && sit->params.ema[1] == 2 + 1.0f / 64);
        CHECK(sit->params.m[2] == 3 + 2.0f / 64 && sit->params.v[last->offset] == 4);
    }
    close_network(sit, be);
    return status;
}

static void
comes_back(void)
{
    d2c_position position = {.step = 7,
                             .epoch = 2,
                             .row = 5,
                             .loss_sum = 0.1,
                             .denoise_sum = 1e-300,
                             .projection_sum = -1.0 / 3,
                             .loss_count = 4,
                             .mixed_texts = 1,
                             .divergence = {0.1, 3}};
    d2c_position back;
    char path[96], again[96], difference[128], first[65], second[65];
    d2c_error err;

    memset(&back, 0, sizeof back);
    d2c_order_key_of(&position.last, "x", 1, 2);
    snprintf(path, sizeof path, "%s/a", folder);
    snprintf(again, sizeof again, "%s/b", folder);
    save(path, &position);
    save(again, &position);
    CHECK_OK(d2c_file_sha256(first, path, &err), &err);
    CHECK_OK(d2c_file_sha256(second, again, &err), &err);
    CHECK(strcmp(first, second) == 0);
    CHECK_OK(load(path, 8, &facts, &back, difference, &err), &err);
    CHECK(back.step == 7 && back.epoch == 2 && back.row == 5 && back.loss_count == 4 &&
          back.mixed_texts == 1);
    CHECK(back.loss_sum == 0.1 && back.denoise_sum == 1e-300 && back.projection_sum == -1.0 / 3);
    CHECK(back.divergence.mean == 0.1 && back.divergence.above == 3);
    CHECK(memcmp(&back.last, &position.last, sizeof back.last) == 0);
    CHECK(difference[0] == '\0');
}

static void
differences(void)
{
    const d2c_checkpoint_facts rows = {.required = "{\"rows\":13,\"model\":{\"depth\":1}}",
                                       .exact = facts.exact};
    const d2c_checkpoint_facts more = {.required = "{\"rows\":12,\"model\":{\"depth\":1},\"seed\":\"1\"}",
                                       .exact = facts.exact};
    const d2c_checkpoint_facts threads = {.required = "{\"rows\":12,\"model\":{\"depth\":1}}",
                                          .exact = "{\"threads\":2}"};
    /* a checkpoint that says nothing of them had uniform times, its own weights and AdamW */
    const d2c_checkpoint_facts usual = {.required =
                                            "{\"rows\":12,\"time_sampling\":\"uniform\",\"init\":\"\"}",
                                        .exact = "{\"threads\":1,\"optimizer\":\"adamw\"}"};
    const d2c_checkpoint_facts other = {.required = "{\"rows\":12,\"time_sampling\":\"lognormal\"}",
                                        .exact = facts.exact};
    d2c_position position = {.step = 1}, back;
    char path[96], difference[128];
    d2c_error err;

    snprintf(path, sizeof path, "%s/a", folder);
    save(path, &position);
    CHECK_OK(load(path, 8, &usual, &back, difference, &err), &err);
    CHECK(difference[0] == '\0');
    CHECK(load(path, 8, &other, &back, difference, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.detail, "time_sampling: now \"lognormal\", in the checkpoint \"uniform\".") == 0);
    CHECK(load(path, 8, &rows, &back, difference, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.detail, "rows: now 13, in the checkpoint 12.") == 0);
    CHECK(load(path, 8, &more, &back, difference, &err) == D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.detail, "seed: now \"1\", in the checkpoint not given.") == 0);
    CHECK_OK(load(path, 8, &threads, &back, difference, &err), &err);
    CHECK(strcmp(difference, "threads: now 2, in the checkpoint 1") == 0);
    CHECK(load(path, 16, &facts, &back, difference, &err) == D2C_BAD_MODEL);
}

/* What is known before the weights are read: of a file with these facts, and of one without. */
static void
head(void)
{
    const d2c_checkpoint_facts bare = {.required = "{}", .exact = "{}"};
    d2c_position position = {.step = 7};
    d2c_checkpoint_head found;
    d2c_sit *sit;
    d2c_backend *be;
    char path[96];
    d2c_error err;

    snprintf(path, sizeof path, "%s/a", folder);
    save(path, &position);
    CHECK_OK(d2c_checkpoint_peek(&found, path, &err), &err);
    CHECK(found.step == 7 && found.micro_batch == 4 && strcmp(found.arithmetic, "a") == 0);
    CHECK(strcmp(found.choices, "12x8: 3\n") == 0);
    CHECK(strcmp(found.content, "{\"image\":\"def\"}") == 0 && strcmp(found.table_digest, "abc") == 0);
    free(found.choices);
    free(found.content);
    open_network(&sit, &be, 8);
    CHECK_OK(d2c_checkpoint_save(path, sit, be, &position, &bare, NULL, &err), &err);
    close_network(sit, be);
    CHECK_OK(d2c_checkpoint_peek(&found, path, &err), &err);
    CHECK(found.micro_batch == 0 && found.arithmetic[0] == '\0' && found.choices[0] == '\0');
    CHECK(found.content[0] == '\0' && found.table_digest[0] == '\0');
    free(found.choices);
    free(found.content);
    CHECK(d2c_checkpoint_peek(&found, "/nonexistent", &err) == D2C_NOT_FOUND && found.choices == NULL);
}

/* Any length of the file but the whole one is refused; so is a file of another kind. */
static void
damage(void)
{
    d2c_position position = {.step = 1}, back;
    char path[96], cut[96], difference[128];
    uint8_t *bytes;
    size_t length, kept;
    d2c_error err;

    snprintf(path, sizeof path, "%s/a", folder);
    snprintf(cut, sizeof cut, "%s/cut", folder);
    save(path, &position);
    CHECK_OK(d2c_file_read(&bytes, &length, path, 1 << 30, &err), &err);
    for (kept = 0; kept < length; kept += 997) {
        CHECK_OK(d2c_file_write(cut, bytes, kept, &err), &err);
        CHECK(load(cut, 8, &facts, &back, difference, &err) != D2C_OK);
    }
    free(bytes);
    CHECK_OK(d2c_safetensors_write(cut, NULL, 0, NULL, 0, &err), &err);
    CHECK(load(cut, 8, &facts, &back, difference, &err) == D2C_BAD_MODEL);
    CHECK(strstr(err.message, "is not a checkpoint of d2c train: it has no position") != NULL);
    unlink(cut);
}

static void
newest_ones_are_kept(void)
{
    static const int64_t steps[] = {5, 40, 300, 12345678};
    char path[128], other[128];
    d2c_error err;
    size_t i;

    CHECK(d2c_checkpoint_latest("/nonexistent") == -1);
    CHECK(d2c_checkpoint_latest(folder) == -1);
    for (i = 0; i < 4; i++) {
        d2c_checkpoint_path(path, sizeof path, folder, steps[i]);
        CHECK_OK(d2c_file_write(path, "x", 1, &err), &err);
    }
    snprintf(path, sizeof path, "%s/0000999.safetensors.tmp", folder);
    CHECK_OK(d2c_file_write(path, "x", 1, &err), &err);
    CHECK(d2c_checkpoint_latest(folder) == 12345678);
    snprintf(other, sizeof other, "%s/x0000999.safetensors.tmp", folder);
    CHECK_OK(d2c_file_write(other, "x", 1, &err), &err);
    d2c_checkpoint_clean(folder);
    CHECK(access(path, F_OK) != 0);
    CHECK(access(other, F_OK) == 0);
    d2c_checkpoint_prune(folder, 0);
    d2c_checkpoint_path(path, sizeof path, folder, 5);
    CHECK(access(path, F_OK) == 0);
    d2c_checkpoint_prune(folder, 2);
    CHECK(access(path, F_OK) != 0);
    d2c_checkpoint_path(path, sizeof path, folder, 300);
    CHECK(access(path, F_OK) == 0);
    CHECK(d2c_checkpoint_latest(folder) == 12345678);
}

int
main(void)
{
    if (!make_folder())
        return 1;
    RUN(newest_ones_are_kept);
    RUN(comes_back);
    RUN(differences);
    RUN(head);
    RUN(damage);
    remove_folder();
    return check_report();
}
