/*
 * test_engine.c: the engine as a process, spoken to through its socket: honest clients, rude ones, many at once.
 *
 * Each test starts an engine of its own (engine_fixture.h).
 */
#define _GNU_SOURCE
#include <fcntl.h>

#include "engine_fixture.h"

/* ---- tests -------------------------------------------------------------------------------------------------------- */

static void
rude_clients_are_closed_and_nothing_else_happens(void)
{
    static const char garbage[64] = "GET / HTTP/1.1\r\n\r\n";
    d2c_frame endless = {D2C_PROTOCOL_MAGIC, 0xffffffffu, D2C_REQUEST_PHASH, 0, 1};
    d2c_frame half = {D2C_PROTOCOL_MAGIC, 1000, D2C_REQUEST_PHASH, 0, 1};
    engine e;
    char byte;
    int fd;

    start_engine(&e, 1, 0);
    fd = connect_engine(&e);
    send_all(fd, garbage, sizeof garbage);
    CHECK(!receive_all(fd, &byte, 1));
    close(fd);
    fd = connect_engine(&e);
    send_all(fd, &endless, sizeof endless);
    CHECK(!receive_all(fd, &byte, 1));
    close(fd);
    fd = connect_engine(&e);
    send_all(fd, &half, 10);
    close(fd);
    fd = connect_engine(&e);
    send_all(fd, &half, sizeof half);
    send_all(fd, garbage, sizeof garbage);
    close(fd);
    check_alive(&e);
    stop_engine(&e);
}

static void
the_hello_comes_first_and_must_fit(void)
{
    d2c_buffer nothing = {0};
    d2c_frame frame = {0};
    char *reply, byte;
    engine e;
    int fd;

    start_engine(&e, 1, 0);
    fd = connect_engine(&e);
    send_request(fd, D2C_REQUEST_MODELS, 1, &nothing);
    CHECK(receive_reply(fd, &frame, &reply) && frame.status == D2C_INTERNAL);
    free(reply);
    CHECK(!receive_all(fd, &byte, 1));
    close(fd);
    fd = connect_engine(&e);
    CHECK(hello(fd, "another-build") == D2C_INTERNAL);
    CHECK(!receive_all(fd, &byte, 1));
    close(fd);
    check_alive(&e);
    stop_engine(&e);
}

/* Every prefix and every change of one byte of a request is answered or refused, and the next client is served. */
static void
damaged_requests_are_answered(void)
{
    d2c_buffer payload = {0};
    d2c_frame frame = {0};
    char *reply;
    size_t i;
    engine e;
    int fd;

    start_engine(&e, 1, 0);
    fd = greet(&e);
    d2c_put_string(&payload, "tiny-sit");
    d2c_put_bytes(&payload, "no image", 8);
    d2c_put_i64(&payload, 1);
    d2c_put_u32(&payload, 1);
    d2c_put_i64(&payload, 0);
    d2c_put_u32(&payload, 0);
    d2c_put_string(&payload, "");
    for (i = 0; i <= payload.length; i++) {
        d2c_buffer part = {payload.data, i, i, 0};

        send_request(fd, D2C_REQUEST_DIFFICULTY, i, &part);
        CHECK(receive_reply(fd, &frame, &reply) && frame.id == i && frame.status != D2C_OK);
        free(reply);
    }
    for (i = 0; i < payload.length; i++) {
        payload.data[i] ^= 0x81;
        send_request(fd, D2C_REQUEST_DIFFICULTY, i, &payload);
        CHECK(receive_reply(fd, &frame, &reply) && frame.id == i && frame.status != D2C_OK);
        payload.data[i] ^= 0x81;
        free(reply);
    }
    for (i = 0; i < 64; i++) {
        if (i == D2C_REQUEST_HELLO || i == D2C_REQUEST_STATUS || i == D2C_REQUEST_STOP ||
            i == D2C_REQUEST_MODELS)
            continue;
        send_request(fd, (uint32_t)i, i, &(d2c_buffer){0});
        CHECK(receive_reply(fd, &frame, &reply) && frame.id == i && frame.status != D2C_OK);
        free(reply);
    }
    close(fd);
    d2c_buffer_free(&payload);
    check_alive(&e);
    stop_engine(&e);
}

/* A client that vanishes takes its queued work with it; another's single request does not wait for a full queue. */
static void
clients_vanish_and_take_turns(void)
{
    uint8_t *image;
    size_t length;
    d2c_error err;
    d2c_frame frame = {0};
    int first, second, i, answered = 0;
    char *reply;
    engine e;

    CHECK_OK(d2c_file_read(&image, &length, GOLDEN "/image/grey.png", 1 << 20, &err), &err);
    start_engine(&e, 1, 0);
    first = greet(&e);
    for (i = 0; i < 400; i++)
        send_difficulty(first, (uint64_t)i, image, length, i % 10, 100);
    second = greet(&e);
    send_difficulty(second, 1, image, length, 1, 1);
    CHECK(receive_reply(second, &frame, &reply) && frame.status == D2C_OK);
    free(reply);
    fcntl(first, F_SETFL, O_NONBLOCK);
    while (recv(first, &frame, sizeof frame, 0) == sizeof frame) {
        char rest[64];

        answered++;
        CHECK(recv(first, rest, frame.length, 0) == (ssize_t)frame.length);
    }
    CHECK(answered < 400);
    close(first);
    send_difficulty(second, 2, image, length, 1, 1);
    CHECK(receive_reply(second, &frame, &reply) && frame.status == D2C_OK && frame.id == 2);
    free(reply);
    close(second);
    stop_engine(&e);
    free(image);
}

#define LABELS 10
#define CLIENTS 3
#define ROUNDS 4

/* Scores of every label by one engine: several clients ask at once, in orders of their own; equal asks must get equal
 * bits. */
static void
collect_scores(double scores[LABELS], int threads, const uint8_t *image, size_t length)
{
    int fd[CLIENTS], c, i;
    int seen[LABELS] = {0};
    engine e;

    start_engine(&e, threads, 0);
    for (c = 0; c < CLIENTS; c++)
        fd[c] = greet(&e);
    for (i = 0; i < LABELS * ROUNDS; i++)
        for (c = 0; c < CLIENTS; c++)
            send_difficulty(fd[c], (uint64_t)((i * (2 * c + 1) + c) % LABELS), image, length,
                            (i * (2 * c + 1) + c) % LABELS, 8);
    for (c = 0; c < CLIENTS; c++)
        for (i = 0; i < LABELS * ROUNDS; i++) {
            d2c_frame frame = {0};
            char *reply;
            double score;

            CHECK(receive_reply(fd[c], &frame, &reply) && frame.id < LABELS);
            score = score_of(&frame, reply);
            CHECK(!seen[frame.id] || scores[frame.id] == score);
            scores[frame.id] = score;
            seen[frame.id] = 1;
            free(reply);
        }
    for (c = 0; c < CLIENTS; c++)
        close(fd[c]);
    stop_engine(&e);
}

static void
bits_do_not_depend_on_threads_or_neighbours(void)
{
    double one[LABELS], three[LABELS];
    uint8_t *image;
    size_t length;
    d2c_error err;

    CHECK_OK(d2c_file_read(&image, &length, GOLDEN "/image/rgb.png", 1 << 20, &err), &err);
    collect_scores(one, 1, image, length);
    collect_scores(three, 3, image, length);
    CHECK(memcmp(one, three, sizeof one) == 0);
    setenv("DNNL_MAX_CPU_ISA", "AVX2", 1);
    collect_scores(one, 1, image, length);
    collect_scores(three, 3, image, length);
    unsetenv("DNNL_MAX_CPU_ISA");
    CHECK(memcmp(one, three, sizeof one) == 0);
    free(image);
}

static void
an_idle_engine_says_goodbye(void)
{
    d2c_frame frame = {0};
    char *reply, byte;
    engine e;
    int fd;

    start_engine(&e, 1, 1);
    fd = greet(&e);
    CHECK(receive_reply(fd, &frame, &reply) && frame.kind == D2C_GOODBYE && frame.id == 0 &&
          frame.length == 0);
    free(reply);
    CHECK(!receive_all(fd, &byte, 1));
    close(fd);
    CHECK(wait_engine(&e) == 0);
}

/* Started by a server: reports on descriptor 4, gives its place to another build, leaves when descriptor 3 ends. */
static void
start_with_pipes(engine *e, int *death, int *report)
{
    int deaths[2], reports[2];

    CHECK(pipe2(deaths, O_CLOEXEC) == 0 && pipe2(reports, O_CLOEXEC) == 0);
    strcpy(e->folder, "/tmp/d2c-engine-XXXXXX");
    CHECK(mkdtemp(e->folder) != NULL);
    snprintf(e->socket, sizeof e->socket, "%s/d2c.sock", e->folder);
    e->control = -1;
    e->pid = fork();
    if (e->pid == 0) {
        d2c_engine_options options = {
            .socket_path = e->socket,
            .data_directory = e->folder,
            .build = BUILD_NAME,
            .server_pipes = 1,
            .settings = {.model_directory = GOLDEN "/models",
                         .device = "cpu",
                         .precision = "f32",
                         .threads = 1,
                         .max_image_pixels = 1 << 20},
        };
        int in = fcntl(deaths[0], F_DUPFD, 10), out = fcntl(reports[1], F_DUPFD, 10);
        d2c_error err;

        close(deaths[0]);
        close(deaths[1]);
        close(reports[0]);
        close(reports[1]);
        if (dup2(in, D2C_DEATH_FD) < 0 || dup2(out, D2C_REPORT_FD) < 0)
            _exit(1);
        close(in);
        close(out);
        d2c_engine_serve(&options, -1, &err);
        _exit(1);
    }
    close(deaths[0]);
    close(reports[1]);
    *death = deaths[1];
    *report = reports[0];
}

static void
an_engine_gives_its_place_to_another_build(void)
{
    d2c_frame frame = {0};
    int death, report, old, fd;
    char tag[2], *reply;
    d2c_buffer payload = {0};
    engine e;

    start_with_pipes(&e, &death, &report);
    CHECK(read(report, tag, sizeof tag) == 1 && tag[0] == D2C_REPORT_READY);
    CHECK(read(report, tag, sizeof tag) == 0);
    old = connect_engine(&e);
    fd = connect_engine(&e);
    CHECK(hello(fd, "another-build") == D2C_UNSUPPORTED);
    CHECK(access(e.socket, F_OK) != 0);
    d2c_put_string(&payload, "");
    send_request(old, D2C_REQUEST_STATUS, 3, &payload);
    CHECK(receive_reply(old, &frame, &reply) && frame.kind == D2C_REQUEST_STATUS && frame.status == D2C_OK);
    free(reply);
    CHECK(receive_reply(old, &frame, &reply) && frame.kind == D2C_GOODBYE);
    free(reply);
    CHECK(wait_engine(&e) == 0);
    d2c_buffer_free(&payload);
    close(old);
    close(fd);
    close(death);
    close(report);
}

static void
an_engine_leaves_with_its_server(void)
{
    int death, report;
    engine e;

    start_with_pipes(&e, &death, &report);
    close(connect_engine(&e));
    close(death);
    CHECK(wait_engine(&e) == 0);
    close(report);
}

static void
only_one_engine_holds_a_socket(void)
{
    engine e, second;
    int status;

    start_engine(&e, 1, 0);
    check_alive(&e);
    second = e;
    second.pid = fork();
    if (second.pid == 0) {
        d2c_engine_options options = {.socket_path = e.socket,
                                      .data_directory = e.folder,
                                      .build = BUILD_NAME,
                                      .settings = {.model_directory = GOLDEN "/models",
                                                   .device = "cpu",
                                                   .precision = "f32",
                                                   .threads = 1,
                                                   .max_image_pixels = 1}};
        d2c_error err;

        _exit(d2c_engine_serve(&options, -1, &err) == D2C_IO ? 42 : 0);
    }
    CHECK(waitpid(second.pid, &status, 0) == second.pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    check_alive(&e);
    stop_engine(&e);
}

/* Another user's processes are refused; only root can be two users. */
static void
other_users_are_refused(void)
{
    int fd, status;
    pid_t stranger;
    engine e;

    if (geteuid() != 0)
        return;
    start_engine(&e, 1, 0);
    check_alive(&e);
    CHECK(chmod(e.folder, 0777) == 0 && chmod(e.socket, 0777) == 0);
    stranger = fork();
    if (stranger == 0) {
        struct pollfd wait = {-1, POLLIN, 0};
        char byte;

        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(1);
        fd = wait.fd = connect_engine(&e);
        _exit(poll(&wait, 1, WAIT_MS) == 1 && recv(fd, &byte, 1, 0) == 0 ? 42 : 0);
    }
    CHECK(waitpid(stranger, &status, 0) == stranger && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    check_alive(&e);
    stop_engine(&e);
}

/* A service that runs under another user than the server answers the server's, and leaves it the lock. */
static void
a_service_is_open_to_the_server(void)
{
    char lock[sizeof((engine *)0)->folder + 16];
    pid_t server;
    int status;
    engine e = {.control = -1};

    if (geteuid() != 0)
        return;
    strcpy(e.folder, "/tmp/d2c-engine-XXXXXX");
    CHECK(mkdtemp(e.folder) != NULL && chown(e.folder, 65534, 65534) == 0);
    snprintf(e.socket, sizeof e.socket, "%s/d2c.sock", e.folder);
    snprintf(lock, sizeof lock, "%s/d2c.lock", e.folder);
    e.pid = fork();
    if (e.pid == 0)
        run_engine(&e, "cpu", 1, 0);
    server = fork();
    if (server == 0) {
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(1);
        check_alive(&e);
        _exit(check_current == 0 && access(lock, R_OK | W_OK) == 0 ? 42 : 0);
    }
    CHECK(waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 42);
    stop_engine(&e);
}

int
main(void)
{
    RUN(rude_clients_are_closed_and_nothing_else_happens);
    RUN(the_hello_comes_first_and_must_fit);
    RUN(damaged_requests_are_answered);
    RUN(clients_vanish_and_take_turns);
    RUN(bits_do_not_depend_on_threads_or_neighbours);
    RUN(an_idle_engine_says_goodbye);
    RUN(an_engine_gives_its_place_to_another_build);
    RUN(an_engine_leaves_with_its_server);
    RUN(only_one_engine_holds_a_socket);
    RUN(other_users_are_refused);
    RUN(a_service_is_open_to_the_server);
    return check_report();
}
