/* step.c: steps of step.h, queued and collected. */
#include "train/step.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "ops/backend.h"
#include "train/stepper.h"

void
step_notice(const d2c_stepper *s, const char *format, ...)
{
    char line[512];
    va_list args;

    if (s->setting.notice == NULL)
        return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    s->setting.notice(s->setting.closure, line);
}

d2c_status
d2c_stepper_open(d2c_stepper **stepper, d2c_sit *sit, d2c_backend *be, const d2c_step_setting *setting,
                 d2c_error *err)
{
    d2c_stepper *made = calloc(1, sizeof *made);
    d2c_status status;

    *stepper = NULL;
    if (made == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    made->sit = sit;
    made->be = be;
    made->setting = *setting;
    if (setting->micro_batch == 0 || setting->micro_batch > setting->batch)
        made->setting.micro_batch = setting->batch;
    made->slots = d2c_backend_is_asynchronous(be) ? STEP_SLOTS : 1;
    made->graphs =
        made->slots > 1 && !setting->without_graphs && (setting->ranks == NULL || setting->ranks->on_stream);
    status = step_times_open(made, err);
    if (status == D2C_OK)
        status = step_memory_open(made, err);
    if (status == D2C_OK)
        *stepper = made;
    else
        d2c_stepper_close(made);
    return status;
}

void
d2c_stepper_close(d2c_stepper *stepper)
{
    int i;

    if (stepper == NULL)
        return;
    if (stepper->collected < stepper->queued)
        d2c_synchronize(stepper->be);
    step_graph_free(stepper);
    for (i = 0; i < stepper->slots; i++)
        d2c_event_free(stepper->be, stepper->slot[i].event);
    step_memory_close(stepper);
    free(stepper->host_time);
    free(stepper);
}

int
d2c_stepper_micro_batch(const d2c_stepper *stepper)
{
    return stepper->setting.micro_batch;
}

int
d2c_stepper_ahead(const d2c_stepper *stepper)
{
    return stepper->slots - 1;
}

static d2c_status
upload(d2c_stepper *s, const step_slot *slot, const d2c_batch *batch, const d2c_step_record *record)
{
    const d2c_row_shape *shape = &s->setting.shape;
    size_t rows = (size_t)s->setting.batch, texts = (size_t)batch->texts;

    D2C_TRY(d2c_upload_early(s->be, slot->record, record, sizeof *record));
    D2C_TRY(d2c_upload_early(s->be, slot->x, batch->x, rows * d2c_row_pixels(shape) * sizeof(float)));
    D2C_TRY(d2c_upload_early(s->be, slot->label, batch->label, rows * sizeof(int64_t)));
    D2C_TRY(d2c_upload_early(s->be, slot->number, batch->number, rows * sizeof(int64_t)));
    D2C_TRY(d2c_upload_early(s->be, slot->epoch, batch->epoch, rows * sizeof(int64_t)));
    D2C_TRY(step_times_upload(s, slot, batch));
    if (shape->text_tokens > 0) {
        D2C_TRY(d2c_upload_early(s->be, slot->text_index, batch->text_index, rows * sizeof(int64_t)));
        D2C_TRY(
            d2c_upload_early(s->be, slot->text, batch->text, texts * d2c_row_text(shape) * sizeof(float)));
        D2C_TRY(d2c_upload_early(s->be, slot->text_mask, batch->text_mask,
                                 texts * (size_t)shape->text_tokens * sizeof(float)));
    }
    if (shape->visual_tokens > 0)
        D2C_TRY(d2c_upload_early(s->be, slot->visual, batch->visual,
                                 rows * d2c_row_visual(shape) * sizeof(uint16_t)));
    return D2C_OK;
}

/* Queues the copies of what the step tells, and the point behind them. */
static d2c_status
tell_later(d2c_stepper *s, step_slot *slot)
{
    size_t bytes = 2 * (size_t)step_rows(s) * sizeof(float);

    D2C_TRY(d2c_download_later(s->be, slot->told, slot->record, sizeof *slot->told));
    D2C_TRY(d2c_download_later(s->be, slot->told_loss, s->losses, bytes));
    return d2c_event_record(s->be, &slot->event);
}

static d2c_status
compute(d2c_stepper *s, step_slot *slot, const d2c_batch *batch, const d2c_step_record *record, int training,
        d2c_error *err)
{
    int texts = step_texts(s, batch->texts);

    d2c_status status;

    if (upload(s, slot, batch, record) != D2C_OK)
        return d2c_backend_error(s->be, err);
    if (!training)
        return step_pass(s, slot, texts, 0, err);
    d2c_tune(s->be, s->setting.tuned);
    status = step_graph(s, slot, texts, err);
    d2c_tune(s->be, 0);
    return status;
}

/* Starts a step in the next slot.  Memory that an op asks for beside its tensors may be missing: nothing has been
 * updated then, so the step is started again with a smaller micro-batch.  Of several ranks only the first step can be: then
 * every slot's next step is called op by op, which all must do at once (step_graph.c). */
static d2c_status
start(d2c_stepper *s, const d2c_batch *batch, const d2c_step_record *record, int training, d2c_error *err)
{
    step_slot *slot = &s->slot[s->queued % s->slots];
    d2c_status status = compute(s, slot, batch, record, training, err);

    while (status == D2C_NO_MEMORY && (!step_is_shared(s) || s->queued == 0)) {
        D2C_TRY(step_memory_shrink(s, err));
        status = compute(s, slot, batch, record, training, err);
    }
    D2C_TRY(status);
    return tell_later(s, slot) == D2C_OK ? D2C_OK : d2c_backend_error(s->be, err);
}

static d2c_status
finish(d2c_stepper *s, const step_slot *slot, d2c_step_result *result, d2c_error *err)
{
    int rows = step_rows(s), with_visual = s->setting.shape.visual_tokens > 0, i;

    if (d2c_event_wait(s->be, slot->event) != D2C_OK)
        return d2c_backend_error(s->be, err);
    result->record = *slot->told;
    result->denoise = result->projection = 0;
    for (i = 0; i < rows; i++) {
        result->denoise += slot->told_loss[i] / rows;
        result->projection += with_visual ? slot->told_loss[rows + i] / rows : 0;
    }
    return D2C_OK;
}

d2c_status
d2c_stepper_queue(d2c_stepper *stepper, const d2c_batch *batch, const d2c_step_record *record, d2c_error *err)
{
    if (stepper->queued - stepper->collected >= stepper->slots)
        return d2c_fail(err, D2C_INTERNAL, "too many steps are queued");
    D2C_TRY(start(stepper, batch, record, 1, err));
    stepper->queued++;
    return D2C_OK;
}

d2c_status
d2c_stepper_collect(d2c_stepper *stepper, d2c_step_result *result, d2c_error *err)
{
    if (stepper->collected == stepper->queued)
        return d2c_fail(err, D2C_INTERNAL, "no step is queued");
    D2C_TRY(finish(stepper, &stepper->slot[stepper->collected % stepper->slots], result, err));
    stepper->collected++;
    return D2C_OK;
}

d2c_status
d2c_stepper_measure(d2c_stepper *stepper, d2c_step_result *result, const d2c_batch *batch, d2c_error *err)
{
    d2c_step_record record = {.loss_scale = 1.0f / (float)step_rows(stepper)};

    if (stepper->collected < stepper->queued)
        return d2c_fail(err, D2C_INTERNAL, "steps are queued");
    D2C_TRY(start(stepper, batch, &record, 0, err));
    return finish(stepper, &stepper->slot[stepper->queued % stepper->slots], result, err);
}
