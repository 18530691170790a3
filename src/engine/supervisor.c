/*
 * supervisor.c: the process between the server and the worker.
 *
 * It waits for three things: the worker's end, told by a pipe that the worker holds open; the server's end, told by the
 * death pipe; SIGTERM.  For the last two the worker gets a second to leave before it is killed.
 */
#define _GNU_SOURCE /* ppoll */
#include "engine/engine.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/log.h"

#define LEAVE_MS 1000

static volatile sig_atomic_t asked_to_leave;

static void
on_terminate(int number)
{
    (void)number;
    asked_to_leave = 1;
}

/* Two pipes: the worker sees the supervisor's end in one, the supervisor the worker's in the other. */
typedef struct lifelines {
    int supervisor[2];
    int worker[2];
} lifelines;

static d2c_status
open_lifelines(lifelines *lines, d2c_error *err)
{
    if (pipe(lines->supervisor) != 0 || pipe(lines->worker) != 0)
        return d2c_fail(err, D2C_IO, "could not create a pipe: %s", strerror(errno));
    return D2C_OK;
}

/* The worker: leaves only by ending the process. */
static void
become_worker(const d2c_engine_options *options, const lifelines *lines, const sigset_t *mask)
{
    d2c_error err;

    signal(SIGTERM, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    close(lines->supervisor[1]);
    close(lines->worker[0]);
    d2c_engine_serve(options, lines->supervisor[0], &err);
    _exit(0);
}

/* True when the worker has ended; false when it shall.  Signals interrupt the wait only. */
static int
wait_for_end(const lifelines *lines, const sigset_t *mask, const struct timespec *limit, int watch_server)
{
    struct pollfd fds[] = {{lines->worker[0], POLLIN, 0}, {watch_server ? D2C_DEATH_FD : -1, POLLIN, 0}};

    while (!asked_to_leave || limit != NULL) {
        int n = ppoll(fds, 2, limit, mask);

        if (fds[0].revents != 0 && n > 0)
            return 1;
        if (n >= 0)
            break;
    }
    return 0;
}

static void
log_end(const char *log, int status)
{
    if (WIFSIGNALED(status))
        d2c_log(log, D2C_LOG_LIMIT, "the engine was ended by signal %d (%s)", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
    else
        d2c_log(log, D2C_LOG_LIMIT, "the engine ended with status %d", WEXITSTATUS(status));
}

/* Watches over the worker until it has been reaped. */
static void
watch(pid_t worker, const lifelines *lines, const sigset_t *mask, const char *log)
{
    struct timespec limit = {LEAVE_MS / 1000, 0};
    int status = 0;

    if (!wait_for_end(lines, mask, NULL, 1)) {
        kill(worker, SIGTERM);
        if (!wait_for_end(lines, mask, &limit, 0))
            kill(worker, SIGKILL);
    }
    while (waitpid(worker, &status, 0) < 0 && errno == EINTR)
        ;
    log_end(log, status);
}

d2c_status
d2c_engine_supervise(const d2c_engine_options *options, d2c_error *err)
{
    struct sigaction action = {.sa_handler = on_terminate};
    sigset_t blocked, mask;
    lifelines lines;
    char log[4096];
    pid_t worker;

    D2C_TRY(d2c_engine_beside(log, sizeof log, options->socket_path, ".log", err));
    D2C_TRY(open_lifelines(&lines, err));
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigprocmask(SIG_BLOCK, &blocked, &mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    worker = fork();
    if (worker == 0)
        become_worker(options, &lines, &mask);
    if (worker < 0)
        return d2c_fail(err, D2C_IO, "could not fork: %s", strerror(errno));
    close(lines.supervisor[0]);
    close(lines.worker[1]);
    close(D2C_REPORT_FD);
    watch(worker, &lines, &mask, log);
    return D2C_OK;
}
