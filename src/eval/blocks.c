/* blocks.c: gathering blocks of images (blocks.h). */
#include "eval/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "train/image_rows.h"

typedef struct gathering {
    d2c_block_visitor visit;
    void *data;
    int waiting;
    d2c_block_image image[D2C_IMAGE_BLOCK];
} gathering;

static void
drop_images(gathering *g)
{
    while (g->waiting > 0)
        free(g->image[--g->waiting].bytes);
}

static d2c_status
flush(gathering *g, d2c_error *err)
{
    int i;

    if (g->waiting == 0)
        return D2C_OK;
    D2C_TRY(g->visit(g->data, g->image, g->waiting, err));
    for (i = 0; i < g->waiting; i++)
        if (g->image[i].status != D2C_OK) {
            if (err != NULL)
                *err = g->image[i].error;
            d2c_error_prefix(err, "%s", g->image[i].where);
            return g->image[i].status;
        }
    drop_images(g);
    return D2C_OK;
}

/* -1 for what is not a label: no second column, a null, a name. */
static int32_t
label_of(const char *text)
{
    char *end;
    long label;

    if (text == NULL)
        return -1;
    label = strtol(text, &end, 10);
    return end != text && *end == '\0' && label >= 0 && label <= INT32_MAX ? (int32_t)label : -1;
}

static d2c_status
take_image(void *data, const char *where, const uint8_t *bytes, size_t length, const char *second,
           d2c_error *err)
{
    gathering *g = data;
    d2c_block_image *image = &g->image[g->waiting];

    image->bytes = malloc(length > 0 ? length : 1);
    if (image->bytes == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for an image");
    memcpy(image->bytes, bytes, length);
    image->length = length;
    image->label = label_of(second);
    image->status = D2C_OK;
    snprintf(image->where, sizeof image->where, "%s", where);
    return ++g->waiting == D2C_IMAGE_BLOCK ? flush(g, err) : D2C_OK;
}

d2c_status
d2c_each_block(PGconn *conn, const char *source, d2c_block_visitor visit, void *data, d2c_error *err)
{
    gathering *g = calloc(1, sizeof *g);
    d2c_status status;

    if (g == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for images");
    g->visit = visit;
    g->data = data;
    status = d2c_each_image(conn, source, take_image, g, err);
    if (status == D2C_OK)
        status = flush(g, err);
    drop_images(g);
    free(g);
    return status;
}
