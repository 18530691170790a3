/* requests.c: from a task to its reply. */
#include "engine/requests.h"

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
d2c_request_run(d2c_worker *worker, d2c_task *task)
{
    d2c_reader in = {task->payload, task->payload + task->frame.length, 0};
    d2c_request_function function = NULL;
    d2c_error err = {D2C_OK, "", "", ""};
    d2c_status status;

    if (task->frame.kind < sizeof functions / sizeof functions[0])
        function = functions[task->frame.kind];
    if (function == NULL)
        status = d2c_fail(&err, D2C_INTERNAL, "unknown request %u", task->frame.kind);
    else
        status = function(worker, &in, &task->reply, &err);
    if (status == D2C_OK && task->reply.failed)
        status = d2c_fail(&err, D2C_NO_MEMORY, "out of memory for the reply");
    if (status != D2C_OK) {
        err.status = status;
        d2c_task_fail(task, &err);
        return;
    }
    task->frame.status = D2C_OK;
    task->frame.length = (uint32_t)task->reply.length;
}
