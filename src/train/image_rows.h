/* image_rows.h: images, one after the other, from a query, a table or a folder. */
#ifndef D2C_TRAIN_IMAGE_ROWS_H
#define D2C_TRAIN_IMAGE_ROWS_H

#include <libpq-fe.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Is called for each image; a failure ends the reading.  where: "row 3 of the query" or "file \"a.png\"", for the
 * visitor's errors; second: the text of the query's second column, or NULL. */
typedef d2c_status (*d2c_image_visitor)(void *data, const char *where, const uint8_t *bytes, size_t length,
                                        const char *second, d2c_error *err);

/*
 * source: a query (anything with white space in it) whose first column is a bytea, rows in its order; a folder
 * (anything else with a slash in it), with its sub-folders, in the order of its names; or a table's name, whose column
 * image is read by id.  conn may be NULL
 * for a folder.
 */
d2c_status d2c_each_image(PGconn *conn, const char *source, d2c_image_visitor visit, void *data,
                          d2c_error *err);

#endif
