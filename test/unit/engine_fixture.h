/*
 * engine_fixture.h: the engine as a process, and clients that block.
 *
 * Each engine has a folder of its own and the models of test/golden/models.  One on the device "cuda" has the emulated
 * device of libd2c_cuda.so beside the test program, which the test can make short of memory, or fail.
 */
#ifndef D2C_TEST_ENGINE_FIXTURE_H
#define D2C_TEST_ENGINE_FIXTURE_H

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "engine/buffer.h"
#include "engine/engine.h"
#include "ops/ops.h"

#define BUILD_NAME "test-build"
#define WAIT_MS 60000

typedef struct engine {
    char folder[32];
    char socket[64];
    pid_t pid;
    int control; /* to the emulator in its process; -1: it has none */
} engine;

/* ---- the process -------------------------------------------------------------------------------------------------- */

/* What a test wants of the emulated device in the engine's process, once. */
typedef struct emu_command {
    enum { EMU_FREE, EMU_FAIL } what;
    long
        n; /* EMU_FREE: bytes that are free from now on; EMU_FAIL: the n-th kernel from now ends the device */
} emu_command;

#define EMU_LAUNCH_FAILURE 719 /* cudaErrorLaunchFailure */

typedef struct emulator {
    void (*set_memory)(size_t bytes);
    void (*fail_launch)(long n, int error);
    d2c_backend *be;
    int control;
} emulator;

static inline int
find_emulator(emulator *emu)
{
    char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - sizeof "libd2c_cuda.so");
    void *library = NULL;

    if (length > 0) {
        path[length] = '\0';
        strcpy(strrchr(path, '/') + 1, "libd2c_cuda.so");
        library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL)
        return -1;
    *(void **)&emu->set_memory = dlsym(library, "emu_set_memory");
    *(void **)&emu->fail_launch = dlsym(library, "emu_fail_launch");
    return emu->set_memory != NULL && emu->fail_launch != NULL ? 0 : -1;
}

/* Carries out what comes through the control, and answers each with a byte. */
static inline void *
obey(void *closure)
{
    emulator *emu = closure;
    emu_command command;

    while (read(emu->control, &command, sizeof command) == (ssize_t)sizeof command) {
        size_t available = 0, total = 0;

        if (command.what == EMU_FAIL)
            emu->fail_launch(command.n, EMU_LAUNCH_FAILURE);
        else if (d2c_memory_use(emu->be, &available, &total) == D2C_OK)
            emu->set_memory(total - available + (size_t)command.n);
        if (write(emu->control, "", 1) != 1)
            break;
    }
    return NULL;
}

/* In the engine's process, before it serves. */
static inline void
open_control(int control)
{
    static emulator emu;
    pthread_t thread;
    d2c_error err;

    emu.control = control;
    if (find_emulator(&emu) != 0 || d2c_backend_open(&emu.be, "cuda", 1, &err) != D2C_OK ||
        pthread_create(&thread, NULL, obey, &emu) != 0)
        _exit(1);
}

static inline void
tell_emulator(const engine *e, int what, long n)
{
    emu_command command = {what, n};
    char byte;

    CHECK(write(e->control, &command, sizeof command) == (ssize_t)sizeof command);
    CHECK(read(e->control, &byte, 1) == 1);
}

/* Whether there is such a device; asked in a process of its own, because a device's library does not survive a fork. */
static inline int
device_opens(const char *device)
{
    d2c_backend *be;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(d2c_backend_open(&be, device, 1, NULL) == D2C_OK ? 42 : 0);
    return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42;
}

static inline void
run_engine(const engine *e, const char *device, int threads, int64_t idle_timeout)
{
    d2c_engine_options options = {
        .socket_path = e->socket,
        .data_directory = e->folder,
        .build = BUILD_NAME,
        .settings = {.model_directory = GOLDEN "/models",
                     .device = device,
                     .precision = strcmp(device, "auto") == 0 ? "auto" : "f32",
                     .threads = threads,
                     .idle_timeout = idle_timeout,
                     .max_image_pixels = 1 << 20},
    };
    d2c_error err;

    d2c_engine_serve(&options, -1, &err);
    fprintf(stderr, "%s\n", err.message);
    _exit(1);
}

static inline void
start_engine_on(engine *e, const char *device, int threads, int64_t idle_timeout)
{
    int ends[2] = {-1, -1}, emulated = strcmp(device, "cuda") == 0;

    strcpy(e->folder, "/tmp/d2c-engine-XXXXXX");
    CHECK(mkdtemp(e->folder) != NULL);
    snprintf(e->socket, sizeof e->socket, "%s/d2c.sock", e->folder);
    CHECK(!emulated || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    e->control = ends[0];
    e->pid = fork();
    if (e->pid == 0) {
        if (emulated) {
            close(ends[0]);
            open_control(ends[1]);
        }
        run_engine(e, device, threads, idle_timeout);
    }
    if (emulated)
        close(ends[1]);
}

static inline void
start_engine(engine *e, int threads, int64_t idle_timeout)
{
    start_engine_on(e, "cpu", threads, idle_timeout);
}

/* Its exit status, 128 + signal, or -1 when it does not end. */
static inline int
wait_engine(engine *e)
{
    int status = 0, i;
    char command[64];

    if (e->control >= 0)
        close(e->control);
    for (i = 0; i < WAIT_MS / 10; i++) {
        if (waitpid(e->pid, &status, WNOHANG) == e->pid) {
            snprintf(command, sizeof command, "rm -rf %s", e->folder);
            CHECK(system(command) == 0);
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        poll(NULL, 0, 10);
    }
    kill(e->pid, SIGKILL);
    return -1;
}

static inline void
stop_engine(engine *e)
{
    kill(e->pid, SIGTERM);
    CHECK(wait_engine(e) == 0);
}

static inline int
connect_engine(const engine *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int i;

    strcpy(address.sun_path, e->socket);
    for (i = 0; i < WAIT_MS / 10; i++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
            return fd;
        close(fd);
        poll(NULL, 0, 10);
    }
    CHECK(!"the engine listens");
    return -1;
}

/* ---- a client that blocks ----------------------------------------------------------------------------------------- */

static inline void
send_all(int fd, const void *bytes, size_t length)
{
    const char *at = bytes;

    while (length > 0) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

        if (n <= 0)
            return;
        at += n;
        length -= (size_t)n;
    }
}

/* 0 at the connection's end. */
static inline int
receive_all(int fd, void *bytes, size_t length)
{
    char *at = bytes;

    while (length > 0) {
        struct pollfd wait = {fd, POLLIN, 0};
        ssize_t n = poll(&wait, 1, WAIT_MS) == 1 ? recv(fd, at, length, 0) : -1;

        if (n <= 0)
            return 0;
        at += n;
        length -= (size_t)n;
    }
    return 1;
}

static inline void
send_request(int fd, uint32_t kind, uint64_t id, const d2c_buffer *payload)
{
    d2c_frame frame = {D2C_PROTOCOL_MAGIC, (uint32_t)payload->length, kind, 0, id};

    send_all(fd, &frame, sizeof frame);
    send_all(fd, payload->data, payload->length);
}

/* Reads one reply; the payload is malloc'd with a zero byte behind it.  0 at the end. */
static inline int
receive_reply(int fd, d2c_frame *frame, char **payload)
{
    *payload = NULL;
    if (!receive_all(fd, frame, sizeof *frame))
        return 0;
    *payload = calloc(1, frame->length + 1);
    return receive_all(fd, *payload, frame->length);
}

static inline uint32_t
hello(int fd, const char *build)
{
    d2c_buffer payload = {0};
    d2c_frame frame = {0};
    char *reply;

    d2c_put_string(&payload, build);
    d2c_put_string(&payload, "settings of a service are its own");
    send_request(fd, D2C_REQUEST_HELLO, 1, &payload);
    CHECK(receive_reply(fd, &frame, &reply));
    CHECK(frame.kind == D2C_REQUEST_HELLO && frame.id == 1);
    free(reply);
    d2c_buffer_free(&payload);
    return frame.status;
}

static inline int
greet(const engine *e)
{
    int fd = connect_engine(e);

    CHECK(hello(fd, BUILD_NAME) == D2C_OK);
    return fd;
}

static inline void
send_difficulty(int fd, uint64_t id, const uint8_t *image, size_t length, int64_t label, uint32_t timesteps)
{
    d2c_buffer payload = {0};

    d2c_put_string(&payload, "tiny-sit");
    d2c_put_bytes(&payload, image, length);
    d2c_put_i64(&payload, label);
    d2c_put_u32(&payload, timesteps);
    d2c_put_i64(&payload, 0);
    d2c_put_u32(&payload, 0);
    d2c_put_string(&payload, "");
    send_request(fd, D2C_REQUEST_DIFFICULTY, id, &payload);
    d2c_buffer_free(&payload);
}

static inline double
score_of(const d2c_frame *frame, const char *payload)
{
    d2c_reader r = {payload, payload + frame->length, 0};

    CHECK(frame->status == D2C_OK && d2c_read_u32(&r) == 1);
    return d2c_read_f64(&r);
}

/* The engine still answers a new client. */
static inline void
check_alive(const engine *e)
{
    d2c_buffer nothing = {0};
    d2c_frame frame = {0};
    int fd = greet(e);
    char *reply;

    send_request(fd, D2C_REQUEST_STATUS, 5, &nothing);
    CHECK(receive_reply(fd, &frame, &reply) && frame.status == D2C_OK && frame.id == 5);
    free(reply);
    close(fd);
}

#endif
