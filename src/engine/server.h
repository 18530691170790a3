/* server.h: the server's own state; shared by server.c (the loop), listen.c (socket and lock), control.c (what it answers
 * by itself). */
#ifndef D2C_ENGINE_SERVER_H
#define D2C_ENGINE_SERVER_H

#include <sys/types.h>

#include "engine/connection.h"
#include "engine/engine.h"
#include "engine/worker.h"

typedef struct d2c_server {
    const d2c_engine_options *options;
    char settings[D2C_SETTINGS_SIZE];
    char log[4096];
    char device[16];     /* the pool's */
    char arithmetic[64]; /* the backend's: what computes there */
    char fallback[1024]; /* why "auto" came to the CPU; "" when it did not */
    d2c_pool pool;
    int listener; /* -1 once it has given up its socket */
    int lock;
    int wake[2]; /* written by the threads when a task is done */
    int supervisor_fd;
    int stopping;
    double failed; /* when the device was lost; 0: it was not */
    uid_t owner;   /* of the data directory */
    double started, last_work;
    d2c_connection *connections;
    int connection_count;
} d2c_server;

/* Takes the lock and listens.  *busy: another engine holds the lock, which is no failure. */
d2c_status d2c_server_listen(d2c_server *server, int *busy, d2c_error *err);
/* Stops listening and gives up socket and lock, so that another engine can take the place. */
void d2c_server_release(d2c_server *server);
/* Removes the socket but keeps the lock: a successor waits until this process has ended, and with it what it holds on
 * the device. */
void d2c_server_hide(d2c_server *server);
/* SIGTERM and SIGINT end the process at once, the socket removed. */
void d2c_server_catch_signals(void);
/* A new client, or NULL: none, or one that may not connect. */
d2c_connection *d2c_server_accept(d2c_server *server);

/* Answers a request that needs no model; 0 when the request is for the threads. */
int d2c_server_control(d2c_server *server, d2c_connection *connection, d2c_task *task);
/* Tells a client that the engine leaves in good order. */
void d2c_server_goodbye(d2c_connection *connection);

/* Tells the server that started this engine how that went: err is the failure, or what to say about a success, or NULL. */
void d2c_server_report(const d2c_engine_options *options, char tag, const d2c_error *err);

#endif
