/* shards.c: reading a model's index (shards.h). */
#include "nn/shards.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/utf8.h"

#define MAX_INDEX ((size_t)1 << 26)
#define MAX_NAME 255
#define MAX_PATH 4096

/* A safetensors file begins with eight bytes of length: for text that is far beyond the format's limit. */
int
d2c_shards_recognizes(const void *bytes, size_t length)
{
    const unsigned char *at = bytes;

    return length > 0 && at[0] == '{' && (length < 8 || at[7] != 0);
}

static int
compare_files(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A plain name: nothing that leads out of the folder. */
static int
is_file_name(const char *name)
{
    size_t length = strlen(name);

    return length > 0 && length <= MAX_NAME && name[0] != '.' && strpbrk(name, "/\\") == NULL;
}

/* Collects the map's file names, sorted, each once. */
static d2c_status
collect_files(d2c_shards *shards, d2c_error *err)
{
    const cJSON *item;
    int kept = 0, i;

    shards->file = calloc((size_t)cJSON_GetArraySize(shards->map) + 1, sizeof shards->file[0]);
    if (shards->file == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    cJSON_ArrayForEach(item, shards->map)
    {
        const char *name = cJSON_GetStringValue(item);

        if (name == NULL || !is_file_name(name)) {
            d2c_fail(err, D2C_BAD_MODEL, "invalid file of tensor \"%s\"", item->string);
            d2c_detail(err, "Its value must be the name of a file in the same folder.");
            return D2C_BAD_MODEL;
        }
        shards->file[shards->count++] = name;
    }
    qsort(shards->file, (size_t)shards->count, sizeof shards->file[0], compare_files);
    for (i = 0; i < shards->count; i++)
        if (kept == 0 || strcmp(shards->file[kept - 1], shards->file[i]) != 0)
            shards->file[kept++] = shards->file[i];
    shards->count = kept;
    return D2C_OK;
}

static d2c_status
parse(d2c_shards *shards, const void *bytes, size_t length, d2c_error *err)
{
    if (length > MAX_INDEX)
        return d2c_fail(err, D2C_BAD_MODEL, "it is too large");
    if (!d2c_is_utf8(bytes, length))
        return d2c_fail(err, D2C_BAD_MODEL, "it is no UTF-8");
    shards->json = cJSON_ParseWithLength(bytes, length);
    shards->map = cJSON_GetObjectItemCaseSensitive(shards->json, "weight_map");
    if (!cJSON_IsObject(shards->map) || shards->map->child == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "it has no \"weight_map\"");
    return collect_files(shards, err);
}

d2c_status
d2c_shards_parse(d2c_shards *shards, const char *path, const void *bytes, size_t length, d2c_error *err)
{
    d2c_status status;

    memset(shards, 0, sizeof *shards);
    status = parse(shards, bytes, length, err);
    if (status == D2C_OK)
        return D2C_OK;
    d2c_shards_free(shards);
    if (status == D2C_BAD_MODEL)
        d2c_error_prefix(err, "\"%s\" is no valid index of weights", path);
    return status;
}

void
d2c_shards_free(d2c_shards *shards)
{
    cJSON_Delete(shards->json);
    free(shards->file);
    memset(shards, 0, sizeof *shards);
}

int
d2c_shards_find(const d2c_shards *shards, const char *file)
{
    const char **found =
        bsearch(&file, shards->file, (size_t)shards->count, sizeof shards->file[0], compare_files);

    return (int)(found - shards->file);
}

d2c_status
d2c_shards_path(char *path, size_t size, const char *index, const char *file, d2c_error *err)
{
    const char *slash = strrchr(index, '/');
    int folder = slash != NULL ? (int)(slash + 1 - index) : 0;

    if (snprintf(path, size, "%.*s%s", folder, index, file) >= (int)size)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of \"%s\" is too long", file);
    return D2C_OK;
}

d2c_status
d2c_shards_check(const d2c_shards *shards, const char *index, d2c_error *err)
{
    const char *first = NULL;
    char path[MAX_PATH];
    int missing = 0, i;

    for (i = 0; i < shards->count; i++) {
        D2C_TRY(d2c_shards_path(path, sizeof path, index, shards->file[i], err));
        if (access(path, F_OK) == 0)
            continue;
        if (missing++ == 0)
            first = shards->file[i];
    }
    if (missing == 0)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "file \"%s\" is missing", first);
    d2c_detail(err, "Of the %d files that \"%s\" names, %d are missing.", shards->count, index, missing);
    return D2C_BAD_MODEL;
}

/* The list of `count` texts of at most `size` bytes; *texts: where they go. */
static d2c_status
make_list(char ***files, char **texts, int count, size_t size, d2c_error *err)
{
    *files = calloc((size_t)count, sizeof **files + size);
    if (*files == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    *texts = (char *)(*files + count);
    return D2C_OK;
}

static d2c_status
list_shards(char ***files, const d2c_shards *shards, const char *path, d2c_error *err)
{
    size_t size = strlen(path) + MAX_NAME + 1;
    char *texts = NULL;
    int i;

    D2C_TRY(d2c_shards_check(shards, path, err));
    D2C_TRY(make_list(files, &texts, shards->count, size, err));
    for (i = 0; i < shards->count; i++) {
        (*files)[i] = texts + (size_t)i * size;
        D2C_TRY(d2c_shards_path((*files)[i], size, path, shards->file[i], err));
    }
    return D2C_OK;
}

static d2c_status
list_itself(char ***files, const char *path, d2c_error *err)
{
    char *text = NULL;

    D2C_TRY(make_list(files, &text, 1, strlen(path) + 1, err));
    **files = strcpy(text, path);
    return D2C_OK;
}

d2c_status
d2c_weight_files(char ***files, int *count, const char *path, d2c_error *err)
{
    d2c_shards shards;
    const void *bytes;
    d2c_status status;
    size_t length;

    *files = NULL;
    *count = 1;
    D2C_TRY(d2c_file_map(&bytes, &length, path, err));
    if (d2c_shards_recognizes(bytes, length)) {
        status = d2c_shards_parse(&shards, path, bytes, length, err);
        if (status == D2C_OK) {
            *count = shards.count;
            status = list_shards(files, &shards, path, err);
            d2c_shards_free(&shards);
        }
    } else
        status = list_itself(files, path, err);
    d2c_file_unmap(bytes, length);
    return status;
}
