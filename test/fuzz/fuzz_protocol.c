/*
 * fuzz_protocol.c: any bytes as what a client sends: through the connection's reader, each whole request answered.
 *
 *    make fuzz && build/fuzz/fuzz_protocol CORPUS test/golden/protocol/seeds     (in the tree's root)
 *
 * Frames of the right magic are made of the input: a kind, a length, then the payload; so most inputs reach a request.
 */
#define _GNU_SOURCE /* SOCK_NONBLOCK */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/connection.h"
#include "engine/requests.h"

#define PIXEL_LIMIT (1 << 16)

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

static d2c_pool pool = {
    .device = "reference", .precision = "f32", .build = "fuzz", .max_image_pixels = PIXEL_LIMIT};
static d2c_worker *worker;
static int wake[2];

static void
set_up(void)
{
    d2c_error err;

    if (worker != NULL)
        return;
    if (pipe(wake) != 0 || d2c_queue_create(&pool.queue, wake[1], &err) != D2C_OK ||
        d2c_registry_create(&pool.registry, "test/golden/models", D2C_F32, (size_t)1 << 30, NULL, NULL,
                            &err) != D2C_OK ||
        d2c_worker_open(&worker, &pool, &err) != D2C_OK)
        abort();
}

/* A reply is either what was asked for or an error with a message. */
static void
answer(d2c_task *task)
{
    d2c_reader r = {"", "", 0};
    size_t message;

    d2c_request_run(worker, task);
    if (task->frame.length != task->reply.length)
        abort();
    if (task->reply.length > 0)
        r = (d2c_reader){task->reply.data, task->reply.data + task->reply.length, 0};
    if (task->frame.status != D2C_OK && (d2c_read_bytes(&r, &message) == NULL || message == 0))
        abort();
}

static void
serve(d2c_connection *connection)
{
    d2c_task *task;

    while (d2c_connection_read(connection, &task) && task != NULL) {
        answer(task);
        d2c_task_free(task);
    }
    if (task != NULL)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    d2c_connection *connection;
    int ends[2];

    set_up();
    if (length < 2 || length > 16384 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) != 0)
        return 0;
    connection = d2c_connection_create(ends[0]);
    while (length >= 2) {
        size_t body = bytes[1] * 8 < length - 2 ? bytes[1] * 8u : length - 2;
        d2c_frame frame = {D2C_PROTOCOL_MAGIC, (uint32_t)body, bytes[0] % 32, 0, length};

        if (write(ends[1], &frame, sizeof frame) < 0 || write(ends[1], bytes + 2, body) < 0)
            break;
        bytes += 2 + body;
        length -= 2 + body;
    }
    serve(connection);
    d2c_connection_close(connection, pool.queue);
    free(connection);
    close(ends[1]);
    return 0;
}
