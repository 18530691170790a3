/* test_protocol.c: the engine's parts without a process: payloads, the log, the queue's turns, one connection. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "engine/buffer.h"
#include "engine/connection.h"
#include "engine/log.h"
#include "engine/queue.h"

/* ---- payloads ----------------------------------------------------------------------------------------------------- */

static void
values_come_back(void)
{
    int64_t dims[] = {2, 3};
    float data[6] = {1, 2, 3, 4, 5, 6};
    d2c_buffer b = {0};
    d2c_reader r;
    size_t length;

    d2c_put_u32(&b, 4000000000u);
    d2c_put_i64(&b, -5);
    d2c_put_f64(&b, 0.1);
    d2c_put_string(&b, "größe");
    d2c_put_bytes(&b, "\0\1", 2);
    d2c_put_tensor(&b, 0, 2, dims, data, sizeof data);
    CHECK(!b.failed);
    r = (d2c_reader){b.data, b.data + b.length, 0};
    CHECK(d2c_read_u32(&r) == 4000000000u);
    CHECK(d2c_read_i64(&r) == -5);
    CHECK(d2c_read_f64(&r) == 0.1);
    CHECK(memcmp(d2c_read_bytes(&r, &length), "größe", 7) == 0 && length == 7);
    CHECK(memcmp(d2c_read_bytes(&r, &length), "\0\1", 2) == 0 && length == 2);
    CHECK(d2c_read_u32(&r) == 0 && d2c_read_u32(&r) == 2);
    CHECK(d2c_read_i64(&r) == 2 && d2c_read_i64(&r) == 3);
    CHECK(memcmp(d2c_read_bytes(&r, &length), data, sizeof data) == 0 && length == sizeof data);
    CHECK(r.at == r.end && !r.bad);
    d2c_buffer_free(&b);
}

/* Every prefix of a payload ends in `bad` and zeroes, never in a read past the end. */
static void
short_payloads_are_bad(void)
{
    d2c_buffer b = {0};
    size_t cut, length;

    d2c_put_u32(&b, 7);
    d2c_put_string(&b, "abc");
    d2c_put_i64(&b, 9);
    for (cut = 0; cut < b.length; cut++) {
        char *copy = malloc(cut > 0 ? cut : 1);
        d2c_reader r = {copy, copy + cut, 0};

        memcpy(copy, b.data, cut);
        d2c_read_u32(&r);
        d2c_read_bytes(&r, &length);
        CHECK(d2c_read_i64(&r) == 0);
        CHECK(r.bad);
        CHECK(d2c_read_bytes(&r, &length) == NULL && length == 0);
        free(copy);
    }
    d2c_buffer_free(&b);
}

static void
lengths_beyond_the_payload_are_bad(void)
{
    uint32_t huge = 0xffffffffu;
    d2c_reader r = {(char *)&huge, (char *)&huge + sizeof huge, 0};
    size_t length;

    CHECK(d2c_read_bytes(&r, &length) == NULL && length == 0 && r.bad);
}

static void
a_reply_beyond_the_limit_fails(void)
{
    d2c_buffer b = {0};

    d2c_put_u32(&b, 1);
    d2c_put_raw(&b, NULL, (size_t)D2C_FRAME_LIMIT - 3);
    CHECK(b.failed && b.length == 4);
    d2c_put_u32(&b, 2);
    CHECK(b.length == 4);
    d2c_buffer_reset(&b);
    d2c_put_u32(&b, 3);
    CHECK(!b.failed && b.length == 4);
    d2c_buffer_free(&b);
}

/* ---- log ---------------------------------------------------------------------------------------------------------- */

static void
the_log_is_capped(void)
{
    char folder[] = "/tmp/d2c-log-XXXXXX", path[64], old[64];
    struct stat now, before;
    int i;

    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/d2c.log", folder);
    snprintf(old, sizeof old, "%s/d2c.log.old", folder);
    for (i = 0; i < 1000; i++)
        d2c_log(path, 4096, "line %d", i);
    CHECK(stat(path, &now) == 0 && now.st_size > 0 && now.st_size < 4096 + 2048);
    CHECK(stat(old, &before) == 0 && before.st_size > 4096 && before.st_size < 4096 + 2048);
    unlink(path);
    unlink(old);
    rmdir(folder);
}

/* ---- queue -------------------------------------------------------------------------------------------------------- */

static d2c_task *
new_task(uint64_t id)
{
    d2c_frame frame = {D2C_PROTOCOL_MAGIC, 100, D2C_REQUEST_PHASH, 0, id};

    return d2c_task_create(&frame);
}

static void
lanes_take_turns(void)
{
    static const uint64_t wanted[] = {1, 11, 2, 12, 3, 4};
    d2c_lane a = {0}, b = {0};
    uint64_t seen = 0, i;
    d2c_queue *queue;
    d2c_task *task, *next;
    d2c_error err;
    int wake[2], tasks;
    size_t bytes;

    CHECK(pipe(wake) == 0);
    CHECK_OK(d2c_queue_create(&queue, wake[1], &err), &err);
    for (i = 1; i <= 4; i++)
        d2c_queue_push(queue, &a, new_task(i));
    for (i = 11; i <= 12; i++)
        d2c_queue_push(queue, &b, new_task(i));
    for (i = 0; i < 6; i++) {
        task = d2c_queue_pop(queue, &seen);
        CHECK(task->frame.id == wanted[i]);
        d2c_queue_finish(queue, task);
    }
    d2c_lane_load(queue, &a, &tasks, &bytes);
    CHECK(tasks == 4 && bytes == 0);
    for (task = d2c_queue_take_done(queue), i = 0; task != NULL; task = next, i++) {
        next = task->next;
        CHECK(task->frame.id == wanted[i]);
        d2c_task_free(task);
    }
    CHECK(i == 6);
    d2c_lane_load(queue, &a, &tasks, &bytes);
    CHECK(tasks == 0);
    d2c_queue_destroy(queue);
    close(wake[0]);
    close(wake[1]);
}

static void
dropped_work_is_gone(void)
{
    d2c_lane a = {0}, b = {0};
    uint64_t seen = 0;
    d2c_queue *queue;
    d2c_task *task;
    d2c_error err;
    int wake[2];

    CHECK(pipe(wake) == 0);
    CHECK_OK(d2c_queue_create(&queue, wake[1], &err), &err);
    d2c_queue_push(queue, &a, new_task(1));
    d2c_queue_push(queue, &a, new_task(2));
    d2c_queue_push(queue, &b, new_task(3));
    d2c_queue_drop(queue, &a);
    CHECK(d2c_queue_count(queue).waiting == 1);
    d2c_queue_push(queue, &a, new_task(4));
    task = d2c_queue_pop(queue, &seen);
    CHECK(task->frame.id == 3);
    d2c_task_free(task);
    task = d2c_queue_pop(queue, &seen);
    CHECK(task->frame.id == 4);
    d2c_task_free(task);
    d2c_queue_rouse(queue);
    CHECK(d2c_queue_pop(queue, &seen) == NULL);
    d2c_queue_destroy(queue);
    close(wake[0]);
    close(wake[1]);
}

/* ---- connection --------------------------------------------------------------------------------------------------- */

/* A queue, a connection at one end of a socket pair, and the other end. */
typedef struct wire {
    d2c_queue *queue;
    d2c_connection *connection;
    int peer, wake[2];
} wire;

static void
open_wire(wire *w)
{
    int ends[2];
    d2c_error err;

    CHECK(pipe(w->wake) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    CHECK_OK(d2c_queue_create(&w->queue, w->wake[1], &err), &err);
    w->connection = d2c_connection_create(ends[0]);
    w->peer = ends[1];
}

static void
close_wire(wire *w)
{
    d2c_connection_close(w->connection, w->queue);
    free(w->connection);
    d2c_queue_destroy(w->queue);
    if (w->peer >= 0)
        close(w->peer);
    close(w->wake[0]);
    close(w->wake[1]);
}

static void
requests_arrive_byte_by_byte(void)
{
    d2c_frame frame = {D2C_PROTOCOL_MAGIC, 5, D2C_REQUEST_PHASH, 0, 77};
    char bytes[sizeof frame + 5];
    d2c_task *task;
    size_t i;
    wire w;

    memcpy(bytes, &frame, sizeof frame);
    memcpy(bytes + sizeof frame, "hello", 5);
    open_wire(&w);
    for (i = 0; i < sizeof bytes; i++) {
        CHECK(d2c_connection_read(w.connection, &task) && task == NULL);
        CHECK(write(w.peer, bytes + i, 1) == 1);
    }
    CHECK(d2c_connection_read(w.connection, &task) && task != NULL);
    if (task != NULL) {
        CHECK(task->frame.id == 77 && memcmp(task->payload, "hello", 5) == 0);
        d2c_task_free(task);
    }
    close_wire(&w);
}

static void
strangers_are_refused(void)
{
    d2c_frame wrong_magic = {0x12345678, 0, D2C_REQUEST_PHASH, 0, 1};
    d2c_frame too_long = {D2C_PROTOCOL_MAGIC, D2C_FRAME_LIMIT + 1, D2C_REQUEST_PHASH, 0, 1};
    const d2c_frame *frames[] = {&wrong_magic, &too_long};
    d2c_task *task;
    wire w;
    int i;

    for (i = 0; i < 2; i++) {
        open_wire(&w);
        CHECK(write(w.peer, frames[i], sizeof(d2c_frame)) == sizeof(d2c_frame));
        CHECK(!d2c_connection_read(w.connection, &task) && task == NULL);
        close_wire(&w);
    }
}

/* A length alone takes no memory: the payload grows with its bytes. */
static void
a_promised_gigabyte_costs_little(void)
{
    d2c_frame frame = {D2C_PROTOCOL_MAGIC, D2C_FRAME_LIMIT, D2C_REQUEST_PHASH, 0, 1};
    d2c_task *task;
    wire w;

    open_wire(&w);
    CHECK(write(w.peer, &frame, sizeof frame) == sizeof frame);
    CHECK(write(w.peer, "abc", 3) == 3);
    CHECK(d2c_connection_read(w.connection, &task) && task == NULL);
    CHECK(w.connection->body_bytes == 3 && w.connection->body_capacity <= 65536);
    close(w.peer);
    w.peer = -1;
    CHECK(!d2c_connection_read(w.connection, &task) && task == NULL);
    close_wire(&w);
}

/* A client that does not read is not read either, and nothing blocks. */
static void
replies_wait_for_a_slow_client(void)
{
    const size_t size = 1 << 20;
    char *payload = calloc(1, size), *got = malloc(size + sizeof(d2c_frame));
    size_t have = 0;
    ssize_t n;
    wire w;
    int i;

    open_wire(&w);
    for (i = 0; i < 300; i++) {
        d2c_task *task = new_task((uint64_t)i);

        d2c_put_raw(&task->reply, payload, size);
        task->frame.length = (uint32_t)size;
        d2c_connection_reply(w.connection, task);
    }
    CHECK(d2c_connection_write(w.connection));
    CHECK(w.connection->out_first != NULL);
    CHECK(d2c_connection_events(w.connection, w.queue) == POLLOUT);
    while (have < size + sizeof(d2c_frame)) {
        n = read(w.peer, got + have, size + sizeof(d2c_frame) - have);
        if (n > 0)
            have += (size_t)n;
        else
            CHECK(n < 0 && errno == EAGAIN && d2c_connection_write(w.connection));
        if (n == 0)
            break;
    }
    CHECK(((d2c_frame *)got)->id == 0 && ((d2c_frame *)got)->length == size);
    CHECK(memcmp(got + sizeof(d2c_frame), payload, size) == 0);
    close(w.peer);
    w.peer = -1;
    CHECK(!d2c_connection_write(w.connection));
    close_wire(&w);
    free(payload);
    free(got);
}

int
main(void)
{
    RUN(values_come_back);
    RUN(short_payloads_are_bad);
    RUN(lengths_beyond_the_payload_are_bad);
    RUN(a_reply_beyond_the_limit_fails);
    RUN(the_log_is_capped);
    RUN(lanes_take_turns);
    RUN(dropped_work_is_gone);
    RUN(requests_arrive_byte_by_byte);
    RUN(strangers_are_refused);
    RUN(a_promised_gigabyte_costs_little);
    RUN(replies_wait_for_a_slow_client);
    return check_report();
}
