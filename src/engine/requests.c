/* requests.c: from a task to its reply. */
#include "engine/requests.h"

#include <math.h>
#include <string.h>

static const d2c_request_function functions[] = {
    [D2C_REQUEST_DIFFICULTY] = d2c_request_difficulty,
    [D2C_REQUEST_DIFFICULTY_LATENT] = d2c_request_difficulty_latent,
    [D2C_REQUEST_IMAGE_INFO] = d2c_request_image_info,
    [D2C_REQUEST_THUMBNAIL] = d2c_request_thumbnail,
    [D2C_REQUEST_PHASH] = d2c_request_phash,
    [D2C_REQUEST_CONTACT_SHEET] = d2c_request_contact_sheet,
    [D2C_REQUEST_TEXT_EMBEDDING] = d2c_request_text_embedding,
    [D2C_REQUEST_VISUAL_EMBEDDING] = d2c_request_visual_embedding,
    [D2C_REQUEST_DENOISE] = d2c_request_denoise,
    [D2C_REQUEST_FRECHET] = d2c_request_frechet,
    [D2C_REQUEST_MODELS] = d2c_request_models,
    [D2C_REQUEST_PROVENANCE] = d2c_request_provenance,
    [D2C_REQUEST_LATENT] = d2c_request_latent,
    [D2C_REQUEST_DECODE_LATENT] = d2c_request_decode_latent,
    [D2C_REQUEST_DIFFICULTY_PROMPT] = d2c_request_difficulty_prompt,
    [D2C_REQUEST_SELECT] = d2c_request_select,
};

d2c_status
d2c_read_string(char *out, size_t size, d2c_reader *in, const char *what, d2c_error *err)
{
    size_t length;
    const char *bytes = d2c_read_bytes(in, &length);

    if (length >= size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "%s is too long", what);
    if (bytes != NULL && memchr(bytes, '\0', length) != NULL)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "%s contains a zero byte", what);
    if (length > 0)
        memcpy(out, bytes, length);
    out[length] = '\0';
    return D2C_OK;
}

d2c_status
d2c_read_planes(d2c_sent_planes *planes, d2c_reader *in, d2c_error *err)
{
    uint32_t dtype = d2c_read_u32(in), i;

    *planes = (d2c_sent_planes){.ndim = d2c_read_u32(in)};
    if (dtype != D2C_F32)
        return d2c_fail(err, D2C_BAD_DATA, "malformed request");
    for (i = 0; i < planes->ndim && !in->bad; i++) {
        int64_t dim = d2c_read_i64(in);

        if (i < 3)
            planes->dim[i] = dim;
    }
    planes->bytes = d2c_read_bytes(in, &planes->length);
    return D2C_OK;
}

d2c_status
d2c_copy_planes(float *x, int64_t count, const d2c_sent_planes *planes, d2c_error *err)
{
    int64_t i;

    if (planes->length < (size_t)count * sizeof *x)
        return d2c_fail(err, D2C_BAD_DATA, "malformed request");
    memcpy(x, planes->bytes, (size_t)count * sizeof *x);
    for (i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return d2c_fail(err, D2C_BAD_DATA, "tensor contains NaN or infinity");
    return D2C_OK;
}

d2c_status
d2c_read_model_name(char out[D2C_MODEL_NAME_SIZE], d2c_reader *in, d2c_error *err)
{
    d2c_status status = d2c_read_string(out, D2C_MODEL_NAME_SIZE, in, "name of the model", err);

    if (status != D2C_OK)
        status = err->status = D2C_NOT_FOUND;
    return status;
}

d2c_status
d2c_read_finish(const d2c_reader *in, d2c_error *err)
{
    if (in->bad || in->at != in->end)
        return d2c_fail(err, D2C_BAD_DATA, "malformed request");
    return D2C_OK;
}

static void
put_error(d2c_buffer *reply, const d2c_error *err)
{
    d2c_buffer_reset(reply);
    d2c_put_string(reply, err->message);
    d2c_put_string(reply, err->detail);
    d2c_put_string(reply, err->hint);
}

void
d2c_task_fail(d2c_task *task, const d2c_error *err)
{
    put_error(&task->reply, err);
    if (task->reply.failed)
        d2c_buffer_reset(&task->reply); /* the client reads missing strings as empty */
    task->frame.status = err->status;
    task->frame.length = (uint32_t)task->reply.length;
}

void
d2c_request_lost(d2c_worker *worker, d2c_error *failure)
{
    d2c_backend_error(d2c_worker_backend(worker), failure);
    failure->status = D2C_DEVICE;
    d2c_hint(failure, "The next call starts a fresh engine.");
}

/* One try.  What a failed one has queued is waited for: it uses memory that is given back next, and its end may be that
 * of the device. */
static d2c_status
try_once(d2c_worker *worker, d2c_request_function function, d2c_task *task, int *short_of_memory,
         d2c_error *err)
{
    d2c_reader in = {task->payload, task->payload + task->frame.length, 0};
    d2c_backend *be = d2c_worker_backend(worker);
    d2c_status status;

    d2c_buffer_reset(&task->reply);
    be->error.status = D2C_OK;
    status = function(worker, &in, &task->reply, err);
    *short_of_memory = status == D2C_NO_MEMORY && be->error.status == D2C_NO_MEMORY;
    if (status != D2C_OK && !be->lost)
        d2c_synchronize(be);
    return status;
}

/* The settings that decide how much of the device's memory is asked for. */
static void
explain_memory(d2c_worker *worker, d2c_error *err)
{
    size_t available, total;

    if (err->detail[0] == '\0' && d2c_memory_use(d2c_worker_backend(worker), &available, &total) == D2C_OK &&
        total > 0)
        d2c_detail(err, "%zu of %zu MB of the device are free.", available >> 20, total >> 20);
    if (err->hint[0] == '\0')
        d2c_hint(err, "Lower d2c.threads or d2c.engine_memory, or end what else uses device \"%s\".",
                 d2c_worker_pool(worker)->device);
}

/* Tries until it succeeds, fails for another reason than memory, or no room can be made any more. */
static d2c_status
try_all(d2c_worker *worker, d2c_request_function function, d2c_task *task, d2c_error *err)
{
    int short_of_memory;
    d2c_status status;

    d2c_worker_begin(worker);
    do
        status = try_once(worker, function, task, &short_of_memory, err);
    while (short_of_memory && d2c_worker_make_room(worker));
    d2c_worker_end(worker);
    if (short_of_memory)
        explain_memory(worker, err);
    return status;
}

void
d2c_request_run(d2c_worker *worker, d2c_task *task)
{
    d2c_request_function function = NULL;
    d2c_error err = {D2C_OK, "", "", ""};
    d2c_status status;

    if (task->frame.kind < sizeof functions / sizeof functions[0])
        function = functions[task->frame.kind];
    if (function == NULL)
        status = d2c_fail(&err, D2C_INTERNAL, "unknown request %u", task->frame.kind);
    else
        status = try_all(worker, function, task, &err);
    if (status == D2C_OK && task->reply.failed)
        status = d2c_fail(&err, D2C_NO_MEMORY, "out of memory for the reply");
    if (d2c_worker_backend(worker)->lost) {
        d2c_request_lost(worker, &err);
        status = D2C_DEVICE;
    }
    if (status != D2C_OK) {
        err.status = status;
        d2c_task_fail(task, &err);
        return;
    }
    task->frame.status = D2C_OK;
    task->frame.length = (uint32_t)task->reply.length;
}
