/* blocks.h: the images of a source a block at a time, so that each block is worked on by all threads. */
#ifndef D2C_EVAL_BLOCKS_H
#define D2C_EVAL_BLOCKS_H

#include <libpq-fe.h>
#include <stdint.h>

#include "base/status.h"

#define D2C_IMAGE_BLOCK 256

/* One image as it is stored.  status and error are the visitor's to set, by any thread; D2C_OK before. */
typedef struct d2c_block_image {
    uint8_t *bytes;
    size_t length;
    int32_t label;   /* the source's second column; -1 for what is no label */
    char where[256]; /* "row 3 of the query" or "file \"a.png\"" */
    d2c_status status;
    d2c_error error;
} d2c_block_image;

/* Takes 1 to D2C_IMAGE_BLOCK images. */
typedef d2c_status (*d2c_block_visitor)(void *data, d2c_block_image *image, int count, d2c_error *err);

/* Reads a source (see d2c_each_image) and shows it in order.  The first image whose status is not D2C_OK after a visit
 * ends the reading with its error, which then names it. */
d2c_status d2c_each_block(PGconn *conn, const char *source, d2c_block_visitor visit, void *data,
                          d2c_error *err);

#endif
