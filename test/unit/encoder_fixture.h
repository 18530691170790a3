/* encoder_fixture.h: the tests that every text encoder of two golden layouts, HIDDEN wide, passes. */
#ifndef D2C_TEST_ENCODER_FIXTURE_H
#define D2C_TEST_ENCODER_FIXTURE_H

#include "model_folder.h"
#include "nn/model_files.h"
#include "nn/scratch.h"

#define HIDDEN 24
#define MAX_TOKENS 512
#define PROMPTS 6

/* One kind of encoder, and what the public code makes of the prompts with its golden models. */
typedef struct encoder_kind {
    const char *expected;
    d2c_status (*open)(void **network, d2c_backend *be, const d2c_model_files *files, d2c_dtype precision,
                       d2c_error *err);
    void (*close)(void *network, d2c_backend *be);
    d2c_status (*embed)(const void *network, d2c_backend *be, d2c_scratch *memory, float *embedding,
                        float *mask, const char *prompt, int tokens, d2c_error *err);
} encoder_kind;

/* A folder's files, opened. */
static inline void
open_files(d2c_model_files *files, const char *path)
{
    char parent[512];
    d2c_error err;

    snprintf(parent, sizeof parent, "%s", path);
    *strrchr(parent, '/') = '\0';
    CHECK_OK(d2c_model_files_find(files, parent, strrchr(path, '/') + 1, &err), &err);
    CHECK_OK(d2c_model_files_open(files, &err), &err);
}

static inline d2c_status
open_encoder(void **network, const encoder_kind *kind, d2c_backend *be, const char *path, d2c_dtype precision,
             d2c_error *err)
{
    d2c_model_files files;
    d2c_status status;

    open_files(&files, path);
    status = kind->open(network, be, &files, precision, err);
    d2c_model_files_close(&files);
    return status;
}

static inline void
check_prompt(const encoder_kind *kind, const void *network, d2c_backend *be, const d2c_safetensors *file,
             const char *name, int index, double tolerance)
{
    static float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    const d2c_st_tensor *hidden, *kept;
    d2c_scratch memory = {0};
    char key[32];
    d2c_error err;
    int tokens, i;

    snprintf(key, sizeof key, "%s.%d.hidden", name, index);
    hidden = d2c_safetensors_find(file, key);
    snprintf(key, sizeof key, "%d.mask", index);
    kept = d2c_safetensors_find(file, key);
    snprintf(key, sizeof key, "%d.prompt", index);
    tokens = (int)hidden->dim[0];
    CHECK_OK(
        kind->embed(network, be, &memory, embedding, mask, d2c_safetensors_metadata(file, key), tokens, &err),
        &err);
    CHECK(memcmp(mask, kept->data, (size_t)tokens * sizeof *mask) == 0);
    CHECK(relative_error(embedding, hidden->data, (size_t)hidden->count) < tolerance);
    for (i = 0; i < tokens * HIDDEN && (mask[i / HIDDEN] != 0 || embedding[i] == 0); i++)
        ;
    CHECK(i == tokens * HIDDEN); /* rows beyond the text are zero */
    d2c_scratch_free(&memory, be);
}

/* Every prompt of the golden called `name`, with the model of that path. */
static inline void
check_encoder(const encoder_kind *kind, const char *path, const char *name, const char *device,
              d2c_dtype precision, double tolerance)
{
    d2c_safetensors *file = NULL;
    d2c_backend *be = NULL;
    void *network = NULL;
    d2c_error err;
    int i;

    CHECK_OK(d2c_safetensors_open(&file, kind->expected, &err), &err);
    CHECK_OK(d2c_backend_open(&be, device, 1, &err), &err);
    if (precision == D2C_BF16 && !be->has_bf16)
        CHECK(open_encoder(&network, kind, be, path, precision, &err) == D2C_UNSUPPORTED && network == NULL);
    else
        CHECK_OK(open_encoder(&network, kind, be, path, precision, &err), &err);
    for (i = 0; network != NULL && i < PROMPTS; i++)
        check_prompt(kind, network, be, file, name, i, tolerance);
    kind->close(network, be);
    d2c_backend_close(be);
    d2c_safetensors_close(file);
}

/* The scratch folder must not open, and the message says why. */
static inline void
check_refused(const encoder_kind *kind, d2c_status wanted, const char *message)
{
    d2c_backend *be = NULL;
    d2c_error err = {0};
    void *network;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, &err), &err);
    CHECK(open_encoder(&network, kind, be, folder, D2C_F32, &err) == wanted && network == NULL);
    check_message(&err, message);
    d2c_backend_close(be);
}

typedef struct bad_config {
    const char *text;
    d2c_status status;
    const char *message;
} bad_config;

static inline void
check_bad_configs(const encoder_kind *kind, const bad_config *bad, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++) {
        put("config.json", bad[i].text);
        check_refused(kind, bad[i].status, bad[i].message);
    }
}

/* What becomes of a prompt with the scratch folder's model; the error stays in *err. */
static inline void
embed_prompt(const encoder_kind *kind, const char *prompt, int tokens, d2c_status wanted, d2c_error *err)
{
    static float embedding[MAX_TOKENS * HIDDEN], mask[MAX_TOKENS];
    d2c_scratch memory = {0};
    d2c_backend *be = NULL;
    void *network = NULL;

    CHECK_OK(d2c_backend_open(&be, "reference", 1, err), err);
    CHECK_OK(open_encoder(&network, kind, be, folder, D2C_F32, err), err);
    CHECK(kind->embed(network, be, &memory, embedding, mask, prompt, tokens, err) == wanted);
    kind->close(network, be);
    d2c_scratch_free(&memory, be);
    d2c_backend_close(be);
}

static inline void
check_prompt_status(const encoder_kind *kind, const char *prompt, int tokens, d2c_status wanted)
{
    d2c_error err;

    embed_prompt(kind, prompt, tokens, wanted, &err);
}

/* Numbers of tokens at and beyond what the scratch folder's model takes. */
static inline void
check_bad_prompts(const encoder_kind *kind, int least, int most)
{
    char range[32];
    d2c_error err;

    snprintf(range, sizeof range, "%d to %d tokens", least, most);
    embed_prompt(kind, "a", least - 1, D2C_INVALID_ARGUMENT, &err);
    embed_prompt(kind, "a", most + 1, D2C_INVALID_ARGUMENT, &err);
    CHECK(strstr(err.detail, range) != NULL);
    embed_prompt(kind, "a", least, D2C_OK, &err);
    embed_prompt(kind, "a", most, D2C_OK, &err);
}

#endif
