/* connection.c: one client: frames read into tasks, finished tasks written back. */
#include "engine/connection.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/progress.h"

/* Limits of what one connection may have under way before it is no longer read. */
#define LANE_TASKS 2048
#define LANE_BYTES ((size_t)256 << 20)

/* A payload's memory grows as its bytes arrive, so that a length alone takes no memory. */
#define FIRST_BODY 65536

d2c_connection *
d2c_connection_create(int fd)
{
    d2c_connection *connection = calloc(1, sizeof *connection);

    if (connection != NULL) {
        connection->fd = fd;
        connection->last_use = d2c_clock();
    }
    return connection;
}

void
d2c_connection_close(d2c_connection *connection, d2c_queue *queue)
{
    d2c_task *task, *next;

    close(connection->fd);
    connection->fd = -1;
    free(connection->body);
    connection->body = NULL;
    for (task = connection->out_first; task != NULL; task = next) {
        next = task->next;
        d2c_task_free(task);
    }
    connection->out_first = connection->out_last = NULL;
    d2c_queue_drop(queue, &connection->lane);
}

/* Room for more of the payload; 0 when out of memory. */
static int
grow_body(d2c_connection *connection)
{
    size_t wanted = connection->body_capacity == 0 ? FIRST_BODY : connection->body_capacity * 2;
    char *body;

    if (connection->body_bytes < connection->body_capacity)
        return 1;
    if (wanted > connection->head.length)
        wanted = connection->head.length;
    body = realloc(connection->body, wanted > 0 ? wanted : 1);
    if (body == NULL)
        return 0;
    connection->body = body;
    connection->body_capacity = wanted;
    return 1;
}

/* A request is complete: makes it a task, whose payload has an address even when it is empty. */
static d2c_task *
take_task(d2c_connection *connection)
{
    d2c_task *task =
        connection->body != NULL || grow_body(connection) ? d2c_task_create(&connection->head) : NULL;

    if (task == NULL)
        return NULL;
    task->payload = connection->body;
    connection->body = NULL;
    connection->body_bytes = connection->body_capacity = 0;
    connection->head_bytes = 0;
    return task;
}

/* One recv into header or payload: 1 went on, 0 nothing there, -1 the client is gone. */
static int
receive(d2c_connection *connection, void *target, size_t wanted, size_t *have)
{
    ssize_t n = recv(connection->fd, target, wanted, 0);

    if (n > 0) {
        *have += (size_t)n;
        return 1;
    }
    if (n < 0 && errno == EINTR)
        return 1;
    return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? 0 : -1;
}

int
d2c_connection_read(d2c_connection *connection, d2c_task **task)
{
    d2c_frame *head = &connection->head;
    int went = 1;

    *task = NULL;
    while (went == 1) {
        if (connection->head_bytes < sizeof *head) {
            went = receive(connection, (char *)head + connection->head_bytes,
                           sizeof *head - connection->head_bytes, &connection->head_bytes);
            if (connection->head_bytes < sizeof *head)
                continue;
            if (head->magic != D2C_PROTOCOL_MAGIC || head->length > D2C_FRAME_LIMIT)
                return 0;
        }
        if (connection->body_bytes == head->length) {
            *task = take_task(connection);
            return *task != NULL;
        }
        if (!grow_body(connection))
            return 0;
        went = receive(connection, connection->body + connection->body_bytes,
                       connection->body_capacity - connection->body_bytes, &connection->body_bytes);
    }
    return went == 0;
}

void
d2c_connection_reply(d2c_connection *connection, d2c_task *task)
{
    task->next = NULL;
    if (connection->out_first == NULL)
        connection->out_first = task;
    else
        connection->out_last->next = task;
    connection->out_last = task;
    connection->out_bytes += task->frame.length;
    connection->last_use = d2c_clock();
}

/* The first reply has been written whole. */
static void
finish_reply(d2c_connection *connection)
{
    d2c_task *task = connection->out_first;

    connection->out_first = task->next;
    connection->out_sent = 0;
    connection->out_bytes -= task->frame.length;
    d2c_task_free(task);
}

int
d2c_connection_write(d2c_connection *connection)
{
    while (connection->out_first != NULL) {
        d2c_task *task = connection->out_first;
        size_t in_frame =
            connection->out_sent < sizeof task->frame ? connection->out_sent : sizeof task->frame;
        size_t in_body = connection->out_sent - in_frame;
        struct iovec part[2] = {{(char *)&task->frame + in_frame, sizeof task->frame - in_frame},
                                {task->reply.data, task->frame.length - in_body}};
        struct msghdr message = {.msg_iov = part, .msg_iovlen = 2};
        ssize_t n;

        if (in_body > 0)
            part[1].iov_base = task->reply.data + in_body;
        n = sendmsg(connection->fd, &message, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN || errno == EWOULDBLOCK;
        connection->out_sent += (size_t)n;
        if (connection->out_sent == sizeof task->frame + task->frame.length)
            finish_reply(connection);
    }
    return 1;
}

short
d2c_connection_events(d2c_connection *connection, d2c_queue *queue)
{
    short events = connection->out_first != NULL ? POLLOUT : 0;
    size_t bytes;
    int tasks;

    d2c_lane_load(queue, &connection->lane, &tasks, &bytes);
    if (!connection->leaving && tasks < LANE_TASKS && bytes + connection->out_bytes < LANE_BYTES)
        events |= POLLIN;
    return events;
}
