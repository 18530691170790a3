/*
 * connection.h: one client: frames read into tasks, finished tasks written back.
 *
 * Belongs to the server's thread; only the lane is shared.  Sockets never block.
 */
#ifndef D2C_ENGINE_CONNECTION_H
#define D2C_ENGINE_CONNECTION_H

#include "engine/queue.h"

typedef struct d2c_connection {
    struct d2c_connection *next;
    d2c_lane lane;
    int fd; /* -1 once closed; the struct lives on while its lane has something running */
    int greeted;
    int leaving;     /* closes when everything was written */
    double last_use; /* seconds of d2c_clock */

    d2c_frame head; /* of the request being read */
    size_t head_bytes;
    char *body;
    size_t body_bytes, body_capacity;

    d2c_task *out_first, *out_last; /* replies to write */
    size_t out_sent;                /* of the first, header included */
    size_t out_bytes;
} d2c_connection;

d2c_connection *d2c_connection_create(int fd);
/* Closes the socket and frees what was read and not written; the queue's share is dropped. */
void d2c_connection_close(d2c_connection *connection, d2c_queue *queue);

/* Reads what there is.  *task is the next whole request, or NULL; call again until it is NULL.  False: the client is
 * gone or does not speak the protocol. */
int d2c_connection_read(d2c_connection *connection, d2c_task **task);

void d2c_connection_reply(d2c_connection *connection, d2c_task *task);
/* Writes what the socket takes; false: the client is gone. */
int d2c_connection_write(d2c_connection *connection);

/* The poll events that it waits for: it is not read while much is queued for it. */
short d2c_connection_events(d2c_connection *connection, d2c_queue *queue);

#endif
