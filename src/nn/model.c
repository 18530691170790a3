/* model.c: finding, describing, listing and opening the models of a directory. */
#include "nn/model.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "nn/bert_config.h"

#define MAX_PATH 4096

/* Where a model's files are. */
typedef struct place {
    char weights[MAX_PATH];
    char folder[MAX_PATH]; /* "" for a single file */
} place;

const char *
d2c_model_kind_name(d2c_model_kind kind)
{
    static const char *const names[] = {"unknown", "sit", "bert"};

    return names[kind <= D2C_MODEL_BERT ? kind : D2C_MODEL_UNKNOWN];
}

static int
is_name(const char *name, size_t length)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    size_t i;

    if (length == 0 || length >= sizeof((d2c_model_info *)0)->name || strchr("._-", name[0]) != NULL)
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
        sizeof((d2c_model_info *)0)->name - 1);
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
find_in_folder(place *at, const char *name, d2c_error *err)
{
    char index[MAX_PATH];

    D2C_TRY(join(at->weights, at->folder, "model.safetensors", "", err));
    if (exists(at->weights))
        return D2C_OK;
    D2C_TRY(join(index, at->folder, "model.safetensors.index.json", "", err));
    d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" has no file model.safetensors", name);
    if (exists(index))
        d2c_hint(err, "Its weights are in several files; merge them into one.");
    return D2C_BAD_MODEL;
}

/* Finds a model by its name, which is checked first. */
static d2c_status
find_model(place *at, const char *directory, const char *name, d2c_error *err)
{
    D2C_TRY(d2c_model_name_check(name, err));
    D2C_TRY(join(at->weights, directory, name, ".safetensors", err));
    D2C_TRY(join(at->folder, directory, name, "", err));
    if (exists(at->weights)) {
        if (is_folder(at->folder))
            return d2c_fail(err, D2C_BAD_MODEL, "model \"%s\" is both a file and a folder", name);
        at->folder[0] = '\0';
        return D2C_OK;
    }
    if (is_folder(at->folder))
        return find_in_folder(at, name, err);
    return fail_not_found(err, directory, name);
}

/* ---- describing ---------------------------------------------------------------------------------------------------- */

static int
has_tensor(const d2c_safetensors *file, const char *prefix, const char *name)
{
    char full[128];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return d2c_safetensors_find(file, full) != NULL;
}

/* The first prefix under which the file has the tensor, or NULL. */
static const char *
find_prefix(const d2c_safetensors *file, const char *const *prefixes, const char *name)
{
    for (; *prefixes != NULL; prefixes++)
        if (has_tensor(file, *prefixes, name))
            return *prefixes;
    return NULL;
}

/* A checkpoint holds a network several times; its average is the one to use. */
static const char *
sit_prefix(const d2c_safetensors *file)
{
    static const char *const prefixes[] = {"", "ema.", "model.", NULL};

    return find_prefix(file, prefixes, "blocks.0.adaLN_modulation.1.weight");
}

static const char *
bert_prefix(const d2c_safetensors *file)
{
    static const char *const prefixes[] = {"", "bert.", NULL};

    return find_prefix(file, prefixes, "embeddings.word_embeddings.weight");
}

/* Elements of all float tensors under the prefix; index tables are no parameters. */
static int64_t
count_parameters(const d2c_safetensors *file, const char *prefix)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < d2c_safetensors_count(file); i++) {
        const d2c_st_tensor *t = d2c_safetensors_at(file, i);
        int is_float = t->dtype == D2C_ST_F32 || t->dtype == D2C_ST_F16 || t->dtype == D2C_ST_BF16 ||
                       t->dtype == D2C_ST_F64;

        if (is_float && strncmp(t->name, prefix, strlen(prefix)) == 0)
            sum += t->count;
    }
    return sum;
}

/* The config of a SiT that is used as it is: the projector serves training only and is left out. */
static d2c_status
read_sit(d2c_sit_config *config, const d2c_safetensors *file, const char *prefix, d2c_error *err)
{
    D2C_TRY(d2c_sit_config_read(config, file, prefix, err));
    if (config->text_tokens > 0) {
        d2c_fail(err, D2C_UNSUPPORTED, "the network needs a text condition");
        d2c_hint(err, "Fold the text into its label table with \"d2c export\".");
        return D2C_UNSUPPORTED;
    }
    config->proj_block = config->proj_hidden = config->proj_width = 0;
    return D2C_OK;
}

static d2c_status
describe_sit(d2c_model_info *info, const d2c_safetensors *file, const char *prefix, d2c_error *err)
{
    d2c_sit_config config;

    info->kind = D2C_MODEL_SIT;
    info->parameters = count_parameters(file, prefix);
    D2C_TRY(read_sit(&config, file, prefix, err));
    info->width = config.width;
    info->height = config.height;
    info->channels = config.channels;
    info->classes = config.classes;
    info->embedding = config.hidden;
    return D2C_OK;
}

static d2c_status
describe_bert(d2c_model_info *info, const place *at, const d2c_safetensors *file, const char *prefix,
              d2c_error *err)
{
    d2c_wordpiece *tokenizer;
    d2c_bert_config config;

    info->kind = D2C_MODEL_BERT;
    info->parameters = count_parameters(file, prefix);
    if (at->folder[0] == '\0')
        return d2c_fail(err, D2C_BAD_MODEL, "a text encoder needs a folder with config.json and vocab.txt");
    D2C_TRY(d2c_bert_config_read(&config, at->folder, err));
    info->embedding = config.hidden;
    D2C_TRY(d2c_bert_tokenizer_open(&tokenizer, at->folder, err));
    d2c_wordpiece_close(tokenizer);
    return D2C_OK;
}

/* Fills all but name and sha256. */
static d2c_status
describe(d2c_model_info *info, const place *at, const d2c_safetensors *file, d2c_error *err)
{
    const char *prefix = sit_prefix(file);

    if (prefix != NULL)
        return describe_sit(info, file, prefix, err);
    prefix = bert_prefix(file);
    if (prefix != NULL)
        return describe_bert(info, at, file, prefix, err);
    d2c_fail(err, D2C_BAD_MODEL, "the tensors are those of no known kind of model");
    d2c_detail(err, "SiT and BERT are known.");
    return D2C_BAD_MODEL;
}

/* Finds and describes; what has become known before a failure stays in *info. */
static d2c_status
inspect(d2c_model_info *info, place *at, const char *directory, const char *name, int with_sha256,
        d2c_error *err)
{
    d2c_safetensors *file;
    d2c_status status;

    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "%s", name);
    D2C_TRY(find_model(at, directory, name, err));
    if (with_sha256)
        D2C_TRY(d2c_file_sha256(info->sha256, at->weights, err));
    D2C_TRY(d2c_safetensors_open(&file, at->weights, err));
    status = describe(info, at, file, err);
    d2c_safetensors_close(file);
    return status;
}

/* ---- listing ------------------------------------------------------------------------------------------------------- */

typedef struct names {
    char (*name)[sizeof((d2c_model_info *)0)->name];
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

/* Describes one model; what is wrong with it becomes its problem. */
static void
describe_for_list(d2c_model_info *info, const char *directory, const char *name, int with_sha256)
{
    d2c_error err, whole;
    place at;

    if (inspect(info, &at, directory, name, with_sha256, &err) == D2C_OK)
        return;
    d2c_fail(&whole, err.status, "%s%s%s", err.message, err.detail[0] != '\0' ? ": " : "", err.detail);
    memcpy(info->problem, whole.message, sizeof info->problem);
}

d2c_status
d2c_model_list(d2c_model_info **list, int *count, const char *directory, int with_sha256, d2c_error *err)
{
    names found = {0};
    d2c_status status = read_names(&found, directory, err);
    int i;

    *list = NULL;
    *count = 0;
    if (status == D2C_OK) {
        *list = calloc((size_t)found.count + 1, sizeof **list);
        if (*list == NULL)
            status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
        else
            *count = found.count;
    }
    for (i = 0; i < *count; i++)
        describe_for_list(&(*list)[i], directory, found.name[i], with_sha256);
    free(found.name);
    return status;
}

d2c_status
d2c_model_sha256(char out[65], const char *directory, const char *name, d2c_error *err)
{
    place at;

    out[0] = '\0';
    D2C_TRY(find_model(&at, directory, name, err));
    return d2c_file_sha256(out, at.weights, err);
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static d2c_status
load_sit(d2c_sit **sit, d2c_backend *be, const d2c_safetensors *file, d2c_dtype precision, d2c_error *err)
{
    const char *prefix = sit_prefix(file);
    d2c_sit_config config;
    d2c_status status;

    D2C_TRY(read_sit(&config, file, prefix, err));
    D2C_TRY(d2c_sit_create(sit, be, &config, precision, 0, err));
    status = d2c_sit_load(*sit, be, (*sit)->params.value, file, prefix, err);
    if (status != D2C_OK) {
        d2c_sit_destroy(*sit, be);
        *sit = NULL;
    }
    return status;
}

static d2c_status
load_parts(d2c_model *model, d2c_backend *be, const place *at, d2c_dtype precision, d2c_error *err)
{
    d2c_safetensors *file;
    d2c_status status;

    if (model->info.kind == D2C_MODEL_BERT)
        return d2c_bert_open(&model->bert, be, at->folder, precision, err);
    D2C_TRY(d2c_safetensors_open(&file, at->weights, err));
    status = load_sit(&model->sit, be, file, precision, err);
    d2c_safetensors_close(file);
    return status;
}

/* The uploads are this backend's; whoever uses the weights on another stream must find them there. */
static d2c_status
finish_loading(d2c_backend *be, d2c_error *err)
{
    return d2c_synchronize(be) == D2C_OK ? D2C_OK : d2c_backend_error(be, err);
}

/* sha256 NULL: it is computed. */
static d2c_status
open_model(d2c_model *m, d2c_backend *be, const char *directory, const char *name, const char *sha256,
           d2c_dtype precision, d2c_error *err)
{
    place at;

    D2C_TRY(inspect(&m->info, &at, directory, name, sha256 == NULL, err));
    if (sha256 != NULL)
        snprintf(m->info.sha256, sizeof m->info.sha256, "%s", sha256);
    D2C_TRY(load_parts(m, be, &at, precision, err));
    return finish_loading(be, err);
}

d2c_status
d2c_model_open_known(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
                     const char *sha256, d2c_dtype precision, d2c_error *err)
{
    d2c_model *m = calloc(1, sizeof *m);
    d2c_status status;

    *model = NULL;
    if (m == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = open_model(m, be, directory, name, sha256, precision, err);
    if (status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED)
        d2c_error_prefix(err, "could not open model \"%s\"", name);
    if (status != D2C_OK) {
        d2c_model_close(m, be);
        return status;
    }
    *model = m;
    return D2C_OK;
}

d2c_status
d2c_model_open(d2c_model **model, d2c_backend *be, const char *directory, const char *name,
               d2c_dtype precision, d2c_error *err)
{
    return d2c_model_open_known(model, be, directory, name, NULL, precision, err);
}

void
d2c_model_close(d2c_model *model, d2c_backend *be)
{
    if (model == NULL)
        return;
    if (model->sit != NULL)
        d2c_sit_destroy(model->sit, be);
    d2c_bert_close(model->bert, be);
    free(model);
}

size_t
d2c_model_bytes(const d2c_model *model)
{
    const d2c_params *params = model->sit != NULL ? &model->sit->params : &model->bert->params;

    size_t each = sizeof(float);

    if (params->shadow != NULL)
        each += sizeof *params->shadow;
    if (params->eight != NULL)
        each += sizeof *params->eight;
    return (size_t)params->total * each;
}
