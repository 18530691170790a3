/*
 * engine.h: the engine's process.
 *
 * d2c_engine_supervise is what a server starts: it forks the worker, waits, and returns normally whatever became of it,
 * because the parent that adopted it may be a postmaster, which takes a child's death by a signal for a crash of the
 * database.  It parses nothing.  d2c_engine_serve is the worker, or the whole engine when it runs as a service.
 */
#ifndef D2C_ENGINE_ENGINE_H
#define D2C_ENGINE_ENGINE_H

#include "engine/protocol.h"

typedef struct d2c_engine_options {
    const char *socket_path;    /* relative names start in the data directory */
    const char *data_directory; /* its owner may connect */
    d2c_settings settings;
    int server_pipes; /* fds 3 and 4 are the server's death pipe and report (protocol.h) */
    const char *build;
} d2c_engine_options;

/* Serves until idle, stopped, or the server or supervisor is gone; supervisor_fd is the pipe that ends with it, or -1.
 * Returns a failure to start, which has been reported; otherwise never returns but ends the process. */
d2c_status d2c_engine_serve(const d2c_engine_options *options, int supervisor_fd, d2c_error *err);

/* Forks the worker and waits for its end. */
d2c_status d2c_engine_supervise(const d2c_engine_options *options, d2c_error *err);

/* Where the log and the lock of a socket lie: the socket's name with ".log", ".lock" in place of ".sock". */
d2c_status d2c_engine_beside(char *path, size_t size, const char *socket_path, const char *suffix,
                             d2c_error *err);

#endif
