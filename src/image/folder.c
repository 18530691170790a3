/* folder.c: listing a folder of classes. */
#include "image/folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int
visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int
by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static char *
join(const char *folder, const char *name)
{
    size_t length = strlen(folder) + strlen(name) + 2;
    char *path = malloc(length);

    if (path != NULL)
        snprintf(path, length, "%s/%s", folder, name);
    return path;
}

/* Makes room for one more element; the array grows by doubling at powers of two. */
static int
grow(void **array, int64_t count, size_t size)
{
    void *bigger;

    if (count & (count - 1))
        return 0;
    bigger = realloc(*array, (size_t)(count > 0 ? 2 * count : 1) * size);
    if (bigger == NULL)
        return -1;
    *array = bigger;
    return 0;
}

/* Takes over `path`. */
static d2c_status
add_file(d2c_folder *folder, char *path, int class_index, d2c_error *err)
{
    if (grow((void **)&folder->file, folder->count, sizeof *folder->file) != 0) {
        free(path);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a list of files");
    }
    folder->file[folder->count++] = (d2c_folder_file){path, class_index};
    return D2C_OK;
}

static d2c_status
add_class(d2c_folder *folder, const char *name, d2c_error *err)
{
    char *copy = strdup(name);

    if (copy == NULL ||
        grow((void **)&folder->class_name, folder->classes, sizeof *folder->class_name) != 0) {
        free(copy);
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a list of classes");
    }
    folder->class_name[folder->classes++] = copy;
    return D2C_OK;
}

static d2c_status list_level(d2c_folder *folder, const char *path, int class_index, d2c_error *err);

/* Takes over `path`: a class at the top, a file anywhere. */
static d2c_status
add_entry(d2c_folder *folder, char *path, const char *name, int class_index, d2c_error *err)
{
    struct stat info;
    d2c_status status;

    if (path == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a list of files");
    if (stat(path, &info) != 0)
        status = d2c_fail(err, D2C_IO, "could not read \"%s\": %s", path, strerror(errno));
    else if (S_ISREG(info.st_mode))
        return add_file(folder, path, class_index, err);
    else if (S_ISDIR(info.st_mode) && class_index < 0) {
        status = add_class(folder, name, err);
        if (status == D2C_OK)
            status = list_level(folder, path, folder->classes - 1, err);
    } else {
        status = d2c_fail(err, D2C_INVALID_ARGUMENT, "\"%s\" is not an image file", path);
        d2c_hint(err, "A folder's sub-folders are the classes and hold nothing but image files.");
    }
    free(path);
    return status;
}

static d2c_status
list_level(d2c_folder *folder, const char *path, int class_index, d2c_error *err)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, visible, by_bytes), i;
    d2c_status status = D2C_OK;

    if (count < 0)
        return d2c_fail(err, errno == ENOENT ? D2C_NOT_FOUND : D2C_IO, "could not open folder \"%s\": %s",
                        path, strerror(errno));
    for (i = 0; i < count; i++) {
        if (status == D2C_OK)
            status = add_entry(folder, join(path, entries[i]->d_name), entries[i]->d_name, class_index, err);
        free(entries[i]);
    }
    free(entries);
    return status;
}

d2c_status
d2c_folder_list(d2c_folder *folder, const char *path, d2c_error *err)
{
    d2c_status status;

    memset(folder, 0, sizeof *folder);
    status = list_level(folder, path, -1, err);
    if (status == D2C_OK && folder->count == 0)
        status = d2c_fail(err, D2C_NOT_FOUND, "folder \"%s\" holds no files", path);
    if (status != D2C_OK)
        d2c_folder_free(folder);
    return status;
}

void
d2c_folder_free(d2c_folder *folder)
{
    int64_t i;

    for (i = 0; i < folder->count; i++)
        free(folder->file[i].path);
    for (i = 0; i < folder->classes; i++)
        free(folder->class_name[i]);
    free(folder->file);
    free(folder->class_name);
    memset(folder, 0, sizeof *folder);
}
