/* control.c: the requests that the server answers by itself, and what it says unasked. */
#include "engine/server.h"

#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/progress.h"
#include "engine/log.h"
#include "engine/requests.h"

static void put_line(d2c_buffer *out, uint32_t *lines, const char *name, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void
put_line(d2c_buffer *out, uint32_t *lines, const char *name, const char *format, ...)
{
    char value[4096];
    va_list args;

    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    d2c_put_string(out, name);
    d2c_put_string(out, value);
    ++*lines;
}

/* The process's memory in MB, from the kernel; 0 where it does not tell. */
static long
resident_megabytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;

    if (file == NULL)
        return 0;
    if (fscanf(file, "%*s %ld", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
}

static void
put_status(const d2c_server *server, d2c_buffer *out)
{
    d2c_queue_counts counts = d2c_queue_count(server->pool.queue);
    d2c_registry_use use = d2c_registry_usage(server->pool.registry);
    d2c_buffer lines = {0};
    uint32_t n = 0;

    put_line(&lines, &n, "device", "%s", server->pool.device);
    put_line(&lines, &n, "precision", "%s", server->pool.precision);
    put_line(&lines, &n, "build", "%s", server->options->build);
    put_line(&lines, &n, "pid", "%d", (int)getpid());
    put_line(&lines, &n, "uptime_seconds", "%.0f", d2c_clock() - server->started);
    put_line(&lines, &n, "threads", "%d", server->pool.threads);
    put_line(&lines, &n, "connections", "%d", server->connection_count);
    put_line(&lines, &n, "queued", "%d", counts.waiting);
    put_line(&lines, &n, "computing", "%d", counts.running);
    put_line(&lines, &n, "finished", "%lld", (long long)counts.finished);
    put_line(&lines, &n, "models_loaded", "%d", use.models);
    put_line(&lines, &n, "model_memory_mb", "%zu", use.bytes >> 20);
    put_line(&lines, &n, "memory_limit_mb", "%zu", use.limit >> 20);
    put_line(&lines, &n, "resident_memory_mb", "%ld", resident_megabytes());
    put_line(&lines, &n, "arithmetic", "%s", server->arithmetic);
    if (server->fallback[0] != '\0')
        put_line(&lines, &n, "fallback", "%s", server->fallback);
    put_line(&lines, &n, "settings", "%s", server->settings);
    put_line(&lines, &n, "log", "%s", server->log);
    d2c_put_u32(out, n);
    d2c_put_raw(out, lines.data, lines.length);
    out->failed |= lines.failed;
    d2c_buffer_free(&lines);
}

static d2c_status
other_build(const d2c_server *server, const char *build, d2c_error *err)
{
    int service = !server->options->server_pipes;

    d2c_fail(err, service ? D2C_INTERNAL : D2C_UNSUPPORTED,
             "the d2c engine is of another build than this session");
    d2c_detail(err, "The engine's is %s, the session's %s.", server->options->build, build);
    d2c_hint(err, service ? "Restart the engine's service, then reconnect."
                          : "Reconnect to load the installed d2c.");
    return err->status;
}

/* A service's settings are its own; an engine that a server started has those of its configuration file. */
static d2c_status
check_hello(const d2c_server *server, d2c_reader *in, d2c_error *err)
{
    char build[64], settings[D2C_SETTINGS_SIZE];

    D2C_TRY(d2c_read_string(build, sizeof build, in, "build id", err));
    D2C_TRY(d2c_read_string(settings, sizeof settings, in, "settings", err));
    D2C_TRY(d2c_read_finish(in, err));
    if (strcmp(build, server->options->build) != 0)
        return other_build(server, build, err);
    if (!server->options->server_pipes || strcmp(settings, server->settings) == 0)
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "the d2c engine runs with other settings than this session");
    d2c_detail(err, "The engine's are: %s", server->settings);
    d2c_hint(err, "Two servers' processes may disagree for a moment after a reload; repeat the command.");
    return D2C_UNSUPPORTED;
}

static d2c_status
answer_hello(d2c_server *server, d2c_connection *connection, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    d2c_status status = check_hello(server, in, err);

    if (status == D2C_UNSUPPORTED) {
        d2c_log(server->log, D2C_LOG_LIMIT, "gives its place to another engine: %s", err->message);
        d2c_server_release(server);
    }
    if (status != D2C_OK) {
        connection->leaving = 1;
        return status;
    }
    connection->greeted = 1;
    d2c_put_string(out, server->options->build);
    d2c_put_string(out, server->pool.device);
    d2c_put_string(out, server->pool.precision);
    d2c_put_i64(out, getpid());
    return D2C_OK;
}

int
d2c_server_control(d2c_server *server, d2c_connection *connection, d2c_task *task)
{
    d2c_reader in = {task->payload, task->payload + task->frame.length, 0};
    d2c_status status = D2C_OK;
    d2c_error err;

    if (task->frame.kind == D2C_REQUEST_HELLO)
        status = answer_hello(server, connection, &in, &task->reply, &err);
    else if (task->frame.kind == D2C_REQUEST_STATUS)
        put_status(server, &task->reply);
    else if (task->frame.kind == D2C_REQUEST_STOP) {
        server->stopping = 1;
        d2c_server_release(server);
    } else if (!connection->greeted) {
        connection->leaving = 1;
        status = d2c_fail(&err, D2C_INTERNAL, "the first request of a connection must be its hello");
    } else
        return 0;
    if (status == D2C_OK && task->reply.failed)
        status = d2c_fail(&err, D2C_NO_MEMORY, "out of memory for the reply");
    task->frame.status = status;
    task->frame.length = (uint32_t)task->reply.length;
    if (status != D2C_OK)
        d2c_task_fail(task, &err);
    d2c_connection_reply(connection, task);
    return 1;
}

void
d2c_server_goodbye(d2c_connection *connection)
{
    d2c_frame frame = {D2C_PROTOCOL_MAGIC, 0, D2C_GOODBYE, D2C_OK, 0};
    d2c_task *task = d2c_task_create(&frame);

    connection->leaving = 1;
    if (task != NULL)
        d2c_connection_reply(connection, task);
}

void
d2c_server_report(const d2c_engine_options *options, char tag, const d2c_error *err)
{
    d2c_buffer report = {0};

    if (!options->server_pipes)
        return;
    d2c_put_raw(&report, &tag, 1);
    if (err != NULL) {
        d2c_put_raw(&report, err->message, strlen(err->message) + 1);
        d2c_put_raw(&report, err->detail, strlen(err->detail) + 1);
        d2c_put_raw(&report, err->hint, strlen(err->hint) + 1);
    }
    /* Whoever started us may have been cancelled meanwhile. */
    if (write(D2C_REPORT_FD, report.data, report.length) < 0)
        d2c_buffer_reset(&report);
    d2c_buffer_free(&report);
    close(D2C_REPORT_FD);
}
