/*
 * scoring.c: difficulty scores inside libd2c on images already decoded in memory, in f32 as the engine does on a CPU: the
 * peer of the SQL path.
 *
 *   scoring model PATH s2|demo               writes a SiT with random weights, of SiT-S/2's or the demo's size
 *   scoring run FOLDER NAME THREADS IMAGES T prints images/s of THREADS one-thread backends over random images
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "base/progress.h"
#include "bench.h"
#include "nn/difficulty.h"
#include "nn/model.h"

static int
fail(const d2c_error *err)
{
    fprintf(stderr, "scoring: %s\n", err->message);
    return 1;
}

/* Gives the zero-initialised layers values, so that the network computes something. */
static d2c_status
randomize(d2c_sit *sit, d2c_backend *be, d2c_error *err)
{
    int64_t count = sit->params.trainable, i;
    float *values = malloc((size_t)count * sizeof *values);
    d2c_status status;

    if (values == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i < count; i++) {
        d2c_philox_block block = d2c_philox(1, (uint32_t)(i / 4), 0, d2c_philox_stream(0, D2C_PURPOSE_TEST));
        values[i] = (d2c_philox_uniform(block.w[i % 4]) - 0.5f) * 0.08f;
    }
    status = d2c_upload(be, sit->params.value, values, (size_t)count * sizeof *values);
    free(values);
    return status == D2C_OK ? d2c_params_refresh(&sit->params, be, err) : d2c_backend_error(be, err);
}

static int
write_model(const char *path, const char *size)
{
    d2c_sit_config config = {
        .channels = 3, .out_channels = 3, .height = 32, .width = 32, .classes = 10, .null_class = 1};
    d2c_backend *be = NULL;
    d2c_sit *sit = NULL;
    d2c_error err;
    int failed = 1;

    if (strcmp(size, "demo") == 0) {
        config = (d2c_sit_config){BENCH_DEMO_NETWORK};
    } else if (d2c_sit_preset(&config, "SiT-S/2", &err) != D2C_OK) {
        return fail(&err);
    } else {
        config.channels = config.out_channels = 3;
    }
    if (d2c_backend_open(&be, "cpu", 2, &err) == D2C_OK &&
        d2c_sit_create(&sit, be, &config, D2C_F32, 0, &err) == D2C_OK &&
        d2c_sit_initialize(sit, be, 1, &err) == D2C_OK && randomize(sit, be, &err) == D2C_OK &&
        d2c_sit_save_plain(path, sit, be, sit->params.value, NULL, NULL, 0, &err) == D2C_OK)
        failed = 0;
    else
        fail(&err);
    d2c_sit_destroy(sit, be);
    d2c_backend_close(be);
    return failed;
}

typedef struct job {
    d2c_model *model;
    int images, timesteps;
    d2c_status status;
    d2c_error err;
} job;

/* One thread: a backend and a scorer of its own over images that lie in memory. */
static void *
score_images(void *closure)
{
    job *work = closure;
    const d2c_model_info *info = &work->model->info;
    size_t n = (size_t)info->channels * info->height * info->width, i;
    d2c_backend *be = NULL;
    d2c_scorer *scorer = NULL;
    float *x = calloc(n, sizeof *x);
    double score;
    int image;

    work->status = x == NULL ? D2C_NO_MEMORY : d2c_backend_open(&be, "cpu", 1, &work->err);
    if (work->status == D2C_OK)
        work->status = d2c_scorer_open(&scorer, d2c_model_sit(work->model), be, work->timesteps, &work->err);
    for (image = 0; work->status == D2C_OK && image < work->images; image++) {
        for (i = 0; i < n; i++)
            x[i] = (float)((i * 7 + (size_t)image * 13) % 255) / 127.5f - 1.0f;
        work->status = d2c_scorer_run(scorer, &score, NULL, x, image % info->classes, 0, &work->err);
    }
    d2c_scorer_close(scorer);
    d2c_backend_close(be);
    free(x);
    return NULL;
}

static int
run(const char *folder, const char *name, int threads, int images, int timesteps)
{
    d2c_backend *be;
    d2c_model *model;
    d2c_error err;
    pthread_t thread[64];
    job work[64];
    double start;
    int i, failed = 0;

    if (threads < 1 || threads > 64 || d2c_backend_open(&be, "cpu", threads, &err) != D2C_OK ||
        d2c_model_open(&model, be, folder, name, D2C_F32, &err) != D2C_OK)
        return fail(&err);
    start = d2c_clock();
    for (i = 0; i < threads; i++) {
        work[i] = (job){.model = model, .images = images / threads, .timesteps = timesteps};
        pthread_create(&thread[i], NULL, score_images, &work[i]);
    }
    for (i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        if (work[i].status != D2C_OK)
            failed = fail(&work[i].err);
    }
    if (!failed)
        printf("%.2f\n", images / threads * threads / (d2c_clock() - start));
    d2c_model_close(model, be);
    d2c_backend_close(be);
    return failed;
}

int
main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "model") == 0)
        return write_model(argv[2], argv[3]);
    if (argc == 7 && strcmp(argv[1], "run") == 0)
        return run(argv[2], argv[3], atoi(argv[4]), atoi(argv[5]), atoi(argv[6]));
    fprintf(stderr, "usage: scoring model PATH s2|demo | scoring run FOLDER NAME THREADS IMAGES T\n");
    return 2;
}
