/* import_source.c: images from IDX files and from folders of classes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/image.h"
#include "train/import.h"

#define FILE_LIMIT ((size_t)1 << 29)

static d2c_status
load_idx(void *data, int64_t index, d2c_import_item *item, d2c_error *err)
{
    d2c_import_idx *idx = data;
    const d2c_idx *images = &idx->images;
    d2c_image image = {(int)images->dim[2], (int)images->dim[1], images->ndim == 4 ? 3 : 1, NULL};

    image.pixels =
        images->data + (size_t)index * (size_t)image.width * (size_t)image.height * (size_t)image.channels;
    item->label = idx->labels.data[index];
    return d2c_image_encode_png(&item->bytes, &item->length, &image, err);
}

static d2c_status
check_idx(const d2c_import_idx *idx, d2c_error *err)
{
    const int64_t *dim = idx->images.dim;

    if (dim[0] != idx->labels.dim[0]) {
        d2c_fail(err, D2C_BAD_DATA, "the files do not belong together");
        d2c_detail(err, "There are %lld images and %lld labels.", (long long)dim[0],
                   (long long)idx->labels.dim[0]);
        return D2C_BAD_DATA;
    }
    if (dim[1] > D2C_DEFAULT_PIXEL_LIMIT / dim[2] || (idx->images.ndim == 4 && dim[3] != 3)) {
        d2c_fail(err, D2C_BAD_DATA, "the IDX file does not hold images");
        d2c_detail(err, "Images are [count, height, width], or [count, height, width, 3] for colour.");
        return D2C_BAD_DATA;
    }
    return D2C_OK;
}

/* Labels are bytes, so there are at most 256 classes. */
static int
largest_label(const d2c_idx *labels)
{
    int64_t i;
    int largest = 0;

    for (i = 0; i < labels->dim[0]; i++)
        if (labels->data[i] > largest)
            largest = labels->data[i];
    return largest;
}

static d2c_status
add_name(d2c_import_idx *idx, const char *name, size_t length, d2c_error *err)
{
    char *copy = strndup(name, length);

    if (copy == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for class names");
    idx->class_name[idx->classes++] = copy;
    return D2C_OK;
}

/* Splits the list at its commas; without a list, names are the labels' numbers. */
static d2c_status
name_classes(d2c_import_idx *idx, const char *names, d2c_error *err)
{
    int classes = largest_label(&idx->labels) + 1, i;
    char number[16];

    idx->class_name = calloc(256, sizeof *idx->class_name);
    if (idx->class_name == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for class names");
    for (i = 0; names == NULL && i < classes; i++) {
        snprintf(number, sizeof number, "%d", i);
        D2C_TRY(add_name(idx, number, strlen(number), err));
    }
    while (names != NULL && idx->classes < 256) {
        size_t length = strcspn(names, ",");

        D2C_TRY(add_name(idx, names, length, err));
        names = names[length] == ',' ? names + length + 1 : NULL;
    }
    if (idx->classes >= classes)
        return D2C_OK;
    d2c_fail(err, D2C_INVALID_ARGUMENT, "there are fewer class names than classes");
    d2c_detail(err, "The labels go up to %d; %d names are given.", classes - 1, idx->classes);
    return D2C_INVALID_ARGUMENT;
}

d2c_status
d2c_import_idx_open(d2c_import_idx *idx, d2c_import_source *source, const char *images_path,
                    const char *labels_path, const char *class_names, d2c_error *err)
{
    d2c_status status;

    memset(idx, 0, sizeof *idx);
    status = d2c_idx_read(&idx->images, images_path, 3, 4, err);
    if (status == D2C_OK)
        status = d2c_idx_read(&idx->labels, labels_path, 1, 1, err);
    if (status == D2C_OK)
        status = check_idx(idx, err);
    if (status == D2C_OK)
        status = name_classes(idx, class_names, err);
    if (status != D2C_OK)
        d2c_import_idx_close(idx);
    *source = (d2c_import_source){.count = status == D2C_OK ? idx->images.dim[0] : 0,
                                  .class_name = idx->class_name,
                                  .classes = idx->classes,
                                  .data = idx,
                                  .load = load_idx};
    return status;
}

void
d2c_import_idx_close(d2c_import_idx *idx)
{
    int i;

    for (i = 0; i < idx->classes; i++)
        free(idx->class_name[i]);
    free(idx->class_name);
    d2c_idx_free(&idx->images);
    d2c_idx_free(&idx->labels);
    memset(idx, 0, sizeof *idx);
}

static d2c_status
load_checked(const char *path, d2c_import_item *item, d2c_error *err)
{
    d2c_image image;
    d2c_status status;

    D2C_TRY(d2c_file_read(&item->bytes, &item->length, path, FILE_LIMIT, err));
    status = d2c_image_decode(&image, item->bytes, item->length, 0, D2C_DEFAULT_PIXEL_LIMIT, err);
    d2c_image_free(&image);
    if (status == D2C_OK)
        return status;
    d2c_error_prefix(err, "file \"%s\"", path);
    free(item->bytes);
    item->bytes = NULL;
    return status;
}

static d2c_status
load_file(void *data, int64_t index, d2c_import_item *item, d2c_error *err)
{
    const d2c_folder *folder = data;
    const d2c_folder_file *file = &folder->file[index];

    if (file->class_index < 0) {
        d2c_fail(err, D2C_BAD_DATA, "file \"%s\" has no class", file->path);
        d2c_hint(err, "The folder's sub-folders are the classes; move the file into one of them.");
        return D2C_BAD_DATA;
    }
    item->label = file->class_index;
    return load_checked(file->path, item, err);
}

d2c_status
d2c_import_folder_open(d2c_folder *folder, d2c_import_source *source, const char *path, d2c_error *err)
{
    D2C_TRY(d2c_folder_list(folder, path, err));
    *source = (d2c_import_source){.count = folder->count,
                                  .class_name = folder->class_name,
                                  .classes = folder->classes,
                                  .by_place = 1,
                                  .data = folder,
                                  .load = load_file};
    return D2C_OK;
}
