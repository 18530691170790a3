/* train.c: opening, running and closing a training. */
#include "train/train.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/progress.h"
#include "train/retry.h"
#include "train/together.h"

static d2c_status
open_table(void *closure, PGconn *connection, d2c_error *err)
{
    d2c_train *train = closure;

    return d2c_table_open(&train->table, connection, &train->setting->table, err);
}

static d2c_status
read_class_texts(void *closure, PGconn *connection, d2c_error *err)
{
    d2c_train *train = closure;

    free(train->class_text);
    free(train->class_mask);
    return d2c_table_class_texts(train->table, connection, &train->class_text, &train->class_mask,
                                 train->shape.classes, err);
}

/* The table and, once its shapes have settled the network, the texts of its classes. */
static d2c_status
read_table(d2c_train *train, d2c_error *err)
{
    d2c_patience patience = {(int)train->setting->retries, train->events.stop, 0};
    int i;

    D2C_TRY(d2c_retry(train->setting->conninfo, patience, open_table, train, err));
    for (i = 0; i < train->table->empties; i++)
        d2c_notice(train, "column \"%s\" has no values and is not used", train->table->empty[i]);
    D2C_TRY(d2c_train_settle(train, err));
    if (train->table->text_tokens == 0)
        return D2C_OK;
    return d2c_retry(train->setting->conninfo, patience, read_class_texts, train, err);
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

/* Two runs in one folder would overwrite each other's results.  A file system without such locks has none. */
static d2c_status
lock_folder(d2c_train *train, d2c_error *err)
{
    D2C_TRY(d2c_make_directory(train->folder, err));
    train->lock = open(train->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (train->lock < 0 || flock(train->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "folder \"%s\" is another training's that is under way",
             train->folder);
    d2c_hint(err, "Wait for its end, or give another --results-dir.");
    return D2C_INVALID_ARGUMENT;
}

/* The checkpoint to go on from: a file, the newest one, or none. */
static d2c_status
find_checkpoint(d2c_train *train, d2c_error *err)
{
    const char *resume = train->setting->resume;
    int64_t latest = d2c_checkpoint_latest(train->checkpoints);
    char *path = train->resumed;
    size_t size = sizeof train->resumed;

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

/* What would be trained from here on is not the past of later checkpoints, which are then neither newest nor oldest. */
static d2c_status
check_newest(const d2c_train *train, d2c_error *err)
{
    int64_t latest = d2c_checkpoint_latest(train->checkpoints);

    if (latest <= train->head.step)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "folder \"%s\" has a later checkpoint than \"%s\"",
             train->checkpoints, train->resumed);
    d2c_detail(err, "That is of step %" PRId64 ", the newest one of step %" PRId64 ".", train->head.step,
               latest);
    d2c_hint(err, "Give another --results-dir, or move the later checkpoints away.");
    return D2C_INVALID_ARGUMENT;
}

/* What a checkpoint says about the run that goes on from it: its micro-batch is taken over unless another is wanted. */
static d2c_status
look_back(d2c_train *train, d2c_error *err)
{
    snprintf(train->checkpoints, sizeof train->checkpoints, "%s/checkpoints", train->folder);
    if (d2c_train_speaks(train)) {
        D2C_TRY(lock_folder(train, err));
        D2C_TRY(find_checkpoint(train, err));
        if (train->resumed[0] != '\0') {
            D2C_TRY(d2c_checkpoint_peek(&train->head, train->resumed, err));
            D2C_TRY(check_newest(train, err));
        }
    }
    D2C_TRY(d2c_together_head(train, err));
    if (train->resumed[0] != '\0' && train->step.micro_batch == 0)
        train->step.micro_batch =
            train->head.micro_batch < train->step.batch ? train->head.micro_batch : train->step.batch;
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
    made->lock = -1;
    made->setting = setting;
    made->events = *events;
    status = d2c_together_share(made, err);
    if (status == D2C_OK)
        status = read_table(made, err);
    if (status == D2C_OK)
        status = d2c_together_compare(made, err);
    if (status == D2C_OK)
        status = d2c_train_check_selection(made, err);
    if (status == D2C_OK)
        status = hash_class_texts(made, err);
    if (status == D2C_OK)
        status = look_back(made, err);
    if (status == D2C_OK)
        status = d2c_train_plan(made, err);
    if (status == D2C_OK)
        *train = made;
    else
        d2c_train_fail(made, err);
    return status;
}

void
d2c_train_fail(d2c_train *train, const d2c_error *why)
{
    d2c_ranks *ranks = train->setting->ranks;

    d2c_ranks_fail(ranks, why);
    if (ranks == NULL || !ranks->deaf)
        d2c_train_close(train);
}

void
d2c_train_close(d2c_train *train)
{
    if (train == NULL)
        return;
    d2c_preview_close(train->preview);
    d2c_loader_close(train->loader);
    d2c_stepper_close(train->stepper);
    d2c_ranks_device_close(train->ranks, train->setting->ranks);
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
    free(train->head.choices);
    free(train->head.content);
    free(train->words);
    if (train->lock >= 0)
        close(train->lock);
    free(train);
}

int64_t
d2c_train_step(const d2c_train *train)
{
    return train->position.step;
}

/* Fresh weights, those of another file, or those of the checkpoint. */
static d2c_status
prepare_weights(d2c_train *train, d2c_error *err)
{
    d2c_checkpoint_facts facts = {.required = train->required, .exact = train->exact};
    char difference[256];

    if (train->resumed[0] == '\0' || !d2c_train_speaks(train))
        D2C_TRY(d2c_sit_initialize(train->sit, train->be, (uint64_t)train->setting->seed, err));
    if (!d2c_train_speaks(train))
        return D2C_OK;
    if (train->resumed[0] == '\0')
        return train->setting->init != NULL ? d2c_init_load(train, err) : D2C_OK;
    D2C_TRY(d2c_checkpoint_load(train->resumed, train->sit, train->be, &train->position, &facts, difference,
                                sizeof difference, err));
    d2c_notice(train, "resumed after step %" PRId64 " from \"%s\"", train->position.step, train->resumed);
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
                                 .share = train->share,
                                 .flip = setting->horizontal_flip,
                                 .step = train->position.step,
                                 .after = train->position.step > 0 ? &train->position.last : NULL,
                                 .class_hash = train->class_hash,
                                 .cache_memory = (size_t)setting->cache_memory << 20,
                                 .threads = (int)setting->threads,
                                 .retries = (int)setting->retries,
                                 .stop = train->events.stop};

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
open_network(d2c_train *train, d2c_error *err)
{
    d2c_status status = d2c_sit_create(&train->sit, train->be, &train->config, train->precision, 1, err);

    if (status == D2C_NO_MEMORY)
        d2c_hint(err,
                 "The parameters and what the optimizer keeps of them do not fit; take a smaller --model.");
    return status;
}

/* The algorithms of the checkpoint's products hold for the device and the library that they were measured with. */
static d2c_status
open_stepper(d2c_train *train, d2c_error *err)
{
    int same = strcmp(train->head.arithmetic, train->be->arithmetic) == 0;

    if (d2c_choose(train->be, same ? train->head.choices : NULL) != D2C_OK)
        return d2c_backend_error(train->be, err);
    return d2c_stepper_open(&train->stepper, train->sit, train->be, &train->step, err);
}

static d2c_status
prepare(d2c_train *train, d2c_error *err)
{
    if (d2c_train_speaks(train)) {
        D2C_TRY(d2c_make_directory(train->checkpoints, err));
        d2c_checkpoint_clean(train->checkpoints);
    }
    D2C_TRY(d2c_train_check_rows(train, err));
    D2C_TRY(open_network(train, err));
    if (train->head.step < train->setting->steps)
        D2C_TRY(open_stepper(train, err));
    D2C_TRY(d2c_train_facts(train, err));
    D2C_TRY(prepare_weights(train, err));
    D2C_TRY(d2c_together_weights(train, err));
    if (train->stepper == NULL)
        return D2C_OK;
    D2C_TRY(open_loader(train, err));
    if (train->setting->sample_every > 0 &&
        (d2c_train_speaks(train) || train->setting->validation_query != NULL))
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
    if (status == D2C_OK && d2c_train_speaks(train))
        status = d2c_publish(train, train->position.step >= train->setting->steps, err);
    if (status == D2C_DEVICE)
        d2c_hint(err, "The checkpoints are whole; --resume latest goes on from the newest one.");
    d2c_report_close(train, outcome_of(train, status), status != D2C_OK && err != NULL ? err->message : NULL,
                     d2c_clock() - start);
    return status;
}
