/* model_identity.c: what tells one model from another: the digest of its files, and whether they may have changed. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "nn/model_files.h"
#include "nn/shards.h"

#define COMPANIONS 7

/* The files of a model; the paths of the weights are one block. */
typedef struct file_list {
    char **weights;
    const char **path; /* [count]: those, then the companions that there are */
    int count;
    char companion[COMPANIONS][D2C_MODEL_PATH];
} file_list;

/* The path of one of a folder's companions; "" beside a single file, which has a description alone. */
static d2c_status
companion_path(char path[D2C_MODEL_PATH], const d2c_model_files *files, int which, d2c_error *err)
{
    static const char *const names[COMPANIONS] = {"d2c.json",    "config.json", "tokenizer_config.json",
                                                  "vocab.txt",   "vocab.json",  "merges.txt",
                                                  "spiece.model"};
    int length;

    path[0] = '\0';
    if (files->folder[0] != '\0')
        length = snprintf(path, D2C_MODEL_PATH, "%s/%s", files->folder, names[which]);
    else if (which == 0)
        length = snprintf(path, D2C_MODEL_PATH, "%.*s/%s.json",
                          (int)(strrchr(files->path, '/') - files->path), files->path, files->name);
    else
        return D2C_OK;
    if (length >= D2C_MODEL_PATH)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "path of model \"%s\" is too long", files->name);
    return D2C_OK;
}

static void
free_list(file_list *list)
{
    free(list->path);
    free(list->weights);
    free(list);
}

/* Adds the companions that there are. */
static d2c_status
add_companions(file_list *list, const d2c_model_files *files, d2c_error *err)
{
    int i;

    for (i = 0; i < COMPANIONS; i++) {
        D2C_TRY(companion_path(list->companion[i], files, i, err));
        if (list->companion[i][0] != '\0' && access(list->companion[i], F_OK) == 0)
            list->path[list->count++] = list->companion[i];
    }
    return D2C_OK;
}

static d2c_status
list_files(file_list **out, const d2c_model_files *files, d2c_error *err)
{
    file_list *list = calloc(1, sizeof *list);
    d2c_status status;

    *out = NULL;
    if (list == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_weight_files(&list->weights, &list->count, files->path, err);
    if (status == D2C_OK) {
        list->path = calloc((size_t)list->count + COMPANIONS, sizeof *list->path);
        status = list->path != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    if (status == D2C_OK) {
        memcpy(list->path, list->weights, (size_t)list->count * sizeof *list->path);
        status = add_companions(list, files, err);
    }
    if (status == D2C_OK)
        *out = list;
    else
        free_list(list);
    return status;
}

d2c_status
d2c_model_files_sha256(char out[65], const d2c_model_files *files, d2c_error *err)
{
    file_list *list;
    d2c_status status;

    out[0] = '\0';
    D2C_TRY(list_files(&list, files, err));
    status = d2c_files_sha256(out, list->path, list->count, err);
    free_list(list);
    return status;
}

typedef struct mark {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
} mark;

static d2c_status
take_mark(mark *m, const char *path, d2c_error *err)
{
    struct stat info;

    if (stat(path, &info) != 0)
        return d2c_fail(err, D2C_IO, "could not stat file \"%s\": %s", path, strerror(errno));
    m->device = info.st_dev;
    m->inode = info.st_ino;
    m->size = info.st_size;
    m->modified = info.st_mtim;
    m->changed = info.st_ctim;
    return D2C_OK;
}

/* marks [count + 1]: an index first, or the single file twice. */
static d2c_status
take_marks(d2c_model_identity *identity, mark *marks, const d2c_model_files *files, const file_list *list,
           d2c_error *err)
{
    int i;

    D2C_TRY(take_mark(&marks[0], files->path, err));
    for (i = 0; i < list->count; i++)
        D2C_TRY(take_mark(&marks[i + 1], list->path[i], err));
    d2c_sha256(identity->digest, marks, (size_t)(list->count + 1) * sizeof *marks);
    return D2C_OK;
}

d2c_status
d2c_model_files_identity(d2c_model_identity *identity, const d2c_model_files *files, d2c_error *err)
{
    file_list *list;
    d2c_status status;
    mark *marks;

    memset(identity, 0, sizeof *identity);
    D2C_TRY(list_files(&list, files, err));
    marks = calloc((size_t)list->count + 1, sizeof *marks);
    status = marks != NULL ? take_marks(identity, marks, files, list, err)
                           : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    free(marks);
    free_list(list);
    return status;
}
