/* model_folder.h: a scratch copy of a golden model's folder, to be damaged; and how far results are off. */
#ifndef D2C_TEST_MODEL_FOLDER_H
#define D2C_TEST_MODEL_FOLDER_H

#include <stdlib.h>

#include "base/file.h"
#include "base/safetensors.h"
#include "check.h"
#include "scratch_folder.h"

static inline void
copy_from(const char *source, const char *name)
{
    uint8_t *bytes = NULL;
    char from[512];
    size_t length;
    d2c_error err;

    snprintf(from, sizeof from, "%s/%s", source, name);
    CHECK_OK(d2c_file_read(&bytes, &length, from, 1 << 20, &err), &err);
    CHECK_OK(d2c_file_write(at(name), bytes, length, &err), &err);
    free(bytes);
}

/* Writes text over a file of the scratch folder. */
static inline void
put(const char *name, const char *text)
{
    d2c_error err;

    CHECK_OK(d2c_file_write(at(name), text, strlen(text), &err), &err);
}

/* Copies the source's tensors into the scratch folder: without the one called `skip`, with NaN in the one called
 * `broken`, and without `prefix` before their names. */
static inline void
copy_tensors(const char *source, const char *skip, const char *broken, const char *prefix)
{
    static float nan_values[64 * 1024];
    d2c_st_item items[128];
    d2c_safetensors *file = NULL;
    char path[512];
    d2c_error err;
    int i, count = 0;

    snprintf(path, sizeof path, "%s/model.safetensors", source);
    CHECK_OK(d2c_safetensors_open(&file, path, &err), &err);
    memset(nan_values, 0xff, sizeof nan_values);
    for (i = 0; i < d2c_safetensors_count(file) && i < 128; i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        const char *name;

        if (strcmp(t->name, skip) == 0)
            continue;
        name = strncmp(t->name, prefix, strlen(prefix)) == 0 ? t->name + strlen(prefix) : t->name;
        items[count] = (d2c_st_item){name, t->dtype, t->ndim, {0}, t->data};
        if (strcmp(t->name, broken) == 0)
            items[count].data = nan_values;
        memcpy(items[count].dim, t->dim, sizeof t->dim);
        count++;
    }
    CHECK_OK(d2c_safetensors_write(at("model.safetensors"), items, count, NULL, 0, &err), &err);
    d2c_safetensors_close(file);
}

/* ||a - b|| / ||b|| */
static inline double
relative_error(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    size_t i;

    for (i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / norm);
}

/* The error's message says that. */
static inline void
check_message(const d2c_error *err, const char *message)
{
    if (strstr(err->message, message) != NULL)
        return;
    fprintf(stderr, "\"%s\", not \"%s\"\n", err->message, message);
    CHECK(!"the message says why");
}

#endif
