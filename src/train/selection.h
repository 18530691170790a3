/*
 * selection.h: the selection that the rows of a training are: found by its name, compared with the rows.
 *
 * d2c_selections and d2c_selection_items (sql/d2c/selections.sql) are read by plain SQL: the database needs no extension
 * for it.
 */
#ifndef D2C_TRAIN_SELECTION_H
#define D2C_TRAIN_SELECTION_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"
#include "train/order.h"

typedef struct d2c_selection {
    char *name, *schema;
    int64_t id;                                    /* 0: it is not there any more */
    int64_t items;                                 /* rows that it has */
    char *digest;                                  /* of all its items */
    char *source;                                  /* its table, quoted; NULL: none is named */
    char *id_column, *label_column, *image_column; /* of the source; NULL without one */
    int64_t gone, changed;        /* by d2c_selection_compare: rows of it that are missing, or have
                                                     * another label or image */
    char first[D2C_ID_LIMIT + 1]; /* the first of those */
} d2c_selection;

/* The closed selection of a name, in a schema or, when that is NULL, where search_path finds d2c_selections. */
d2c_status d2c_selection_find(d2c_selection **selection, PGconn *connection, const char *name,
                              const char *schema, d2c_error *err);

/* The selection as which d2c_condense made a table, NULL when there is none; one that was dropped since has id 0. */
d2c_status d2c_selection_of_table(d2c_selection **selection, PGconn *connection, const char *table,
                                  d2c_error *err);
void d2c_selection_free(d2c_selection *selection);

/* What stands behind FROM, of a source as it stands there, for the rows of the selection alone.  malloc'd. */
d2c_status d2c_selection_restrict(char **restricted, const d2c_selection *selection, PGconn *connection,
                                  const char *source, const char *id_column, d2c_error *err);

/* Compares the items with the rows of a source; images only when `images` is set and the column holds them. */
typedef struct d2c_selection_columns {
    const char *id, *label, *image;
    int images;
} d2c_selection_columns;

d2c_status d2c_selection_compare(d2c_selection *selection, PGconn *connection, const char *source,
                                 const d2c_selection_columns *columns, d2c_error *err);

/* What a checkpoint says of it: a JSON object.  malloc'd; NULL without memory. */
char *d2c_selection_json(const d2c_selection *selection);

#endif
