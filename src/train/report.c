/* report.c: what a training tells: lines, JSONL, rows in the database. */
#define _GNU_SOURCE
#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "train/together.h"

#define LOG_LIMIT ((size_t)1 << 30)
#define SCALARS 32 /* of one event, at most */

void
d2c_notice(const d2c_train *train, const char *format, ...)
{
    char line[1024];
    va_list args;

    if (!d2c_train_speaks(train))
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    train->events.notice(train->events.closure, line);
}

d2c_status
d2c_report_missing(const d2c_train *train, d2c_status status, const char *what, const d2c_error *err)
{
    if (status != D2C_IO && status != D2C_NO_MEMORY && status != D2C_NOT_FINITE)
        return status;
    d2c_notice(train, "no %s at step %" PRId64 ": %s", what, train->position.step,
               err != NULL ? err->message : d2c_status_name(status));
    return D2C_OK;
}

/* Keeps of the log what lies at or before the step that the run goes on from; a killed run may have written more. */
static d2c_status
cut_log(const char *path, int64_t step, d2c_error *err)
{
    uint8_t *bytes = NULL;
    size_t length = 0, kept = 0;
    char *line, *next;
    d2c_status status;

    if (step == 0)
        return d2c_file_write(path, "", 0, err);
    status = d2c_file_read(&bytes, &length, path, LOG_LIMIT, err);
    if (status == D2C_NOT_FOUND)
        return D2C_OK;
    D2C_TRY(status);
    for (line = (char *)bytes; (next = strchr(line, '\n')) != NULL; line = next + 1) {
        cJSON *entry = cJSON_ParseWithLength(line, (size_t)(next - line));
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(entry, "step");

        if (cJSON_IsNumber(at) && at->valuedouble <= (double)step) {
            memmove(bytes + kept, line, (size_t)(next + 1 - line));
            kept += (size_t)(next + 1 - line);
        }
        cJSON_Delete(entry);
    }
    status = d2c_file_write(path, bytes, kept, err);
    free(bytes);
    return status;
}

/* The id that the run's row in the database got when it began; 0 when there is none. */
static int64_t
read_run(const char *path)
{
    uint8_t *bytes = NULL;
    size_t length;
    int64_t run = 0;

    if (d2c_file_read(&bytes, &length, path, 64, NULL) == D2C_OK)
        run = strtoll((const char *)bytes, NULL, 10);
    free(bytes);
    return run;
}

/* Queues the lines behind step `last`: those that a database which was away did not take before the run was killed. */
static void
refill_metrics(d2c_train *train, int64_t last)
{
    char path[D2C_RUN_PATH + 32], *line, *next;
    uint8_t *bytes = NULL;
    size_t length;

    snprintf(path, sizeof path, "%s/metrics.jsonl", train->folder);
    if (d2c_file_read(&bytes, &length, path, LOG_LIMIT, NULL) != D2C_OK)
        return;
    for (line = (char *)bytes; (next = strchr(line, '\n')) != NULL; line = next + 1) {
        cJSON *entry = cJSON_ParseWithLength(line, (size_t)(next - line));
        const cJSON *at = cJSON_GetObjectItemCaseSensitive(entry, "step");

        *next = '\0';
        if (cJSON_IsNumber(at) && at->valuedouble > (double)last &&
            cJSON_GetObjectItemCaseSensitive(entry, "event") == NULL)
            d2c_metrics_put(train->metrics, line);
        cJSON_Delete(entry);
    }
    free(bytes);
}

/* A database that does not take metrics does not stop a training. */
static void
open_metrics(d2c_train *train, const char *config)
{
    const d2c_train_setting *setting = train->setting;
    char path[D2C_RUN_PATH + 16], text[32];
    d2c_metrics_setting metrics = {.conninfo = setting->conninfo,
                                   .schema = setting->metrics_schema,
                                   .name = setting->name,
                                   .config = config,
                                   .digest = train->table->digest,
                                   .selection = train->table->selection,
                                   .rows = train->table->rows,
                                   .step = train->position.step,
                                   .retries = (int)setting->retries};
    d2c_error error;
    int64_t run, last;

    snprintf(path, sizeof path, "%s/run", train->folder);
    if (train->position.step > 0)
        metrics.run = read_run(path);
    if (d2c_metrics_open(&train->metrics, &run, &last, &metrics, &error) != D2C_OK) {
        d2c_notice(train, "no metrics in the database: %s", error.message);
        return;
    }
    snprintf(text, sizeof text, "%" PRId64 "\n", run);
    if (d2c_file_write(path, text, strlen(text), &error) != D2C_OK)
        d2c_notice(train, "%s", error.message);
    if (train->position.step > 0)
        refill_metrics(train, last);
}

static double
seconds_since_1970(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Nor do event files that cannot be written. */
static void
check_board(d2c_train *train, d2c_status status, const d2c_error *error)
{
    if (status == D2C_OK)
        return;
    d2c_notice(train, "no more events for TensorBoard: %s", error->message);
    d2c_tensorboard_close(train->board, NULL);
    train->board = NULL;
}

static void
open_board(d2c_train *train)
{
    char path[D2C_RUN_PATH + 16];
    d2c_error error;

    snprintf(path, sizeof path, "%s/tensorboard", train->folder);
    check_board(
        train,
        d2c_tensorboard_open(&train->board, path, train->position.step + 1, seconds_since_1970(), &error),
        &error);
}

d2c_status
d2c_report_open(d2c_train *train, const char *config, d2c_error *err)
{
    char path[D2C_RUN_PATH + 32];

    if (!d2c_train_speaks(train))
        return D2C_OK;
    snprintf(path, sizeof path, "%s/config.json", train->folder);
    D2C_TRY(d2c_file_write(path, config, strlen(config), err));
    snprintf(path, sizeof path, "%s/metrics.jsonl", train->folder);
    D2C_TRY(cut_log(path, train->position.step, err));
    train->log = fopen(path, "ae");
    if (train->log == NULL)
        return d2c_fail(err, D2C_IO, "could not open file \"%s\": %m", path);
    if (train->setting->metrics)
        open_metrics(train, config);
    if (train->setting->tensorboard && train->position.step < train->setting->steps)
        open_board(train);
    return D2C_OK;
}

static void
write_log(d2c_train *train, const char *json)
{
    if (train->log == NULL || (fprintf(train->log, "%s\n", json) >= 0 && fflush(train->log) == 0))
        return;
    d2c_notice(train, "could not write metrics.jsonl: %m");
    fclose(train->log);
    train->log = NULL;
}

static void
print_line(const d2c_train *train, const d2c_report *report)
{
    char line[256];
    int used = snprintf(line, sizeof line, "step %" PRId64 " epoch %" PRId64, report->step, report->epoch);

    if (report->with_losses)
        used += snprintf(line + used, sizeof line - (size_t)used, " loss %.8f", report->loss);
    if (report->with_losses && train->shape.visual_tokens > 0)
        used += snprintf(line + used, sizeof line - (size_t)used, " denoise %.8f projection %.8f",
                         report->denoise, report->projection);
    used += snprintf(line + used, sizeof line - (size_t)used, " grad_norm %.6f learning_rate %.4g",
                     report->grad_norm, report->learning_rate);
    if (report->with_validation)
        used +=
            snprintf(line + used, sizeof line - (size_t)used, " validation_loss %.8f", report->validation);
    if (report->with_nearest)
        snprintf(line + used, sizeof line - (size_t)used, " nearest %.6f", report->nearest);
    train->events.line(train->events.closure, line);
}

/* The row's numbers, step aside, as scalars of its step. */
static void
put_scalars(d2c_train *train, int64_t step, const cJSON *row)
{
    const char *tag[SCALARS];
    float value[SCALARS];
    const cJSON *item;
    d2c_error error;
    int count = 0;

    cJSON_ArrayForEach(item,
                       row) if (cJSON_IsNumber(item) && strcmp(item->string, "step") != 0 && count < SCALARS)
    {
        tag[count] = item->string;
        value[count++] = (float)item->valuedouble;
    }
    check_board(train,
                d2c_tensorboard_scalars(train->board, seconds_since_1970(), step, tag, value, count, &error),
                &error);
}

void
d2c_report_grid(d2c_train *train, const void *png, size_t length)
{
    d2c_error error;

    if (train->metrics != NULL)
        d2c_metrics_put_sample(train->metrics, train->position.step, png, length);
    if (train->board != NULL)
        check_board(train,
                    d2c_tensorboard_png(train->board, seconds_since_1970(), train->position.step, "samples",
                                        png, length, &error),
                    &error);
}

void
d2c_report_put(d2c_train *train, const d2c_report *report)
{
    cJSON *row;
    char *json;

    if (!d2c_train_speaks(train))
        return;
    row = cJSON_CreateObject();
    print_line(train, report);
    cJSON_AddNumberToObject(row, "step", (double)report->step);
    cJSON_AddNumberToObject(row, "epoch", (double)report->epoch);
    if (report->with_losses) {
        cJSON_AddNumberToObject(row, "loss", report->loss);
        cJSON_AddNumberToObject(row, "denoise_loss", report->denoise);
        cJSON_AddNumberToObject(row, "projection_loss", report->projection);
        cJSON_AddNumberToObject(row, "images_per_second", report->images_per_second);
        cJSON_AddNumberToObject(row, "data_wait", report->data_wait);
    }
    if (report->with_stream) {
        cJSON_AddNumberToObject(row, "rows_per_second", report->rows_per_second);
        cJSON_AddNumberToObject(row, "megabytes_per_second", report->megabytes_per_second);
        cJSON_AddNumberToObject(row, "reconnects", report->reconnects);
    }
    cJSON_AddNumberToObject(row, "grad_norm", report->grad_norm);
    cJSON_AddNumberToObject(row, "learning_rate", report->learning_rate);
    if (report->with_validation)
        cJSON_AddNumberToObject(row, "validation_loss", report->validation);
    if (report->with_nearest)
        cJSON_AddNumberToObject(row, "nearest_distance", report->nearest);
    json = cJSON_PrintUnformatted(row);
    if (train->board != NULL)
        put_scalars(train, report->step, row);
    cJSON_Delete(row);
    if (json == NULL)
        return;
    write_log(train, json);
    if (train->metrics != NULL)
        d2c_metrics_put(train->metrics, json);
    cJSON_free(json);
}

void
d2c_report_rows(d2c_train *train, int64_t step, const char (*id)[D2C_BATCH_ID], const char *reason)
{
    cJSON *entry = cJSON_CreateObject(), *rows;
    char *json;
    int i;

    cJSON_AddNumberToObject(entry, "step", (double)step);
    cJSON_AddStringToObject(entry, "event", reason);
    rows = cJSON_AddArrayToObject(entry, "rows");
    for (i = 0; i < train->share.batch; i++)
        cJSON_AddItemToArray(rows, cJSON_CreateString(id[i]));
    json = cJSON_PrintUnformatted(entry);
    cJSON_Delete(entry);
    if (json != NULL)
        write_log(train, json);
    cJSON_free(json);
}

void
d2c_report_close(d2c_train *train, const char *outcome, const char *message, double seconds)
{
    d2c_metrics_end end = {outcome, message, train->position.step, seconds};
    d2c_error error;

    if (train->log != NULL)
        fclose(train->log);
    train->log = NULL;
    if (d2c_tensorboard_close(train->board, &error) != D2C_OK)
        d2c_notice(train, "%s", error.message);
    train->board = NULL;
    if (train->metrics != NULL && d2c_metrics_close(train->metrics, &end, &error) != D2C_OK)
        d2c_notice(train, "the last metrics are in metrics.jsonl only: %s", error.message);
    train->metrics = NULL;
}
