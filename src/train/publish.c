/* publish.c: the EMA weights as a plain class-conditional SiT, which the public code loads and SQL uses by name. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "nn/model_files.h"
#include "train/run.h"

const char *
d2c_publish_obstacle(const d2c_train *train)
{
    if (train->position.mixed_texts)
        return "the rows of a class do not share one text, so it cannot be folded into the label table";
    return NULL;
}

d2c_status
d2c_train_label_table(d2c_train *train, float **table, const float *range, d2c_error *err)
{
    size_t rows = (size_t)train->config.classes + 1;
    d2c_status status;

    *table = NULL;
    if (train->class_text == NULL)
        return D2C_OK;
    *table = malloc(rows * (size_t)train->config.hidden * sizeof(float));
    if (*table == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status =
        d2c_sit_fold_text(*table, train->sit, train->be, range, train->class_text, train->class_mask, err);
    if (status != D2C_OK) {
        free(*table);
        *table = NULL;
    }
    return status;
}

d2c_status
d2c_publish_network(d2c_train *train, d2c_sit **plain, d2c_error *err)
{
    float *table;
    d2c_status status;

    D2C_TRY(d2c_train_label_table(train, &table, train->sit->params.ema, err));
    status = d2c_sit_plain(plain, train->sit, train->be, train->sit->params.ema, table, err);
    free(table);
    return status;
}

/* The path of NAME.json beside NAME.safetensors. */
static void
description_path(char *description, size_t size, const char *path)
{
    snprintf(description, size, "%.*s.json", (int)d2c_model_file_name(path), path);
}

static d2c_status
save(d2c_train *train, const char *path, d2c_error *err)
{
    char step[32], description[D2C_RUN_PATH + 160];
    d2c_st_pair metadata[] = {
        {"d2c.step", step}, {"d2c.table_digest", train->table->digest}, {"d2c.build", train->setting->build}};
    float *table;
    d2c_status status;

    snprintf(step, sizeof step, "%" PRId64, train->position.step);
    description_path(description, sizeof description, path);
    D2C_TRY(d2c_train_label_table(train, &table, train->sit->params.ema, err));
    status = d2c_sit_save_plain(path, train->sit, train->be, train->sit->params.ema, table, metadata, 3, err);
    free(table);
    return status == D2C_OK ? d2c_latents_describe(train, description, err) : status;
}

/* The description of a model that is replaced does not hold for its successor; one that has its own overwrites it. */
static d2c_status
forget_description(const d2c_train *train, const char *path, d2c_error *err)
{
    char description[D2C_RUN_PATH + 160];

    description_path(description, sizeof description, path);
    if (train->setting->vae != NULL || access(description, F_OK) != 0)
        return D2C_OK;
    if (unlink(description) != 0)
        return d2c_fail(err, D2C_IO, "could not remove file \"%s\": %m", description);
    d2c_notice(train, "removed \"%s\", the description of the model that is replaced", description);
    return D2C_OK;
}

/* A model's file is pinned by its sha256: another content under the same name is refused unless that is wanted. */
static d2c_status
save_by_name(d2c_train *train, const char *source, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    char path[D2C_RUN_PATH + 160], ours[65], theirs[65];

    snprintf(path, sizeof path, "%s/%s.safetensors", setting->model_directory, setting->name);
    if (access(path, F_OK) == 0 && !setting->replace) {
        D2C_TRY(d2c_file_sha256(ours, source, err));
        D2C_TRY(d2c_file_sha256(theirs, path, err));
        if (strcmp(ours, theirs) == 0)
            return D2C_OK;
        d2c_fail(err, D2C_INVALID_ARGUMENT, "model \"%s\" exists already and is another one", setting->name);
        d2c_detail(err, "The result of this training is \"%s\".", source);
        d2c_hint(err, "Give it another --name, or --replace on when nothing uses the old one.");
        return D2C_INVALID_ARGUMENT;
    }
    D2C_TRY(d2c_make_directory(setting->model_directory, err));
    D2C_TRY(save(train, path, err));
    return forget_description(train, path, err);
}

d2c_status
d2c_publish(d2c_train *train, int done, d2c_error *err)
{
    char path[D2C_RUN_PATH + 160];

    if (d2c_publish_obstacle(train) != NULL) {
        if (done)
            d2c_notice(train, "no plain model was written: %s", d2c_publish_obstacle(train));
        return D2C_OK;
    }
    snprintf(path, sizeof path, "%s/%s.safetensors", train->folder, train->setting->name);
    D2C_TRY(save(train, path, err));
    if (done && train->setting->model_directory != NULL)
        return save_by_name(train, path, err);
    return D2C_OK;
}
