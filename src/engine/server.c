/*
 * server.c: the engine's main thread: it alone touches sockets, and never computes.
 *
 * One poll waits for clients, for finished work, and for the end of the server or the supervisor.  An engine that gave up
 * its socket to a successor goes on for the clients it has and leaves when they have been quiet for a while.
 */
#define _GNU_SOURCE /* pipe2 */
#include "engine/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/progress.h"
#include "engine/log.h"
#include "ops/backend.h"

#define FIXED_FDS 4       /* listener, wake, death pipe, supervisor */
#define TASKS_AT_ONCE 64  /* read from one client before the next has its turn */
#define QUIET_SECONDS 2.0 /* after which a successor's predecessor lets a client go */
#define DRAIN_TICK_MS 100
#define GOODBYE_MS 1000

/* ---- setting up --------------------------------------------------------------------------------------------------- */

/* What the device decides on where the settings leave it open. */
typedef struct choice {
    int gpu;
    size_t memory;
    d2c_dtype precision;
} choice;

static int
is_gpu(const d2c_backend *be)
{
    return strcmp(be->ops->name, "cuda") == 0;
}

/* Half of the machine's memory, the rest is the database's; 80 % of a GPU's, the rest is what scorers compute in. */
static d2c_status
default_memory(size_t *memory, d2c_backend *be, d2c_error *err)
{
    size_t available, total;

    if (d2c_memory_use(be, &available, &total) != D2C_OK)
        return d2c_backend_error(be, err);
    *memory = total > 0 ? total / 5 * 4 : (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
    return D2C_OK;
}

/* What d2c.precision may be, by name. */
static const struct {
    const char *name;
    d2c_dtype dtype;
} precisions[] = {{"f32", D2C_F32}, {"bf16", D2C_BF16}, {"fp8", D2C_F8}};

static const char *
precision_name(d2c_dtype dtype)
{
    size_t i = 0;

    while (precisions[i].dtype != dtype)
        i++;
    return precisions[i].name;
}

static d2c_status
choose_precision(d2c_dtype *precision, const char *name, const d2c_backend *be, const char *device,
                 d2c_error *err)
{
    size_t i = 0, count = sizeof precisions / sizeof precisions[0];

    *precision = is_gpu(be) && be->has_bf16 ? D2C_BF16 : D2C_F32;
    if (strcmp(name, "auto") == 0)
        return D2C_OK;
    while (i < count && strcmp(precisions[i].name, name) != 0)
        i++;
    if (i == count)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "unknown precision \"%s\"", name);
    *precision = precisions[i].dtype;
    if (d2c_precision_check(be, *precision, NULL) == D2C_OK)
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "device \"%s\" does not multiply %s", device, name);
    d2c_hint(err, "Set d2c.precision to f32 or auto.");
    return D2C_UNSUPPORTED;
}

/* Opens the device once, to learn what it is; each thread then opens it for itself. */
static d2c_status
choose_device(d2c_server *server, choice *chosen, const d2c_settings *settings, d2c_error *err)
{
    /* one device, one name: it stands in result tables */
    const char *wanted = strcmp(settings->device, "cuda") == 0 ? "cuda:0" : settings->device, *device;
    d2c_backend *be;
    d2c_status status;

    D2C_TRY(d2c_backend_choose(&be, &device, server->fallback, sizeof server->fallback, wanted, "cuda:0", 1,
                               err));
    snprintf(server->device, sizeof server->device, "%s", device);
    memcpy(server->arithmetic, be->arithmetic, sizeof server->arithmetic);
    chosen->gpu = is_gpu(be);
    chosen->memory = (size_t)settings->memory_limit << 20;
    status = choose_precision(&chosen->precision, settings->precision, be, device, err);
    if (status == D2C_OK && settings->memory_limit == 0)
        status = default_memory(&chosen->memory, be, err);
    d2c_backend_close(be);
    return status;
}

/* On a GPU threads decode and launch; more of them than keep it busy would only take its memory. */
#define MOST_GPU_THREADS 8

static int
choose_threads(const d2c_settings *settings, int gpu)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN), threads = cores > 2 ? cores - 1 : 1;

    if (settings->threads > 0)
        return (int)settings->threads;
    return (int)(gpu && threads > MOST_GPU_THREADS ? MOST_GPU_THREADS : threads);
}

/* The threads holding scorers of a model that was let go shall give it back. */
static void
on_released(void *closure)
{
    d2c_queue_rouse(closure);
}

static d2c_status
start_pool(d2c_server *server, d2c_error *err)
{
    const d2c_settings *settings = &server->options->settings;
    d2c_pool *pool = &server->pool;
    choice chosen = {0};

    if (pipe2(server->wake, O_NONBLOCK | O_CLOEXEC) != 0)
        return d2c_fail(err, D2C_IO, "could not create a pipe: %s", strerror(errno));
    D2C_TRY(choose_device(server, &chosen, settings, err));
    D2C_TRY(d2c_queue_create(&pool->queue, server->wake[1], err));
    D2C_TRY(d2c_relief_create(&pool->relief, err));
    D2C_TRY(d2c_registry_create(&pool->registry, settings->model_directory, chosen.precision, chosen.memory,
                                on_released, pool->queue, err));
    pool->device = server->device;
    pool->precision = precision_name(chosen.precision);
    pool->build = server->options->build;
    pool->log = server->log;
    pool->max_image_pixels = settings->max_image_pixels;
    pool->threads = choose_threads(settings, chosen.gpu);
    return d2c_workers_start(pool, err);
}

/* The engine holds what can be had again; the database's processes do not. */
static void
volunteer_for_oom(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, "900", 3) < 0)
        errno = 0; /* not Linux's rules: then there is nothing to raise */
    close(fd);
}

/* Every session that has asked something keeps its connection. */
static void
raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static d2c_status
start(d2c_server *server, int *busy, d2c_error *err)
{
    const d2c_engine_options *options = server->options;

    server->listener = server->lock = -1;
    server->started = server->last_work = d2c_clock();
    d2c_settings_text(server->settings, &options->settings);
    if (chdir(options->data_directory) != 0)
        return d2c_fail(err, D2C_IO, "could not change to directory \"%s\": %s", options->data_directory,
                        strerror(errno));
    D2C_TRY(d2c_engine_beside(server->log, sizeof server->log, options->socket_path, ".log", err));
    volunteer_for_oom();
    raise_descriptor_limit();
    d2c_server_catch_signals();
    D2C_TRY(d2c_server_listen(server, busy, err));
    return *busy ? D2C_OK : start_pool(server, err);
}

/* ---- leaving ------------------------------------------------------------------------------------------------------ */

static void
leave(d2c_server *server, const char *reason)
{
    d2c_server_release(server);
    d2c_log(server->log, D2C_LOG_LIMIT, "leaves: %s", reason);
    _exit(0);
}

/* Lets replies and goodbyes out, for a while. */
static void
flush_all(d2c_server *server)
{
    double limit = d2c_clock() + GOODBYE_MS / 1000.0;
    d2c_connection *c;
    int left = 1;

    while (left && d2c_clock() < limit) {
        left = 0;
        for (c = server->connections; c != NULL; c = c->next)
            if (c->fd >= 0 && c->out_first != NULL && d2c_connection_write(c) && c->out_first != NULL)
                left = 1;
        if (left)
            poll(NULL, 0, 10);
    }
}

static int
is_busy(const d2c_server *server, const d2c_connection *connection)
{
    int tasks;
    size_t bytes;

    d2c_lane_load(server->pool.queue, &connection->lane, &tasks, &bytes);
    return tasks > 0 || connection->out_first != NULL || connection->head_bytes > 0;
}

/* Leaves when nothing has been asked for long enough. */
static void
leave_when_idle(d2c_server *server)
{
    int64_t timeout = server->options->settings.idle_timeout;
    d2c_connection *c;

    if (timeout == 0 || d2c_clock() - server->last_work < (double)timeout)
        return;
    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0 && is_busy(server, c))
            return;
    d2c_server_release(server);
    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0)
            d2c_server_goodbye(c);
    flush_all(server);
    leave(server, "idle");
}

/* Serves on without a socket until every client has been quiet for a moment. */
static void
drain(d2c_server *server)
{
    d2c_connection *c;

    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0 && !c->leaving && !is_busy(server, c) && d2c_clock() - c->last_use > QUIET_SECONDS)
            d2c_server_goodbye(c);
    if (server->connections == NULL)
        leave(server, "replaced");
}

#define LAST_SECONDS 1.0 /* after a device was lost */

/* The device is lost: clients get their answers and go, and so does the engine when the last has, or after a moment. */
static void
leave_failed(d2c_server *server)
{
    d2c_connection *c;

    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0 && !c->leaving && !is_busy(server, c))
            d2c_server_goodbye(c);
    if (server->connections != NULL && d2c_clock() - server->failed < LAST_SECONDS)
        return;
    flush_all(server);
    leave(server, "its device is lost");
}

/* A thread has found the device lost.  The socket goes before the answers, so that whoever has got one finds no engine. */
static void
notice_failure(d2c_server *server)
{
    d2c_error failure;

    if (server->failed != 0 || !d2c_queue_failed(server->pool.queue, &failure))
        return;
    server->failed = d2c_clock();
    d2c_server_hide(server);
    d2c_log(server->log, D2C_LOG_LIMIT, "%s. %s", failure.message, failure.detail);
}

static int
poll_timeout(const d2c_server *server)
{
    int64_t timeout = server->options->settings.idle_timeout;
    double left = (double)timeout - (d2c_clock() - server->last_work);

    if (server->listener < 0)
        return DRAIN_TICK_MS;
    if (timeout == 0)
        return -1;
    if (left > 1000)
        return 1000 * 1000;
    return left < 0 ? DRAIN_TICK_MS : (int)(left * 1000) + 1;
}

/* ---- clients ------------------------------------------------------------------------------------------------------ */

/* Takes requests from one client; false: it is gone. */
static int
read_client(d2c_server *server, d2c_connection *connection)
{
    d2c_task *task = NULL;
    int i, alive = 1;

    for (i = 0; i < TASKS_AT_ONCE && alive && !connection->leaving; i++) {
        alive = d2c_connection_read(connection, &task);
        if (task == NULL)
            break;
        if (task->frame.kind != D2C_REQUEST_STATUS) /* being looked at is no work */
            server->last_work = d2c_clock();
        if (!d2c_server_control(server, connection, task))
            d2c_queue_push(server->pool.queue, &connection->lane, task);
    }
    return alive;
}

static void
serve_client(d2c_server *server, d2c_connection *connection, short events)
{
    int alive = 1;

    if (events & (POLLIN | POLLHUP | POLLERR))
        alive = read_client(server, connection);
    if (alive && connection->out_first != NULL)
        alive = d2c_connection_write(connection);
    if (!alive || (connection->leaving && connection->out_first == NULL))
        d2c_connection_close(connection, server->pool.queue);
}

/* Sends finished work to its clients; what nobody waits for any more is thrown away. */
static void
deliver(d2c_server *server)
{
    d2c_task *task, *next;
    char bytes[256];

    while (read(server->wake[0], bytes, sizeof bytes) > 0)
        ;
    for (task = d2c_queue_take_done(server->pool.queue); task != NULL; task = next) {
        d2c_connection *connection = (d2c_connection *)((char *)task->lane - offsetof(d2c_connection, lane));

        next = task->next;
        if (connection->fd >= 0)
            d2c_connection_reply(connection, task);
        else
            d2c_task_free(task);
        server->last_work = d2c_clock();
    }
}

/* Forgets closed connections whose last work has ended. */
static void
bury(d2c_server *server)
{
    d2c_connection **link = &server->connections, *connection;
    size_t bytes;
    int tasks;

    server->connection_count = 0;
    while ((connection = *link) != NULL) {
        d2c_lane_load(server->pool.queue, &connection->lane, &tasks, &bytes);
        if (connection->fd < 0 && tasks == 0) {
            *link = connection->next;
            free(connection);
            continue;
        }
        server->connection_count += connection->fd >= 0;
        link = &connection->next;
    }
}

static void
welcome(d2c_server *server)
{
    d2c_connection *connection = d2c_server_accept(server);

    if (connection == NULL)
        return;
    connection->next = server->connections;
    server->connections = connection;
}

/* ---- the loop ----------------------------------------------------------------------------------------------------- */

/* Fills fds [FIXED_FDS + connections] and returns how many; grows the array. */
static int
collect_fds(d2c_server *server, struct pollfd **fds, int *capacity)
{
    int n = FIXED_FDS, wanted = FIXED_FDS + server->connection_count + 1;
    d2c_connection *c;

    if (wanted > *capacity) {
        struct pollfd *grown = realloc(*fds, sizeof **fds * (size_t)wanted * 2);

        if (grown == NULL)
            leave(server, "out of memory");
        *fds = grown;
        *capacity = wanted * 2;
    }
    (*fds)[0] = (struct pollfd){server->listener, POLLIN, 0};
    (*fds)[1] = (struct pollfd){server->wake[0], POLLIN, 0};
    (*fds)[2] = (struct pollfd){server->options->server_pipes ? D2C_DEATH_FD : -1, POLLIN, 0};
    (*fds)[3] = (struct pollfd){server->supervisor_fd, POLLIN, 0};
    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0)
            (*fds)[n++] = (struct pollfd){c->fd, d2c_connection_events(c, server->pool.queue), 0};
    return n;
}

static void
step(d2c_server *server, struct pollfd **fds, int *capacity)
{
    int n = collect_fds(server, fds, capacity), i = FIXED_FDS;
    d2c_connection *c;

    if (poll(*fds, (nfds_t)n, poll_timeout(server)) < 0 && errno != EINTR)
        leave(server, strerror(errno));
    if ((*fds)[2].revents != 0)
        leave(server, "the database server has ended");
    if ((*fds)[3].revents != 0)
        leave(server, "the supervisor has ended");
    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0 && (*fds)[i++].revents != 0)
            serve_client(server, c, (*fds)[i - 1].revents);
    deliver(server);
    notice_failure(server);
    for (c = server->connections; c != NULL; c = c->next)
        if (c->fd >= 0 && (c->out_first != NULL || c->leaving))
            serve_client(server, c, 0);
    bury(server);
    if (server->listener >= 0 && (*fds)[0].revents != 0) {
        welcome(server);
        server->connection_count++;
    }
    if (server->stopping) {
        flush_all(server);
        leave(server, "stopped by request");
    }
}

/* Whether the machine's owner meant it to have a GPU: then computing on the CPU is worth a word to the session. */
static int
has_nvidia_driver(void)
{
    return access("/proc/driver/nvidia/version", F_OK) == 0 || access("/dev/nvidiactl", F_OK) == 0;
}

/* Says what was chosen: in the log always, to the session that started the engine when it may be a surprise. */
static void
announce(const d2c_server *server)
{
    const d2c_pool *pool = &server->pool;
    d2c_error notice;

    d2c_log(server->log, D2C_LOG_LIMIT, "listens at \"%s\": build %s, %s, %s, %d threads",
            server->options->socket_path, server->options->build, pool->device, pool->precision,
            pool->threads);
    d2c_log(server->log, D2C_LOG_LIMIT, "computes on %s: %s", pool->device, server->arithmetic);
    if (server->fallback[0] != '\0')
        d2c_log(server->log, D2C_LOG_LIMIT, "%s", server->fallback);
    if (server->fallback[0] == '\0' || !has_nvidia_driver()) {
        d2c_server_report(server->options, D2C_REPORT_READY, NULL);
        return;
    }
    d2c_fail(&notice, D2C_OK, "the d2c engine is %s", server->fallback);
    d2c_hint(&notice, "Set d2c.device to cpu to hear no more of it, or to cuda to get an error instead.");
    d2c_server_report(server->options, D2C_REPORT_READY, &notice);
}

d2c_status
d2c_engine_serve(const d2c_engine_options *options, int supervisor_fd, d2c_error *err)
{
    d2c_server server = {.options = options, .supervisor_fd = supervisor_fd};
    struct pollfd *fds = NULL;
    int capacity = 0, busy = 0;
    d2c_status status = start(&server, &busy, err);

    if (status != D2C_OK) {
        d2c_log(server.log, D2C_LOG_LIMIT, "could not start: %s", err->message);
        d2c_server_release(&server);
        d2c_server_report(options, D2C_REPORT_FAILED, err);
        return status;
    }
    if (busy) {
        d2c_server_report(options, D2C_REPORT_BUSY, NULL);
        return d2c_fail(err, D2C_IO, "another engine holds the lock of \"%s\"", options->socket_path);
    }
    announce(&server);
    for (;;) {
        step(&server, &fds, &capacity);
        if (server.failed != 0)
            leave_failed(&server);
        else if (server.listener < 0)
            drain(&server);
        else
            leave_when_idle(&server);
    }
}
