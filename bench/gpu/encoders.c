/*
 * encoders.c: the networks beside SiT on the device, several streams of one result each as the engine has them.
 *
 *   encoders FOLDER [--device cuda] [--seconds 2] [--streams 4]
 *
 * The models vae, dinov2 and t5 are those that bench/gpu/peer_encoders.py writes.  Tab-separated lines:
 *   ours  NAME  streams  results/s  length of the result
 * NAME and inputs are the peer's.  A result is what the engine makes of one row, from host memory and back, preparation
 * of a picture for DINOv2 on a thread of the CPU included.
 */
#include "gpu.h"

#include <math.h>
#include <pthread.h>

#include "nn/model.h"
#include "nn/vae.h"

#define SIDE 256
#define NUMBERS (3 * SIDE * SIDE)
#define LATENT (4 * 32 * 32)
#define TOKENS 16
#define MOST_STREAMS 64

/* More than sixteen tokens in the vocabulary of the tests' T5. */
#define PROMPT "a photo of a red car in front of an old house by the sea"

typedef enum work { ENCODE, DECODE, DINOV2, T5_ENCODER } work;

static const struct {
    const char *name, *model;
} jobs[] = {{"encode", "vae"}, {"decode", "vae"}, {"dinov2", "dinov2"}, {"t5", "t5"}};

typedef struct worker {
    const d2c_model *model;
    work job;
    pthread_barrier_t *start;
    float *out;
    int64_t elements;
    int made;
    double elapsed;
} worker;

static const char *device;
static double seconds;
static int streams;
static uint8_t pixels[NUMBERS];
static float planes[NUMBERS], latent[LATENT];

static void
draw_inputs(void)
{
    int64_t i;

    for (i = 0; i < NUMBERS; i++) {
        pixels[i] = (uint8_t)(i * 7919 % 256);
        planes[i % 3 * SIDE * SIDE + i / 3] = (float)pixels[i] / 127.5f - 1.0f;
    }
    for (i = 0; i < LATENT; i++)
        latent[i] = (float)(i * 7919 % 2001) / 1000.0f - 1.0f;
}

static int64_t
elements_of(const d2c_model *model, work job)
{
    switch (job) {
    case ENCODE:
        return LATENT;
    case DECODE:
        return NUMBERS;
    case DINOV2:
        return (int64_t)model->info.tokens * model->info.embedding;
    default:
        return (int64_t)TOKENS * model->info.embedding;
    }
}

static d2c_status
make_result(const worker *w, d2c_backend *own, d2c_scratch *scratch, d2c_error *err)
{
    const d2c_image image = {SIDE, SIDE, 3, pixels};
    const d2c_model *m = w->model;
    float mask[TOKENS];

    switch (w->job) {
    case ENCODE:
        return d2c_vae_encode(m->network, own, scratch, w->out, NULL, planes, SIDE, SIDE, err);
    case DECODE:
        return d2c_vae_decode(m->network, own, scratch, w->out, latent, 32, 32, err);
    case DINOV2:
        return m->family->embed_image(m->network, own, scratch, w->out, &image, m->info.tokens, err);
    default:
        return m->family->embed_text(m->network, own, scratch, w->out, mask, PROMPT, TOKENS, err);
    }
}

static void *
make_results(void *closure)
{
    worker *w = closure;
    d2c_backend *own = gpu_open(device, 1);
    d2c_scratch scratch = {0};
    d2c_error err;
    double start;

    bench_check(make_result(w, own, &scratch, &err), &err);
    pthread_barrier_wait(w->start);
    for (start = bench_now(); w->elapsed < seconds; w->elapsed = bench_now() - start) {
        bench_check(make_result(w, own, &scratch, &err), &err);
        w->made++;
    }
    d2c_scratch_free(&scratch, own);
    d2c_backend_close(own);
    return NULL;
}

static double
length_of(const float *out, int64_t n)
{
    double square = 0;
    int64_t i;

    for (i = 0; i < n; i++)
        square += (double)out[i] * out[i];
    return sqrt(square);
}

static void
measure(const char *folder, work job)
{
    worker workers[MOST_STREAMS];
    pthread_t thread[MOST_STREAMS];
    pthread_barrier_t start;
    d2c_model *model;
    d2c_error err;
    double rate = 0;
    int i;

    bench_check(d2c_model_open_known(&model, be, folder, jobs[job].model, "",
                                     be->has_bf16 ? D2C_BF16 : D2C_F32, &err),
                &err);
    pthread_barrier_init(&start, NULL, (unsigned)streams);
    for (i = 0; i < streams; i++) {
        int64_t n = elements_of(model, job);

        workers[i] = (worker){.model = model, .job = job, .start = &start, .elements = n};
        workers[i].out = bench_memory((size_t)n * sizeof(float));
        pthread_create(&thread[i], NULL, make_results, &workers[i]);
    }
    for (i = 0; i < streams; i++) {
        pthread_join(thread[i], NULL);
        rate += workers[i].made / workers[i].elapsed;
    }
    printf("ours\t%s\t%d\t%.1f\t%.6g\n", jobs[job].name, streams, rate,
           length_of(workers[0].out, workers[0].elements));
    fflush(stdout);
    for (i = 0; i < streams; i++)
        free(workers[i].out);
    pthread_barrier_destroy(&start);
    d2c_model_close(model, be);
}

int
main(int argc, char **argv)
{
    int i;

    if (argc < 2)
        return 2;
    device = bench_option(argc, argv, "--device", "cuda");
    seconds = atof(bench_option(argc, argv, "--seconds", "2"));
    streams = gpu_int(argc, argv, "--streams", "4");
    streams = streams < 1 ? 1 : streams > MOST_STREAMS ? MOST_STREAMS : streams;
    draw_inputs();
    be = gpu_open(device, 1);
    for (i = 0; i < 4; i++)
        measure(argv[1], (work)i);
    d2c_backend_close(be);
    return 0;
}
