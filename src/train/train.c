/* train.c: opening, running and closing a training. */
#include "train/train.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/database.h"
#include "train/run.h"

static d2c_status
read_table(d2c_train *train, d2c_error *err)
{
    PGconn *connection;
    d2c_status status;

    D2C_TRY(d2c_database_open(&connection, train->setting->conninfo, err));
    status = d2c_table_open(&train->table, connection, &train->setting->table, err);
    if (status == D2C_OK)
        status = d2c_train_settle(train, err);
    if (status == D2C_OK && train->table->text_tokens > 0)
        status = d2c_table_class_texts(train->table, connection, &train->class_text, &train->class_mask,
                                       train->shape.classes, err);
    PQfinish(connection);
    return status;
}

/* Rows whose text hash is not that of their class have captions of their own. */
static d2c_status
hash_class_texts(d2c_train *train, d2c_error *err)
{
    size_t classes = (size_t)train->shape.classes, count = d2c_row_text(&train->shape), i;

    if (train->class_text == NULL)
        return D2C_OK;
    train->class_hash = malloc(classes * sizeof *train->class_hash);
    if (train->class_hash == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < classes; i++)
        train->class_hash[i] =
            d2c_text_hash(train->class_text + i * count,
                          train->class_mask + i * (size_t)train->shape.text_tokens, &train->shape);
    return D2C_OK;
}

d2c_status
d2c_train_open(d2c_train **train, d2c_train_setting *setting, const d2c_train_events *events, d2c_error *err)
{
    d2c_train *made = calloc(1, sizeof *made);
    d2c_status status;

    *train = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->setting = setting;
    made->events = *events;
    status = read_table(made, err);
    if (status == D2C_OK)
        status = hash_class_texts(made, err);
    if (status == D2C_OK)
        status = d2c_train_facts(made, err);
    if (status == D2C_OK) {
        snprintf(made->checkpoints, sizeof made->checkpoints, "%s/checkpoints", made->folder);
        *train = made;
    } else
        d2c_train_close(made);
    return status;
}

void
d2c_train_close(d2c_train *train)
{
    if (train == NULL)
        return;
    d2c_preview_close(train->preview);
    d2c_loader_close(train->loader);
    d2c_stepper_close(train->stepper);
    if (train->sit != NULL)
        d2c_sit_destroy(train->sit, train->be);
    if (train->be != NULL)
        d2c_backend_close(train->be);
    d2c_table_close(train->table);
    free(train->class_text);
    free(train->class_mask);
    free(train->class_hash);
    free(train->required);
    free(train->exact);
    free(train);
}

int64_t
d2c_train_step(const d2c_train *train)
{
    return train->position.step;
}

/* The checkpoint to go on from: a file, the newest one, or none (an empty path). */
static d2c_status
find_checkpoint(const d2c_train *train, char *path, size_t size, d2c_error *err)
{
    const char *resume = train->setting->resume;
    int64_t latest = d2c_checkpoint_latest(train->checkpoints);

    path[0] = '\0';
    if (resume != NULL && strcmp(resume, "latest") != 0)
        snprintf(path, size, "%s", resume);
    else if (resume != NULL && latest >= 0)
        d2c_checkpoint_path(path, size, train->checkpoints, latest);
    else if (latest >= 0) {
        d2c_fail(err, D2C_INVALID_ARGUMENT, "folder \"%s\" holds a run already", train->folder);
        d2c_hint(err, "Go on with --resume latest, or give another --results-dir.");
        return D2C_INVALID_ARGUMENT;
    }
    return D2C_OK;
}

/* Fresh weights, or those of the checkpoint. */
static d2c_status
prepare_weights(d2c_train *train, d2c_error *err)
{
    d2c_checkpoint_facts facts = {train->required, train->exact};
    char path[D2C_RUN_PATH + 64], difference[256];

    D2C_TRY(find_checkpoint(train, path, sizeof path, err));
    if (path[0] == '\0')
        return d2c_sit_initialize(train->sit, train->be, (uint64_t)train->setting->seed, err);
    D2C_TRY(d2c_checkpoint_load(path, train->sit, train->be, &train->position, &facts, difference,
                                sizeof difference, err));
    d2c_notice(train, "resumed after step %" PRId64 " from \"%s\"", train->position.step, path);
    if (difference[0] != '\0')
        d2c_notice(train, "the run is no longer exact from here on: %s", difference);
    return D2C_OK;
}

static d2c_status
open_loader(d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    d2c_loader_setting loader = {.conninfo = setting->conninfo,
                                 .table = train->table,
                                 .shape = train->shape,
                                 .seed = (uint64_t)setting->seed,
                                 .batch = (int)setting->batch,
                                 .step = train->position.step,
                                 .after = train->position.step > 0 ? &train->position.last : NULL,
                                 .class_hash = train->class_hash,
                                 .cache_memory = (size_t)setting->cache_memory << 20,
                                 .threads = (int)setting->threads,
                                 .retries = (int)setting->retries};

    D2C_TRY(d2c_loader_open(&train->loader, &loader, err));
    if (d2c_loader_cached(train->loader) > 0)
        d2c_notice(train, "all %" PRId64 " rows are decoded in memory (%.1f MiB)", train->table->rows,
                   (double)d2c_loader_cached(train->loader) / (1 << 20));
    else
        d2c_notice(train, "%" PRId64 " rows are streamed from the database in every epoch",
                   train->table->rows);
    return D2C_OK;
}

static d2c_status
prepare(d2c_train *train, d2c_error *err)
{
    const d2c_train_setting *setting = train->setting;
    d2c_step_setting step = {
        .seed = (uint64_t)setting->seed,
        .batch = (int)setting->batch,
        .shape = train->shape,
        .cfg_prob = (float)setting->cfg_prob,
        .proj_coeff = (float)setting->proj_coeff,
        .adamw = {(float)setting->beta1, (float)setting->beta2, 1e-8f, (float)setting->weight_decay}};
    d2c_dtype precision = strcmp(setting->precision, "bf16") == 0 ? D2C_BF16 : D2C_F32;

    D2C_TRY(d2c_make_directory(train->checkpoints, err));
    D2C_TRY(d2c_sit_create(&train->sit, train->be, &train->config, precision, 1, err));
    D2C_TRY(prepare_weights(train, err));
    if (train->position.step >= setting->steps)
        return D2C_OK;
    D2C_TRY(d2c_stepper_open(&train->stepper, train->sit, train->be, &step, err));
    D2C_TRY(open_loader(train, err));
    if (setting->sample_every > 0)
        D2C_TRY(d2c_preview_open(&train->preview, train, err));
    return D2C_OK;
}

static const char *
outcome_of(const d2c_train *train, d2c_status status)
{
    if (status != D2C_OK)
        return "failed";
    return train->position.step >= train->setting->steps ? "finished" : "stopped";
}

d2c_status
d2c_train_run(d2c_train *train, const char *config, d2c_error *err)
{
    double start = d2c_clock();
    d2c_status status;

    D2C_TRY(prepare(train, err));
    D2C_TRY(d2c_report_open(train, config, err));
    status = train->position.step < train->setting->steps ? d2c_train_loop(train, err) : D2C_OK;
    if (status == D2C_OK)
        status = d2c_publish(train, train->position.step >= train->setting->steps, err);
    d2c_report_close(train, outcome_of(train, status), d2c_clock() - start);
    return status;
}
