/*
 * test_engine_device.c: the engine on a device: the emulated one beside the test program, and the CPU where both must do.
 *
 * What it computes does not depend on threads, neighbours or order; it makes room when memory is short; a lost device ends
 * it in good order.
 */
#define _GNU_SOURCE
#include "engine_fixture.h"

#include "base/progress.h"
#include "engine/worker.h"
#include "nn/difficulty.h"
#include "nn/model.h"

/* ---- what is asked ------------------------------------------------------------------------------------------------ */

typedef struct picture {
    uint8_t *bytes;
    size_t length;
} picture;

static picture
read_picture(void)
{
    picture p = {0};
    d2c_error err;

    CHECK_OK(d2c_file_read(&p.bytes, &p.length, GOLDEN "/image/rgb.png", 1 << 20, &err), &err);
    return p;
}

static void
send_score(int fd, uint64_t id, const char *model, const picture *p, uint32_t timesteps)
{
    d2c_buffer payload = {0};

    d2c_put_string(&payload, model);
    d2c_put_bytes(&payload, p->bytes, p->length);
    d2c_put_i64(&payload, (int64_t)id % 10);
    d2c_put_u32(&payload, timesteps);
    d2c_put_i64(&payload, 0);
    d2c_put_u32(&payload, 1);
    d2c_put_string(&payload, "");
    send_request(fd, D2C_REQUEST_DIFFICULTY, id, &payload);
    d2c_buffer_free(&payload);
}

static void
send_visual(int fd, uint64_t id, const picture *p, uint32_t tokens)
{
    d2c_buffer payload = {0};

    d2c_put_string(&payload, "rgb-sit");
    d2c_put_bytes(&payload, p->bytes, p->length);
    d2c_put_u32(&payload, tokens);
    send_request(fd, D2C_REQUEST_VISUAL_EMBEDDING, id, &payload);
    d2c_buffer_free(&payload);
}

static void
send_prompt(int fd, uint64_t id, const char *prompt)
{
    d2c_buffer payload = {0};

    d2c_put_string(&payload, "tiny-bert");
    d2c_put_string(&payload, prompt);
    d2c_put_u32(&payload, 16);
    send_request(fd, D2C_REQUEST_TEXT_EMBEDDING, id, &payload);
    d2c_buffer_free(&payload);
}

static void
send_denoise(int fd, uint64_t id)
{
    int64_t dims[] = {1, 8, 8};
    float x[64];
    d2c_buffer payload = {0};
    int i;

    for (i = 0; i < 64; i++)
        x[i] = (float)(i - 32) / 32;
    d2c_put_string(&payload, "tiny-sit");
    d2c_put_tensor(&payload, D2C_F32, 3, dims, x, sizeof x);
    d2c_put_f64(&payload, 0.5);
    d2c_put_i64(&payload, -1);
    send_request(fd, D2C_REQUEST_DENOISE, id, &payload);
    d2c_buffer_free(&payload);
}

/* Thirteen requests of every kind and shape that a device sees. */
#define ASKS 13

static void
ask(int fd, int which, const picture *p)
{
    static const uint32_t timesteps[] = {8, 1, 17, 3, 20};

    if (which < 5)
        send_score(fd, (uint64_t)which, which % 2 ? "rgb-sit" : "tiny-sit", p, timesteps[which]);
    else if (which < 8)
        send_visual(fd, (uint64_t)which, p, (uint32_t)which - 5);
    else if (which < 11)
        send_prompt(fd, (uint64_t)which, &"a photo of a small dog"[2 * (which - 8)]);
    else if (which < 12)
        send_denoise(fd, (uint64_t)which);
    else
        send_score(fd, (uint64_t)which, "latent-sit", p, 3);
}

typedef struct answer {
    d2c_frame frame;
    char *payload;
} answer;

static answer
receive(int fd)
{
    answer a = {0};

    CHECK(receive_reply(fd, &a.frame, &a.payload));
    return a;
}

static answer
score_on(int fd, const char *model, const picture *p, uint32_t timesteps)
{
    send_score(fd, 1, model, p, timesteps);
    return receive(fd);
}

/* The error of an answer. */
static d2c_error
error_of(const answer *a)
{
    d2c_reader r = {a->payload, a->payload + a->frame.length, 0};
    char *texts[3];
    d2c_error err;
    int i;

    memset(&err, 0, sizeof err);
    texts[0] = err.message;
    texts[1] = err.detail;
    texts[2] = err.hint;
    for (i = 0; i < 3; i++) {
        size_t length;
        const char *bytes = d2c_read_bytes(&r, &length);

        if (bytes != NULL && length < sizeof err.hint)
            memcpy(texts[i], bytes, length);
    }
    return err;
}

/* A line of the engine's status; "" when there is none. */
static void
status_of(char value[256], const engine *e, const char *wanted)
{
    d2c_buffer nothing = {0};
    int fd = greet(e);
    d2c_reader r;
    uint32_t lines;
    answer a;

    send_request(fd, D2C_REQUEST_STATUS, 1, &nothing);
    a = receive(fd);
    close(fd);
    r = (d2c_reader){a.payload, a.payload + a.frame.length, 0};
    value[0] = '\0';
    for (lines = d2c_read_u32(&r); lines > 0; lines--) {
        size_t n, m;
        const char *name = d2c_read_bytes(&r, &n), *text = d2c_read_bytes(&r, &m);

        if (n == strlen(wanted) && memcmp(name, wanted, n) == 0)
            snprintf(value, 256, "%.*s", (int)m, text);
    }
    free(a.payload);
}

/* How often the engine's log has the words. */
static int
log_has(const engine *e, const char *words)
{
    char path[128], *text, *at;
    uint8_t *bytes = NULL;
    size_t length = 0;
    int count = 0;

    snprintf(path, sizeof path, "%s/d2c.log", e->folder);
    CHECK(d2c_file_read(&bytes, &length, path, 1 << 20, NULL) == D2C_OK);
    text = strndup(bytes != NULL ? (char *)bytes : "", length);
    for (at = strstr(text, words); at != NULL; at = strstr(at + 1, words))
        count++;
    free(text);
    free(bytes);
    return count;
}

/* ---- the same bits ------------------------------------------------------------------------------------------------ */

#define CLIENTS 3

/* One after another on one thread. */
static void
answer_alone(answer answers[ASKS], const char *device, const picture *p)
{
    engine e;
    int fd, i;

    start_engine_on(&e, device, 1, 0);
    fd = greet(&e);
    for (i = 0; i < ASKS; i++) {
        ask(fd, i, p);
        answers[i] = receive(fd);
        CHECK(answers[i].frame.status == D2C_OK);
    }
    close(fd);
    stop_engine(&e);
}

/* Three clients at once, each in an order of its own, on three threads: the same answers. */
static void
check_together(const answer answers[ASKS], const char *device, const picture *p)
{
    static const int stride[CLIENTS] = {1, 5, 7}; /* prime to ASKS */
    int fd[CLIENTS], c, i;
    engine e;

    start_engine_on(&e, device, 3, 0);
    for (c = 0; c < CLIENTS; c++)
        fd[c] = greet(&e);
    for (i = 0; i < ASKS; i++)
        for (c = 0; c < CLIENTS; c++)
            ask(fd[c], (i * stride[c] + c) % ASKS, p);
    for (c = 0; c < CLIENTS; c++) {
        for (i = 0; i < ASKS; i++) {
            answer a = receive(fd[c]);
            const answer *wanted = &answers[a.frame.id % ASKS];

            CHECK(a.frame.status == D2C_OK && a.frame.length == wanted->frame.length &&
                  memcmp(a.payload, wanted->payload, a.frame.length) == 0);
            free(a.payload);
        }
        close(fd[c]);
    }
    stop_engine(&e);
}

/* A curve's numbers. */
static void
check_scores_near(const answer *a, const answer *b, double tolerance)
{
    d2c_reader x = {a->payload, a->payload + a->frame.length, 0};
    d2c_reader y = {b->payload, b->payload + b->frame.length, 0};
    uint32_t n = d2c_read_u32(&x), i;

    CHECK(n > 0 && n == d2c_read_u32(&y));
    for (i = 0; i < n; i++) {
        double wanted = d2c_read_f64(&x);

        CHECK_NEAR(d2c_read_f64(&y), wanted, tolerance * fabs(wanted));
    }
}

static void
bits_depend_on_nothing_but_the_request(void)
{
    answer cpu[ASKS], cuda[ASKS];
    picture p = read_picture();
    int i, emulated = device_opens("cuda");

    answer_alone(cpu, "cpu", &p);
    check_together(cpu, "cpu", &p);
    if (emulated) {
        answer_alone(cuda, "cuda", &p);
        check_together(cuda, "cuda", &p);
    }
    for (i = 0; i < ASKS; i++) {
        if (emulated && i < 5)
            check_scores_near(&cpu[i], &cuda[i], 1e-5);
        if (emulated)
            free(cuda[i].payload);
        free(cpu[i].payload);
    }
    free(p.bytes);
}

/* A stream of one backend loads, that of another computes at once: what it finds must be whole. */
static int
share_model(void)
{
    d2c_backend *loads = NULL, *computes = NULL;
    d2c_scorer *scorer = NULL;
    d2c_model *model = NULL;
    float x[8 * 8] = {0};
    double scores[2];
    int i;

    if (d2c_backend_open(&loads, "cuda", 1, NULL) != D2C_OK ||
        d2c_backend_open(&computes, "cuda", 1, NULL) != D2C_OK ||
        d2c_model_open(&model, loads, GOLDEN "/models", "tiny-sit", D2C_F32, NULL) != D2C_OK)
        return 0;
    for (i = 0; i < 2; i++) {
        d2c_backend *be = i == 0 ? computes : loads;

        if (d2c_scorer_open(&scorer, d2c_model_sit(model), be, 4, NULL) != D2C_OK ||
            d2c_scorer_run(scorer, &scores[i], NULL, x, 1, 0, NULL) != D2C_OK)
            return 0;
        d2c_scorer_close(scorer);
    }
    d2c_model_close(model, computes);
    d2c_backend_close(loads);
    d2c_backend_close(computes);
    return scores[0] == scores[1];
}

static void
a_model_is_whole_for_every_stream(void)
{
    int status = 0;
    pid_t pid;

    if (!device_opens("cuda"))
        return;
    pid = fork();
    if (pid == 0)
        _exit(share_model() ? 42 : 1);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

/* ---- the choice --------------------------------------------------------------------------------------------------- */

static void
check_choice(const engine *e, const char *device, const char *precision, int most_threads)
{
    char value[256];

    status_of(value, e, "device");
    CHECK(strcmp(value, device) == 0);
    status_of(value, e, "precision");
    CHECK(strcmp(value, precision) == 0);
    status_of(value, e, "threads");
    CHECK(atoi(value) >= 1 && atoi(value) <= most_threads);
    status_of(value, e, "arithmetic");
    CHECK(value[0] != '\0');
    CHECK(log_has(e, "computes on ") == 1);
}

static void
auto_takes_the_device(void)
{
    picture p = read_picture();
    answer cpu, cuda;
    char value[256];
    engine e;
    int fd;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "auto", 0, 0);
    check_choice(&e, "cuda:0", "bf16", 8);
    status_of(value, &e, "fallback");
    CHECK(value[0] == '\0' && log_has(&e, "computing on the CPU") == 0);
    fd = greet(&e);
    cuda = score_on(fd, "tiny-sit", &p, 8);
    close(fd);
    stop_engine(&e);
    start_engine(&e, 1, 0);
    fd = greet(&e);
    cpu = score_on(fd, "tiny-sit", &p, 8);
    check_scores_near(&cpu, &cuda, 0.02);
    close(fd);
    stop_engine(&e);
    free(cpu.payload);
    free(cuda.payload);
    free(p.bytes);
}

/* A library that finds no device is as good as none. */
static void
auto_falls_back_and_says_why(void)
{
    char value[256];
    engine e;

    setenv("EMU_DEVICES", "0", 1);
    start_engine_on(&e, "auto", 0, 0);
    check_choice(&e, "cpu", "f32", 1024);
    status_of(value, &e, "fallback");
    CHECK(strncmp(value, "computing on the CPU: device \"cuda", 34) == 0);
    CHECK(log_has(&e, value) == 1);
    stop_engine(&e);
    unsetenv("EMU_DEVICES");
}

/* ---- little memory ------------------------------------------------------------------------------------------------ */

static void
what_does_not_fit_is_a_clear_error(void)
{
    picture p = read_picture();
    d2c_error err;
    engine e;
    answer a;
    int fd;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 2, 0);
    fd = greet(&e);
    tell_emulator(&e, EMU_FREE, 4096);
    a = score_on(fd, "tiny-sit", &p, 8);
    err = error_of(&a);
    CHECK(a.frame.status == D2C_NO_MEMORY && strstr(err.message, "out of memory on device cuda:0") != NULL);
    CHECK(strstr(err.detail, "Asked for") != NULL && strstr(err.detail, "are free") != NULL);
    CHECK(strstr(err.hint, "d2c.engine_memory") != NULL && strstr(err.hint, "d2c.threads") != NULL);
    free(a.payload);
    tell_emulator(&e, EMU_FREE, 1L << 30);
    a = score_on(fd, "tiny-sit", &p, 8);
    CHECK(a.frame.status == D2C_OK);
    free(a.payload);
    close(fd);
    stop_engine(&e);
    free(p.bytes);
}

/* In what the larger of two models and its scorer take, each is let go for the other. */
static void
models_take_turns(void)
{
    static const char *const models[] = {"rgb-sit", "tiny-sit"};
    picture p = read_picture();
    answer first[2], again;
    char value[256];
    engine e;
    int fd, i;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 1, 0);
    fd = greet(&e);
    first[0] = score_on(fd, models[0], &p, 1);
    tell_emulator(&e, EMU_FREE, 0);
    first[1] = score_on(fd, models[1], &p, 1);
    for (i = 0; i < 6; i++) {
        again = score_on(fd, models[i % 2], &p, 1);
        CHECK(again.frame.status == D2C_OK);
        check_scores_near(&first[i % 2], &again, 0);
        free(again.payload);
    }
    status_of(value, &e, "models_loaded");
    CHECK(strcmp(value, "1") == 0);
    CHECK(log_has(&e, "rows at a time") == 0);
    free(first[0].payload);
    free(first[1].payload);
    close(fd);
    stop_engine(&e);
    free(p.bytes);
}

/* The same for a model that needs another, its autoencoder: the two are let go and kept together. */
static void
pairs_of_models_take_turns(void)
{
    static const char *const models[] = {"latent-sit", "rgb-sit"};
    picture p = read_picture();
    answer first[2], again;
    engine e;
    int fd, i;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 1, 0);
    fd = greet(&e);
    tell_emulator(&e, EMU_FREE, 4096);
    again = score_on(fd, "latent-sit", &p, 1);
    CHECK(again.frame.status == D2C_NO_MEMORY);
    free(again.payload);
    tell_emulator(&e, EMU_FREE, 1L << 30);
    first[0] = score_on(fd, models[0], &p, 1);
    tell_emulator(&e, EMU_FREE, 0);
    first[1] = score_on(fd, models[1], &p, 1);
    for (i = 0; i < 6; i++) {
        again = score_on(fd, models[i % 2], &p, 1);
        CHECK(again.frame.status == D2C_OK);
        check_scores_near(&first[i % 2], &again, 0);
        free(again.payload);
    }
    /* Too little for both, though enough for either: an answer, not an endless exchange. */
    tell_emulator(&e, EMU_FREE, -(100 << 10));
    again = score_on(fd, "latent-sit", &p, 1);
    CHECK(again.frame.status == D2C_NO_MEMORY);
    free(again.payload);
    free(first[0].payload);
    free(first[1].payload);
    close(fd);
    stop_engine(&e);
    free(p.bytes);
}

/* A unit with a prompt and latents needs three models: whatever else is let go for it, none of these is. */
static void
what_a_unit_needs_is_kept(void)
{
    static const char *const models[] = {"rgb-sit", "prompt-sit", "tiny-bert", "tiny-vae"};
    d2c_pool pool = {.device = "cpu"};
    d2c_worker *worker;
    d2c_loaded *loaded;
    d2c_error err;
    int i;

    CHECK_OK(
        d2c_registry_create(&pool.registry, GOLDEN "/models", D2C_F32, (size_t)1 << 30, NULL, NULL, &err),
        &err);
    CHECK_OK(d2c_worker_open(&worker, &pool, &err), &err);
    for (i = 0; i < 4; i++) {
        if (i == 1)
            d2c_worker_begin(worker);
        CHECK_OK(d2c_worker_model(worker, &loaded, models[i], D2C_ROLE_ANY, &err), &err);
        d2c_loaded_release(pool.registry, loaded, d2c_worker_backend(worker));
    }
    CHECK(d2c_worker_make_room(worker)); /* of its own first */
    CHECK(d2c_registry_usage(pool.registry).models == 4);
    CHECK(d2c_worker_make_room(worker));
    CHECK(d2c_registry_usage(pool.registry).models == 3);
    CHECK(!d2c_worker_make_room(worker));
    CHECK(d2c_registry_usage(pool.registry).models == 3);
    d2c_worker_end(worker);
    d2c_worker_close(worker);
}

/* One step more than 16, in the memory that 16 took: it is done in passes of 8 rows. */
static void
passes_become_narrow(void)
{
    picture p = read_picture();
    answer wide, narrow;
    engine e;
    int fd, i;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 1, 0);
    fd = greet(&e);
    wide = score_on(fd, "tiny-sit", &p, 17);
    close(fd);
    stop_engine(&e);
    start_engine_on(&e, "cuda", 1, 0);
    fd = greet(&e);
    free(score_on(fd, "tiny-sit", &p, 16).payload);
    tell_emulator(&e, EMU_FREE, 0);
    for (i = 0; i < 3; i++) {
        narrow = score_on(fd, "tiny-sit", &p, 17);
        check_scores_near(&wide, &narrow, 1e-6);
        free(narrow.payload);
    }
    CHECK(log_has(&e, "model \"tiny-sit\" is run on 8 rows at a time instead of 16") == 1);
    CHECK(log_has(&e, "rows at a time") == 1);
    free(wide.payload);
    close(fd);
    stop_engine(&e);
    free(p.bytes);
}

/* Three threads in little more memory than their models take: each request is answered, most of them in the end with what
 * was asked; a thread may have to do without, because backends keep memory of their own. */
static void
units_take_turns(void)
{
    static const int stride[CLIENTS] = {1, 5, 7};
    picture p = read_picture();
    int fd[CLIENTS], c, i, done = 0;
    engine e;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 3, 0);
    for (c = 0; c < CLIENTS; c++)
        fd[c] = greet(&e);
    tell_emulator(&e, EMU_FREE, 1 << 20);
    for (i = 0; i < ASKS; i++)
        for (c = 0; c < CLIENTS; c++)
            ask(fd[c], (i * stride[c] + c) % ASKS, &p);
    for (c = 0; c < CLIENTS; c++) {
        for (i = 0; i < ASKS; i++) {
            answer a = receive(fd[c]);

            CHECK(a.frame.status == D2C_OK || a.frame.status == D2C_NO_MEMORY);
            done += a.frame.status == D2C_OK;
            free(a.payload);
        }
        close(fd[c]);
    }
    CHECK(done > CLIENTS * ASKS / 2);
    stop_engine(&e);
    free(p.bytes);
}

/* ---- a lost device ------------------------------------------------------------------------------------------------ */

#define QUEUED 40

/* Everything asked is answered: with a score, or, from some point on, with the device's failure. */
static int
count_failures(const engine *e, int fd)
{
    int failures = 0, i;

    for (i = 0; i < QUEUED; i++) {
        answer a = receive(fd);
        d2c_error err = error_of(&a);

        CHECK(a.frame.kind == D2C_REQUEST_DIFFICULTY &&
              (a.frame.status == D2C_OK || a.frame.status == D2C_DEVICE));
        if (a.frame.status == D2C_DEVICE) {
            CHECK(access(e->socket, F_OK) != 0);
            CHECK(strstr(err.message, "device cuda:0 failed") != NULL);
            CHECK(strstr(err.hint, "next call starts a fresh engine") != NULL);
            failures++;
        }
        free(a.payload);
    }
    return failures;
}

static void
check_goodbye(int fd)
{
    answer a = receive(fd);
    char byte;

    CHECK(a.frame.kind == D2C_GOODBYE);
    CHECK(!receive_all(fd, &byte, 1));
    free(a.payload);
    close(fd);
}

static void
a_lost_device_ends_the_engine_in_good_order(void)
{
    picture p = read_picture();
    int fd[CLIENTS + 1], c, i;
    double started;
    siginfo_t end;
    engine e;

    if (!device_opens("cuda"))
        return;
    start_engine_on(&e, "cuda", 3, 0);
    for (c = 0; c <= CLIENTS; c++) /* the last one asks for nothing */
        fd[c] = greet(&e);
    free(score_on(fd[0], "tiny-sit", &p, 8).payload);
    for (i = 0; i < QUEUED; i++)
        for (c = 0; c < CLIENTS; c++)
            send_score(fd[c], (uint64_t)i, "tiny-sit", &p, 8);
    tell_emulator(&e, EMU_FAIL, 20);
    started = d2c_clock();
    for (c = 0; c < CLIENTS; c++)
        CHECK(count_failures(&e, fd[c]) > 0);
    for (c = 0; c <= CLIENTS; c++)
        check_goodbye(fd[c]);
    CHECK(waitid(P_PID, (id_t)e.pid, &end, WEXITED | WNOWAIT) == 0);
    CHECK(d2c_clock() - started < 5);
    CHECK(log_has(&e, "device cuda:0 failed") == 1 && log_has(&e, "leaves: its device is lost") == 1);
    CHECK(wait_engine(&e) == 0);
    free(p.bytes);
}

int
main(void)
{
    RUN(bits_depend_on_nothing_but_the_request);
    RUN(a_model_is_whole_for_every_stream);
    RUN(auto_takes_the_device);
    RUN(auto_falls_back_and_says_why);
    RUN(what_does_not_fit_is_a_clear_error);
    RUN(models_take_turns);
    RUN(pairs_of_models_take_turns);
    RUN(what_a_unit_needs_is_kept);
    RUN(passes_become_narrow);
    RUN(units_take_turns);
    RUN(a_lost_device_ends_the_engine_in_good_order);
    return check_report();
}
