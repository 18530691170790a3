/* weights.c: tensors by name, over the readers of each format (weights.h). */
#include "nn/weights.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "nn/shards.h"
#include "nn/torch_file.h"

struct d2c_weights {
    int users;
    const void *map; /* of the file; NULL over memory of others */
    size_t map_length;
    d2c_safetensors *owned;      /* one of the three: a safetensors file of ours, */
    d2c_torch_file *torch;       /* torch.save's, */
    d2c_weights **shard;         /* or the files of an index [shards] */
    const d2c_safetensors *file; /* whose metadata we have; NULL when there is none */
    int shards;
    const d2c_st_tensor **at; /* [count] in the file's order */
    const d2c_st_tensor **by_name;
    int count;
};

/* ---- the list of tensors --------------------------------------------------------------------------------------------- */

static int
compare_names(const void *a, const void *b)
{
    return strcmp((*(const d2c_st_tensor *const *)a)->name, (*(const d2c_st_tensor *const *)b)->name);
}

static d2c_status
make_list(d2c_weights *w, int count, d2c_error *err)
{
    w->count = count;
    w->at = calloc((size_t)count + 1, sizeof w->at[0]);
    w->by_name = calloc((size_t)count + 1, sizeof w->by_name[0]);
    return w->at != NULL && w->by_name != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* Sorts the list by name; a name that occurs twice is an error. */
static d2c_status
sort_list(d2c_weights *w, const char *name, d2c_error *err)
{
    int i;

    memcpy(w->by_name, w->at, (size_t)w->count * sizeof w->at[0]);
    qsort(w->by_name, (size_t)w->count, sizeof w->by_name[0], compare_names);
    for (i = 1; i < w->count; i++)
        if (compare_names(&w->by_name[i - 1], &w->by_name[i]) == 0)
            return d2c_fail(err, D2C_BAD_MODEL, "tensor \"%s\" occurs twice in \"%s\"", w->by_name[i]->name,
                            name);
    return D2C_OK;
}

static d2c_status
list_safetensors(d2c_weights *w, const d2c_safetensors *file, const char *name, d2c_error *err)
{
    int i;

    w->file = file;
    D2C_TRY(make_list(w, d2c_safetensors_count(file), err));
    for (i = 0; i < w->count; i++)
        w->at[i] = d2c_safetensors_at(file, i);
    return sort_list(w, name, err);
}

static d2c_status
list_torch(d2c_weights *w, const char *name, d2c_error *err)
{
    int i;

    D2C_TRY(make_list(w, d2c_torch_count(w->torch), err));
    for (i = 0; i < w->count; i++)
        w->at[i] = d2c_torch_at(w->torch, i);
    return sort_list(w, name, err);
}

/* ---- several files --------------------------------------------------------------------------------------------------- */

static d2c_status open_file(d2c_weights **weights, const char *path, int may_be_index, d2c_error *err);

static d2c_status
open_shards(d2c_weights *w, const d2c_shards *shards, const char *path, d2c_error *err)
{
    char name[4096];

    D2C_TRY(d2c_shards_check(shards, path, err));
    w->shard = calloc((size_t)shards->count, sizeof w->shard[0]);
    if (w->shard == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (; w->shards < shards->count; w->shards++) {
        D2C_TRY(d2c_shards_path(name, sizeof name, path, shards->file[w->shards], err));
        D2C_TRY(open_file(&w->shard[w->shards], name, 0, err));
    }
    return D2C_OK;
}

/* Lists the tensors that the index names, each from its file. */
static d2c_status
list_shards(d2c_weights *w, const d2c_shards *shards, const char *path, d2c_error *err)
{
    const cJSON *item;
    int i = 0;

    D2C_TRY(open_shards(w, shards, path, err));
    D2C_TRY(make_list(w, cJSON_GetArraySize(shards->map), err));
    cJSON_ArrayForEach(item, shards->map)
    {
        const char *file = cJSON_GetStringValue(item);

        w->at[i] = d2c_weights_find(w->shard[d2c_shards_find(shards, file)], item->string);
        if (w->at[i++] == NULL)
            return d2c_fail(err, D2C_BAD_MODEL, "\"%s\" has no tensor \"%s\", which the index says it has",
                            file, item->string);
    }
    return sort_list(w, path, err);
}

static d2c_status
read_index(d2c_weights *w, const char *path, const void *bytes, size_t length, d2c_error *err)
{
    d2c_shards shards;
    d2c_status status;

    D2C_TRY(d2c_shards_parse(&shards, path, bytes, length, err));
    status = list_shards(w, &shards, path, err);
    d2c_shards_free(&shards);
    return status;
}

/* ---- telling formats apart -------------------------------------------------------------------------------------------- */

static int
has_at(const void *bytes, size_t length, size_t offset, const char *text)
{
    size_t n = strlen(text);

    return length >= offset + n && memcmp((const char *)bytes + offset, text, n) == 0;
}

/* What users put into a model directory by mistake. */
static d2c_status
refuse_other_kinds(const char *name, const void *bytes, size_t length, d2c_error *err)
{
    const char *kind = NULL, *hint = NULL;

    if (has_at(bytes, length, 0, "version https://git-lfs")) {
        kind = "a pointer of Git LFS, not the file itself";
        hint = "Fetch the file with \"git lfs pull\".";
    } else if (has_at(bytes, length, 257, "ustar") || has_at(bytes, length, 0, "\x1f\x8b")) {
        kind = "a tar or gzip archive";
        hint = "Unpack it; files of torch 0.1 are to be saved again by a later torch.";
    } else if (has_at(bytes, length, 0, "\x80\2") || has_at(bytes, length, 0, "\x80\4")) {
        kind = "a pickle that torch.save did not write";
        hint = "Save the state_dict with torch.save, or as safetensors.";
    } else if (has_at(bytes, length, 0, "\x89HDF")) {
        kind = "an HDF5 file";
        hint = "Only safetensors and PyTorch files are read.";
    }
    if (kind == NULL)
        return D2C_OK;
    d2c_fail(err, D2C_UNSUPPORTED, "\"%s\" is %s", name, kind);
    d2c_hint(err, "%s", hint);
    return D2C_UNSUPPORTED;
}

static d2c_status
read_bytes(d2c_weights *w, const char *name, const void *bytes, size_t length, int may_be_index,
           d2c_error *err)
{
    if (may_be_index && d2c_shards_recognizes(bytes, length))
        return read_index(w, name, bytes, length, err);
    if (d2c_torch_recognizes(bytes, length)) {
        D2C_TRY(d2c_torch_parse(&w->torch, name, bytes, length, err));
        return list_torch(w, name, err);
    }
    D2C_TRY(refuse_other_kinds(name, bytes, length, err));
    D2C_TRY(d2c_safetensors_parse(&w->owned, name, bytes, length, err));
    return list_safetensors(w, w->owned, name, err);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------- */

static d2c_status
make(d2c_weights **weights, d2c_error *err)
{
    *weights = calloc(1, sizeof **weights);
    if (*weights == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    (*weights)->users = 1;
    return D2C_OK;
}

/* Hands on the status of what filled *weights, which goes when that failed. */
static d2c_status
finish(d2c_weights **weights, d2c_status status)
{
    if (status == D2C_OK)
        return D2C_OK;
    d2c_weights_close(*weights);
    *weights = NULL;
    return status;
}

static d2c_status
open_file(d2c_weights **weights, const char *path, int may_be_index, d2c_error *err)
{
    d2c_status status;

    D2C_TRY(make(weights, err));
    status = d2c_file_map(&(*weights)->map, &(*weights)->map_length, path, err);
    if (status == D2C_OK)
        status = read_bytes(*weights, path, (*weights)->map, (*weights)->map_length, may_be_index, err);
    return finish(weights, status);
}

d2c_status
d2c_weights_open(d2c_weights **weights, const char *path, d2c_error *err)
{
    return open_file(weights, path, 1, err);
}

d2c_status
d2c_weights_parse(d2c_weights **weights, const char *name, const void *bytes, size_t length, d2c_error *err)
{
    D2C_TRY(make(weights, err));
    return finish(weights, read_bytes(*weights, name, bytes, length, 0, err));
}

d2c_status
d2c_weights_borrow(d2c_weights **weights, const d2c_safetensors *file, d2c_error *err)
{
    D2C_TRY(make(weights, err));
    return finish(weights, list_safetensors(*weights, file, "the file", err));
}

d2c_weights *
d2c_weights_hold(d2c_weights *weights)
{
    weights->users++;
    return weights;
}

void
d2c_weights_close(d2c_weights *weights)
{
    int i;

    if (weights == NULL || --weights->users > 0)
        return;
    d2c_safetensors_close(weights->owned);
    d2c_torch_close(weights->torch);
    for (i = 0; i < weights->shards; i++)
        d2c_weights_close(weights->shard[i]);
    free(weights->shard);
    free(weights->at);
    free(weights->by_name);
    d2c_file_unmap(weights->map, weights->map_length);
    free(weights);
}

/* ---- looking ----------------------------------------------------------------------------------------------------------- */

int
d2c_weights_count(const d2c_weights *weights)
{
    return weights->count;
}

const d2c_st_tensor *
d2c_weights_at(const d2c_weights *weights, int index)
{
    return weights->at[index];
}

const d2c_st_tensor *
d2c_weights_find(const d2c_weights *weights, const char *name)
{
    d2c_st_tensor wanted = {.name = name};
    const d2c_st_tensor *key = &wanted, **found;

    found =
        bsearch(&key, weights->by_name, (size_t)weights->count, sizeof weights->by_name[0], compare_names);
    return found != NULL ? *found : NULL;
}

const char *
d2c_weights_metadata(const d2c_weights *weights, const char *key)
{
    return weights->file != NULL ? d2c_safetensors_metadata(weights->file, key) : NULL;
}

int
d2c_weights_has(const d2c_weights *weights, const char *prefix, const char *name)
{
    char full[256];

    snprintf(full, sizeof full, "%s%s", prefix, name);
    return d2c_weights_find(weights, full) != NULL;
}

const char *
d2c_weights_prefix(const d2c_weights *weights, const char *const *prefixes, const char *name)
{
    for (; *prefixes != NULL; prefixes++)
        if (d2c_weights_has(weights, *prefixes, name))
            return *prefixes;
    return NULL;
}

int64_t
d2c_weights_parameters(const d2c_weights *weights, const char *prefix)
{
    int64_t sum = 0;
    int i;

    for (i = 0; i < d2c_weights_count(weights); i++) {
        const d2c_st_tensor *t = d2c_weights_at(weights, i);
        int is_float = t->dtype == D2C_ST_F32 || t->dtype == D2C_ST_F16 || t->dtype == D2C_ST_BF16 ||
                       t->dtype == D2C_ST_F64;

        if (is_float && strncmp(t->name, prefix, strlen(prefix)) == 0)
            sum += t->count;
    }
    return sum;
}
