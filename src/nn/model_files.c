/* model_files.c: finding, opening and listing the files of models (model_files.h). */
#include "nn/model_files.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
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

/* What a single file may be called behind NAME. */
static const char *const suffixes[] = {".safetensors", ".pt", ".pth"};
#define SUFFIXES ((int)(sizeof suffixes / sizeof suffixes[0]))

size_t
d2c_model_file_name(const char *file)
{
    size_t length = strlen(file);
    int i;

    for (i = 0; i < SUFFIXES; i++) {
        size_t tail = strlen(suffixes[i]);

        if (length > tail && strcmp(file + length - tail, suffixes[i]) == 0)
            return length - tail;
    }
    return 0;
}

static d2c_status
fail_not_found(d2c_error *err, const char *directory, const char *name)
{
    d2c_fail(err, D2C_NOT_FOUND, "model \"%s\" does not exist", name);
    d2c_detail(err,
               "The model directory \"%s\" has neither \"%s.safetensors\", .pt or .pth nor a folder \"%s\".",
               directory, name, name);
    return D2C_NOT_FOUND;
}

static d2c_status
fail_ambiguous(d2c_error *err, const char *name, const char *one, const char *other)
{
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is both \"%s\" and \"%s\"", name, one, other);
    d2c_hint(err, "Give one of them another name.");
    return D2C_BAD_MODEL;
}

/* Finds the weights of a folder in the Hugging Face layout. */
static d2c_status
find_in_folder(d2c_model_files *files, d2c_error *err)
{
    static const char *const names[] = {"model.safetensors",
                                        "model.safetensors.index.json",
                                        "diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.safetensors.index.json",
                                        "pytorch_model.bin",
                                        "pytorch_model.bin.index.json",
                                        "diffusion_pytorch_model.bin"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        D2C_TRY(join(files->path, files->folder, names[i], "", err));
        if (exists(files->path))
            return D2C_OK;
    }
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" has no file model.safetensors", files->name);
    d2c_detail(err, "Nor has it its index, pytorch_model.bin, or diffusers' names for these.");
    return D2C_BAD_MODEL;
}

/* Fills files->path with the one single file of the name; "" when there is none. */
static d2c_status
find_single(d2c_model_files *files, const char *directory, d2c_error *err)
{
    char path[MAX_PATH];
    int i;

    files->path[0] = '\0';
    for (i = 0; i < SUFFIXES; i++) {
        D2C_TRY(join(path, directory, files->name, suffixes[i], err));
        if (!exists(path))
            continue;
        if (files->path[0] != '\0')
            return fail_ambiguous(err, files->name, files->path, path);
        memcpy(files->path, path, sizeof path);
    }
    return D2C_OK;
}

d2c_status
d2c_model_files_find(d2c_model_files *files, const char *directory, const char *name, d2c_error *err)
{
    memset(files, 0, sizeof *files);
    D2C_TRY(d2c_model_name_check(name, err));
    snprintf(files->name, sizeof files->name, "%s", name);
    D2C_TRY(find_single(files, directory, err));
    D2C_TRY(join(files->folder, directory, name, "", err));
    if (is_folder(files->folder))
        return files->path[0] == '\0' ? find_in_folder(files, err)
                                      : fail_ambiguous(err, name, files->path, files->folder);
    files->folder[0] = '\0';
    return files->path[0] != '\0' ? D2C_OK : fail_not_found(err, directory, name);
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

/* Keys that any family reads: a word that none of them knows is a slip, and would change results silently. */
static d2c_status
check_key(const cJSON *item, const d2c_model_files *files, d2c_error *err)
{
    static const char *const texts[] = {"kind",     "path",       "weights", "vae",       "text_model",
                                        "position", "preprocess", "input",   "hidden_act"};
    static const char *const numbers[] = {"heads", "size", "scaling_factor"};
    size_t i;

    for (i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (strcmp(item->string, texts[i]) == 0 && cJSON_IsString(item))
            return D2C_OK;
    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (strcmp(item->string, numbers[i]) == 0 && cJSON_IsNumber(item))
            return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "the description of model \"%s\" has no valid \"%s\"", files->name,
             strlen(item->string) <= 40 ? item->string : "...");
    d2c_detail(err,
               "Texts are kind, path, weights, vae, text_model, position, preprocess, input and hidden_act; "
               "numbers are heads, size and scaling_factor.");
    return D2C_BAD_MODEL;
}

static d2c_status
check_description(const d2c_model_files *files, d2c_error *err)
{
    const cJSON *item;

    for (item = files->description != NULL ? files->description->child : NULL; item != NULL;
         item = item->next)
        D2C_TRY(check_key(item, files, err));
    return D2C_OK;
}

/* The choice of a checkpoint's copy is one that there is. */
static d2c_status
check_choice(const d2c_model_files *files, d2c_error *err)
{
    const char *choice = d2c_model_files_say(files, "weights");

    if (choice == NULL || strcmp(choice, "ema") == 0 || strcmp(choice, "model") == 0)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_MODEL, "invalid \"weights\" in the description of model \"%s\"", files->name);
    d2c_detail(err, "It must be \"ema\" or \"model\".");
    return D2C_BAD_MODEL;
}

d2c_status
d2c_model_files_open(d2c_model_files *files, d2c_error *err)
{
    if (files->folder[0] != '\0') {
        D2C_TRY(read_optional(&files->config, files->folder, "config.json", err));
        D2C_TRY(read_optional(&files->description, files->folder, "d2c.json", err));
    } else
        D2C_TRY(read_description_beside(files, err));
    D2C_TRY(check_description(files, err));
    D2C_TRY(check_choice(files, err));
    return d2c_weights_open(&files->weights, files->path, err);
}

d2c_status
d2c_model_files_open_path(d2c_model_files *files, const char *path, d2c_error *err)
{
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    char folder[D2C_MODEL_PATH], name[D2C_MODEL_PATH];
    size_t length = d2c_model_file_name(base);

    snprintf(name, sizeof name, "%.*s", (int)(length > 0 ? length : strlen(base)), base);
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash > path ? slash - path : 1),
             slash == NULL ? "." : path);
    if (length == 0) {
        D2C_TRY(d2c_model_files_find(files, folder, name, err));
        return d2c_model_files_open(files, err);
    }
    memset(files, 0, sizeof *files);
    D2C_TRY(d2c_model_name_check(name, err));
    snprintf(files->name, sizeof files->name, "%s", name);
    D2C_TRY(join(files->path, folder, base, "", err));
    return d2c_model_files_open(files, err);
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

const char *
d2c_model_files_prefix(const d2c_model_files *files, const char *name)
{
    static const char *const usual[] = {"", "ema.", "model.", NULL};
    static const char *const model[] = {"", "model.", NULL}, *const ema[] = {"", "ema.", NULL};
    const char *choice = d2c_model_files_say(files, "weights");
    const char *const *prefixes = choice == NULL ? usual : strcmp(choice, "ema") == 0 ? ema : model;

    return d2c_weights_prefix(files->weights, prefixes, name);
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

/* An entry of the directory that may be a model: a file of weights or a folder. */
static d2c_status
add_entry(names *list, const char *directory, const char *entry, d2c_error *err)
{
    size_t length = d2c_model_file_name(entry);
    char path[MAX_PATH];

    if (length == 0) {
        D2C_TRY(join(path, directory, entry, "", err));
        if (!is_folder(path))
            return D2C_OK;
        length = strlen(entry);
    }
    return is_name(entry, length) ? add_name(list, entry, length, err) : D2C_OK;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorts, and takes out all but one of what shares a name. */
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
