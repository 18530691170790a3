/*
 * loop.c: the training loop.
 *
 * A device that computes while the host goes on has the next step queued before the last one's result is looked at, so
 * what a step tells is handled a step late; before samples, a checkpoint and the end nothing is left queued.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/progress.h"
#include "train/together.h"

/* What the loop measures between log lines. */
typedef struct pace {
    double since, waited;
    int64_t steps;
    d2c_stream_counters counters;
} pace;

/* Steps that are queued, oldest first; their batches stay in the loader. */
typedef struct queue {
    const d2c_batch *batch[2];
    int count;
} queue;

static void
describe_rows(char *text, size_t size, const char (*id)[D2C_BATCH_ID], int64_t rows)
{
    size_t used = 0;
    int64_t i;

    for (i = 0; i < rows && used + D2C_BATCH_ID + 16 < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", id[i]);
    if (i < rows)
        snprintf(text + used, size - used, " and %" PRId64 " more", rows - i);
}

/* The rows of the batch, those of all processes: on record, and as text. */
static d2c_status
record_rows(d2c_train *train, const d2c_batch *batch, char *text, size_t size, d2c_error *err)
{
    char(*id)[D2C_BATCH_ID];
    d2c_status status = d2c_together_ids(train, batch, &id, err);

    if (status == D2C_OK) {
        describe_rows(text, size, (const char(*)[D2C_BATCH_ID])id, train->share.batch);
        d2c_report_rows(train, batch->step + 1, (const char(*)[D2C_BATCH_ID])id, "diverged");
    }
    free(id);
    return status;
}

/* The end of a run whose loss is no longer a loss: says where, with which rows, and what is left. */
static d2c_status
diverged(d2c_train *train, const d2c_batch *batch, const d2c_step_result *result, d2c_error *err)
{
    int64_t step = batch->step + 1, latest = d2c_checkpoint_latest(train->checkpoints);
    char rows[400], path[D2C_RUN_PATH + 64];

    D2C_TRY(record_rows(train, batch, rows, sizeof rows, err));
    if (isfinite(result->record.loss) && isfinite(result->record.grad_norm))
        d2c_fail(err, D2C_NOT_FINITE, "the loss exploded at step %" PRId64 ": %g, after a mean of %g", step,
                 result->record.loss, train->position.divergence.mean);
    else
        d2c_fail(err, D2C_NOT_FINITE, "loss or gradient is not finite at step %" PRId64, step);
    d2c_detail(err, "The batch has the rows %s.", rows);
    if (latest >= 0) {
        d2c_checkpoint_path(path, sizeof path, train->checkpoints, latest);
        d2c_hint(err, "The last good checkpoint is \"%s\"; a lower --learning-rate may help.", path);
    } else
        d2c_hint(err, "There is no checkpoint yet; a lower --learning-rate may help.");
    return D2C_NOT_FINITE;
}

static void
advance(d2c_train *train, const d2c_batch *batch, const d2c_step_result *result)
{
    d2c_position *position = &train->position;
    int64_t next = (batch->step + 1) * train->share.batch;

    position->step = batch->step + 1;
    position->epoch = next / train->table->rows;
    position->row = next % train->table->rows;
    position->last = batch->last;
    position->loss_sum += result->record.loss;
    position->denoise_sum += result->denoise;
    position->projection_sum += result->projection;
    position->loss_count++;
    position->mixed_texts |= batch->mixed_texts;
}

static int
is_due(const d2c_train *train, int64_t step, int64_t every)
{
    return (every > 0 && step % every == 0) || step == train->setting->steps;
}

/* What was streamed since the last line. */
static void
take_counters(const d2c_train *train, d2c_report *report, pace *p, double elapsed)
{
    d2c_stream_counters now = train->streamed;

    report->with_stream = d2c_loader_cached(train->loader) == 0;
    report->rows_per_second = (double)(now.rows - p->counters.rows) / elapsed;
    report->megabytes_per_second = (double)(now.bytes - p->counters.bytes) / elapsed / 1e6;
    report->reconnects = now.reconnects;
    p->counters = now;
}

/* The means since the last line, which then starts anew. */
static void
take_losses(d2c_train *train, d2c_report *report, pace *p)
{
    d2c_position *position = &train->position;
    double now = d2c_clock(), elapsed = fmax(now - p->since, 1e-9), count = (double)position->loss_count;

    report->with_losses = 1;
    report->loss = position->loss_sum / count;
    report->denoise = position->denoise_sum / count;
    report->projection = position->projection_sum / count;
    report->images_per_second = (double)(p->steps * train->setting->batch) / elapsed;
    report->data_wait = fmin((d2c_loader_waited(train->loader) - p->waited) / elapsed, 1);
    position->loss_sum = position->denoise_sum = position->projection_sum = 0;
    position->loss_count = 0;
    take_counters(train, report, p, elapsed);
    *p = (pace){now, d2c_loader_waited(train->loader), 0, p->counters};
}

static void
show_progress(const d2c_train *train, const d2c_step_result *result, const pace *p)
{
    double elapsed = fmax(d2c_clock() - p->since, 1e-9);
    d2c_report streamed = {0};
    pace copy = *p;
    char note[192];
    int used;

    used = snprintf(note, sizeof note, "loss %.4f, norm %.3g, %.4g img/s, wait %.1f%%", result->record.loss,
                    result->record.grad_norm, (double)(p->steps * train->setting->batch) / elapsed,
                    100 * fmin((d2c_loader_waited(train->loader) - p->waited) / elapsed, 1));
    take_counters(train, &streamed, &copy, elapsed);
    if (streamed.with_stream)
        snprintf(note + used, sizeof note - (size_t)used, ", %.0f rows/s, %.1f MB/s, %d reconnects",
                 streamed.rows_per_second, streamed.megabytes_per_second, streamed.reconnects);
    train->events.progress(train->events.closure, train->position.step, note);
}

/* Losses, samples and held-out loss, when this step is one for them. */
static d2c_status
report_step(d2c_train *train, const d2c_step_result *result, pace *p, d2c_error *err)
{
    d2c_report report = {.step = train->position.step,
                         .epoch = train->position.epoch,
                         .grad_norm = result->record.grad_norm,
                         .learning_rate = result->record.learning_rate};
    int log = is_due(train, report.step, train->setting->log_every);
    int sample = train->preview != NULL && is_due(train, report.step, train->setting->sample_every);

    p->steps++;
    show_progress(train, result, p);
    if (log)
        take_losses(train, &report, p);
    if (sample) {
        D2C_TRY(d2c_preview_run(train->preview, train, &report, err));
        p->since = d2c_clock();
    }
    if (log || sample)
        d2c_report_put(train, &report);
    return D2C_OK;
}

/* Writes the file, with the folded label tables where there are any. */
static d2c_status
write_checkpoint(const char *path, d2c_train *train, const d2c_checkpoint_facts *facts, d2c_error *err)
{
    float *model = NULL, *ema = NULL;
    d2c_status status = D2C_OK;

    if (d2c_publish_obstacle(train) == NULL) {
        status = d2c_train_label_table(train, &model, train->sit->params.value, err);
        if (status == D2C_OK)
            status = d2c_train_label_table(train, &ema, train->sit->params.ema, err);
    }
    if (status == D2C_OK)
        status = d2c_checkpoint_save(path, train->sit, train->be, &train->position, facts,
                                     &(d2c_checkpoint_tables){model, ema}, err);
    free(model);
    free(ema);
    return status;
}

static d2c_status
save_checkpoint(d2c_train *train, d2c_error *err)
{
    const d2c_selection *selection = train->table->selection;
    d2c_checkpoint_facts facts = {
        .required = train->required,
        .exact = train->exact,
        .content = train->table->content_digest,
        .vae = train->setting->vae,
    };
    char path[D2C_RUN_PATH + 64], *choices = NULL, *described = NULL;
    d2c_status status;

    d2c_checkpoint_path(path, sizeof path, train->checkpoints, train->position.step);
    if (d2c_tuned(train->be, &choices) != D2C_OK)
        return d2c_backend_error(train->be, err);
    if (selection != NULL)
        described = d2c_selection_json(selection);
    facts.choices = choices;
    facts.selection = described;
    status = selection == NULL || described != NULL ? write_checkpoint(path, train, &facts, err)
                                                    : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    free(described);
    free(choices);
    return status;
}

/* A checkpoint or model that cannot be written costs no more than itself, unless it is the last one. */
static d2c_status
checkpoint(d2c_train *train, int final, d2c_error *err)
{
    d2c_status status;

    D2C_TRY(d2c_together_checkpoint(train, err));
    if (!d2c_train_speaks(train))
        return D2C_OK;
    if (train->metrics != NULL)
        d2c_metrics_flush(train->metrics);
    D2C_TRY(d2c_train_facts(train, err));
    status = save_checkpoint(train, err);
    if (status == D2C_OK)
        d2c_checkpoint_prune(train->checkpoints, (int)train->setting->checkpoints_limit);
    if (final)
        return status;
    if (status != D2C_OK)
        return d2c_report_missing(train, status, "checkpoint", err);
    return d2c_report_missing(train, d2c_publish(train, 0, err), "model", err);
}

/* Queues a step, unless anyone is asked to stop; who waited for rows then has none. */
static d2c_status
queue_step(d2c_train *train, queue *q, d2c_error *err)
{
    const d2c_batch *batch;
    d2c_step_record record;
    d2c_status status = d2c_loader_next(train->loader, &batch, err);

    if (status != D2C_OK && status != D2C_CANCELLED)
        return status;
    D2C_TRY(d2c_together_step(train, err));
    if (train->stopped)
        return D2C_OK;
    D2C_TRY(status);
    d2c_schedule_record(&record, &train->schedule, batch->step + 1);
    D2C_TRY(d2c_stepper_queue(train->stepper, batch, &record, err));
    q->batch[q->count++] = batch;
    return D2C_OK;
}

/* What the oldest queued step tells. */
static d2c_status
collect_step(d2c_train *train, queue *q, pace *p, d2c_error *err)
{
    const d2c_batch *batch = q->batch[0];
    d2c_step_result result;

    D2C_TRY(d2c_stepper_collect(train->stepper, &result, err));
    q->batch[0] = q->batch[1];
    q->count--;
    D2C_TRY(d2c_together_choices(train, err));
    if (result.record.skip != 0 || !isfinite(result.record.loss) ||
        d2c_divergence_put(&train->position.divergence, result.denoise, train->setting->divergence_factor))
        return diverged(train, batch, &result, err);
    advance(train, batch, &result);
    return report_step(train, &result, p, err);
}

/* Whether no step may be queued behind the newest before its results are there. */
static int
is_pause(const d2c_train *train, const queue *q)
{
    const d2c_train_setting *setting = train->setting;
    int64_t step;

    if (train->stopped || q->count == 0)
        return 1;
    step = q->batch[q->count - 1]->step + 1;
    return is_due(train, step, setting->ckpt_every) || is_due(train, step, setting->sample_every);
}

/* What was streamed in all. */
static void
tell_stream(const d2c_train *train, pace whole)
{
    double elapsed = fmax(d2c_clock() - whole.since, 1e-9);
    d2c_report report = {0};

    take_counters(train, &report, &whole, elapsed);
    if (report.with_stream)
        d2c_notice(train,
                   "streamed %" PRId64
                   " rows, %.1f MB: %.0f rows/s, %.1f MB/s; %d reconnects; data-wait %.2f %%",
                   whole.counters.rows, (double)whole.counters.bytes / 1e6, report.rows_per_second,
                   report.megabytes_per_second, report.reconnects,
                   100 * fmin((d2c_loader_waited(train->loader) - whole.waited) / elapsed, 1));
}

d2c_status
d2c_train_loop(d2c_train *train, d2c_error *err)
{
    pace p = {d2c_clock(), d2c_loader_waited(train->loader), 0, {0}};
    pace whole = p;
    queue q = {0};
    int final = 0,
        owed = 0; /* owed: a checkpoint, which waits while the loss is as high as one that explodes */

    while (!final) {
        int ahead;

        D2C_TRY(queue_step(train, &q, err));
        ahead = is_pause(train, &q) ? 0 : d2c_stepper_ahead(train->stepper);
        while (q.count > ahead)
            D2C_TRY(collect_step(train, &q, &p, err));
        final = q.count == 0 && (train->position.step >= train->setting->steps || train->stopped);
        owed |= q.count == 0 && is_due(train, train->position.step, train->setting->ckpt_every);
        if (final || (q.count == 0 && owed && train->position.divergence.above == 0)) {
            D2C_TRY(checkpoint(train, final, err));
            owed = 0;
        }
    }
    tell_stream(train, whole);
    return D2C_OK;
}
