/*
 * import.h: image files into a table: id bigint primary key, label bigint, class text, image bytea [, split
 * text].
 *
 * Images are prepared on all threads, a block at a time, and written by COPY in one transaction: a failed
 * import leaves nothing behind.
 */
#ifndef D2C_TRAIN_IMPORT_H
#define D2C_TRAIN_IMPORT_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "base/progress.h"
#include "base/status.h"
#include "image/folder.h"
#include "image/idx.h"

typedef struct d2c_import_item {
    uint8_t *bytes; /* a whole image file, malloc'd */
    size_t length;
    int label; /* which of the source's classes */
} d2c_import_item;

/* Where images come from.  load may be called from several threads at once.  The labels of a folder's classes are their
 * places: where the table has rows, classes keep the labels that they have there, and new ones follow.  Labels that a file
 * says must be those of the table. */
typedef struct d2c_import_source {
    int64_t count;
    char **class_name; /* [classes] */
    int classes;
    int by_place; /* labels are places */
    void *data;
    d2c_status (*load)(void *data, int64_t index, d2c_import_item *item, d2c_error *err);
} d2c_import_source;

/* IDX images [count, height, width] (or [count, height, width, 3]) become PNG files. */
typedef struct d2c_import_idx {
    d2c_idx images, labels;
    char **class_name; /* [classes] */
    int classes;
} d2c_import_idx;

/* class_names: a list with commas, or NULL: the label's number is the name. */
d2c_status d2c_import_idx_open(d2c_import_idx *idx, d2c_import_source *source, const char *images_path,
                               const char *labels_path, const char *class_names, d2c_error *err);
void d2c_import_idx_close(d2c_import_idx *idx);

/* Files as they are, once they have been seen to decode. */
d2c_status d2c_import_folder_open(d2c_folder *folder, d2c_import_source *source, const char *path,
                                  d2c_error *err);

typedef struct d2c_import_target {
    const char *table; /* "table" or "schema.table" */
    const char *split; /* the column's value in every row; NULL: no such column */
    int create;        /* make the table when it is missing */
    int skip_errors;   /* leave out images that do not load, and count them */
} d2c_import_target;

typedef struct d2c_import_result {
    int64_t loaded, skipped;
    d2c_error first_skipped;
} d2c_import_result;

/* Rows get the ids that follow the table's largest.  progress may be NULL. */
d2c_status d2c_import_run(d2c_import_result *result, PGconn *conn, const d2c_import_target *target,
                          const d2c_import_source *source, d2c_progress *progress, d2c_error *err);

#endif
