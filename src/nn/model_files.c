/* model_files.c: finding, opening and listing the files of models (model_files.h). */
#include "nn/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "nn/config_json.h"

#define MAX_PATH D2C_MODEL_PATH

static int
is_name(const char *name, size_t length)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t i;

    if (length == 0 || length >= sizeof(d2c_model_name) || strchr("._-", name[0]) != NULL)
        return 0;
    for (i = 0; i < length; i++)
        if (strchr(letters, name[i]) == NULL && strchr("._-", name[i]) == NULL)
            return 0;
    return 1;
}

d2c_status
d2c_model_name_check(const char *name, d2c_error *err)
{
    if (is_name(name, strlen(name)))
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "invalid model name \"%s\"", name);
    d2c_detail(
        err,
        "A model name has 1 to %zu of the characters A-Z a-z 0-9 . _ - and starts with a letter or digit.",
        sizeof(d2c_model_name) - 1);
    return D2C_INVALID_ARGUMENT;
}

static d2c_status
join(char path[MAX_PATH], const char *directory, const char *name, const char *suffix, d2c_error *err)
{
    if (snprintf(path, MAX_PATH, "%s/%s%s", directory, name, suffix) >= MAX_PATH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of model \"%s\" is too long", name);
    return D2C_OK;
}

static int
is_folder(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static int
exists(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0;
}

static d2c_status
fail_not_found(d2c_error *err, const char *directory, const char *name)
{
    char path[MAX_PATH];

    D2C_TRY(join(path, directory, name, ".pt", err));
    d2c_fail(err, D2C_NOT_FOUND, "model \"%s\" does not exist", name);
    if (exists(path)) {
        d2c_detail(err, "There is \"%s\", which is not read.", path);
        d2c_hint(err, "Convert it to safetensors.");
    } else
        d2c_detail(err, "The model directory \"%s\" has neither \"%s.safetensors\" nor a folder \"%s\".",
                   directory, name, name);
    return D2C_NOT_FOUND;
}

/* Finds the weights of a folder in the Hugging Face layout. */
static d2c_status
find_in_folder(d2c_model_files *files, const char *name, d2c_error *err)
{
    char index[MAX_PATH];

    D2C_TRY(join(files->path, files->folder, "diffusion_pytorch_model.safetensors", "", err));
    if (exists(files->path))
        return D2C_OK;
    D2C_TRY(join(files->path, files->folder, "model.safetensors", "", err));
    if (exists(files->path))
        return D2C_OK;
    D2C_TRY(join(index, files->folder, "model.safetensors.index.json", "", err));
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" has no file model.safetensors", name);
    if (exists(index))
        d2c_hint(err, "Its weights are in several files; merge them into one.");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_model_files_find(d2c_model_files *files, const char *directory, const char *name, d2c_error *err)
{
    memset(files, 0, sizeof *files);
    D2C_TRY(d2c_model_name_check(name, err));
    snprintf(files->name, sizeof files->name, "%s", name);
    D2C_TRY(join(files->path, directory, name, ".safetensors", err));
    D2C_TRY(join(files->folder, directory, name, "", err));
    if (exists(files->path)) {
        if (is_folder(files->folder))
            return d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is both a file and a folder", name);
        files->folder[0] = '\0';
        return D2C_OK;
    }
    if (is_folder(files->folder))
        return find_in_folder(files, name, err);
    return fail_not_found(err, directory, name);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

/* An optional JSON object. */
static d2c_status
read_optional(cJSON **json, const char *folder, const char *name, d2c_error *err)
{
    d2c_error trouble;
    d2c_status status = d2c_json_read(json, folder, name, &trouble);

    if (status == D2C_NOT_FOUND)
        return D2C_OK;
    if (status != D2C_OK && err != NULL)
        *err = trouble;
    return status;
}

/* NAME.json in the folder of NAME's file. */
static d2c_status
read_description_beside(d2c_model_files *files, d2c_error *err)
{
    char folder[MAX_PATH], name[sizeof files->name + 8];

    snprintf(folder, sizeof folder, "%s", files->path);
    *strrchr(folder, '/') = '\0';
    snprintf(name, sizeof name, "%s.json", files->name);
    return read_optional(&files->description, folder, name, err);
}

d2c_status
d2c_model_files_open(d2c_model_files *files, d2c_error *err)
{
    if (files->folder[0] != '\0') {
        D2C_TRY(read_optional(&files->config, files->folder, "config.json", err));
        D2C_TRY(read_optional(&files->description, files->folder, "d2c.json", err));
    } else
        D2C_TRY(read_description_beside(files, err));
    return d2c_weights_open(&files->weights, files->path, err);
}

void
d2c_model_files_close(d2c_model_files *files)
{
    d2c_weights_close(files->weights);
    cJSON_Delete(files->config);
    cJSON_Delete(files->description);
    files->weights = NULL;
    files->config = files->description = NULL;
}

const char *
d2c_model_files_say(const d2c_model_files *files, const char *key)
{
    return files->description != NULL ? d2c_config_text(files->description, key) : NULL;
}

/* ---- listing ------------------------------------------------------------------------------------------------------- */

typedef struct names {
    d2c_model_name *name;
    int count, capacity;
} names;

static d2c_status
add_name(names *list, const char *name, size_t length, d2c_error *err)
{
    if (list->count == list->capacity) {
        int capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        void *grown = realloc(list->name, (size_t)capacity * sizeof list->name[0]);

        if (grown == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
        list->name = grown;
        list->capacity = capacity;
    }
    memcpy(list->name[list->count], name, length);
    list->name[list->count++][length] = '\0';
    return D2C_OK;
}

/* An entry of the directory that may be a model: NAME.safetensors or a folder. */
static d2c_status
add_entry(names *list, const char *directory, const char *entry, d2c_error *err)
{
    static const char suffix[] = ".safetensors";
    size_t length = strlen(entry), tail = sizeof suffix - 1;
    char path[MAX_PATH];

    if (length > tail && strcmp(entry + length - tail, suffix) == 0)
        length -= tail;
    else {
        D2C_TRY(join(path, directory, entry, "", err));
        if (!is_folder(path))
            return D2C_OK;
    }
    return is_name(entry, length) ? add_name(list, entry, length, err) : D2C_OK;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorts, and takes out the second of a file and a folder of one name. */
static void
sort_names(names *list)
{
    int i, kept = 0;

    if (list->count > 1)
        qsort(list->name, (size_t)list->count, sizeof list->name[0], compare_names);
    for (i = 0; i < list->count; i++)
        if (kept == 0 || strcmp(list->name[kept - 1], list->name[i]) != 0)
            memmove(list->name[kept++], list->name[i], sizeof list->name[0]);
    list->count = kept;
}

static d2c_status
read_names(names *list, const char *directory, d2c_error *err)
{
    DIR *dir = opendir(directory);
    d2c_status status = D2C_OK;
    struct dirent *entry;

    if (dir == NULL)
        return d2c_fail(err, errno == ENOENT ? D2C_NOT_FOUND : D2C_IO,
                        "could not open model directory \"%s\": %s", directory, strerror(errno));
    errno = 0;
    while (status == D2C_OK && (entry = readdir(dir)) != NULL) {
        status = add_entry(list, directory, entry->d_name, err);
        errno = 0;
    }
    if (status == D2C_OK && errno != 0)
        status =
            d2c_fail(err, D2C_IO, "could not read model directory \"%s\": %s", directory, strerror(errno));
    closedir(dir);
    sort_names(list);
    return status;
}

d2c_status
d2c_model_names(d2c_model_name **list, int *count, const char *directory, d2c_error *err)
{
    names found = {0};
    d2c_status status = read_names(&found, directory, err);

    if (status != D2C_OK) {
        free(found.name);
        found = (names){0};
    }
    *list = found.name;
    *count = found.count;
    return status;
}
