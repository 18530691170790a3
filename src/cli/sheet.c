/* sheet.c: d2c sheet: a contact sheet of a query's images. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/command.h"
#include "image/image.h"
#include "train/database.h"
#include "train/image_rows.h"

#define IMAGE_LIMIT 65536

typedef struct sheet_arguments {
    const char *dbname, *query, *output;
    int64_t columns, edge;
} sheet_arguments;

/* The images are reduced as they arrive, and are no more than a sheet can hold, so the memory is that of its cells. */
typedef struct collection {
    int columns, edge, count, capacity, captions;
    d2c_image *image;
    char **caption;
} collection;

static d2c_status
grow(collection *c, d2c_error *err)
{
    int wanted = c->capacity > 0 ? 2 * c->capacity : 64;
    d2c_image *image;
    char **caption;

    if (wanted > IMAGE_LIMIT)
        return d2c_fail(err, D2C_TOO_LARGE, "a contact sheet holds at most %d images", IMAGE_LIMIT);
    image = realloc(c->image, (size_t)wanted * sizeof *image);
    if (image != NULL)
        c->image = image;
    caption = realloc(c->caption, (size_t)wanted * sizeof *caption);
    if (caption != NULL)
        c->caption = caption;
    if (image == NULL || caption == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for a contact sheet");
    c->capacity = wanted;
    return D2C_OK;
}

static d2c_status
take_image(void *data, const char *where, const uint8_t *bytes, size_t length, const char *second,
           d2c_error *err)
{
    collection *c = data;
    const d2c_sheet so_far = {.columns = c->columns, .edge = c->edge, .count = c->count + 1};
    d2c_image whole;
    d2c_status status;

    D2C_TRY(d2c_sheet_check(&so_far, err));
    if (c->count == c->capacity)
        D2C_TRY(grow(c, err));
    status = d2c_image_decode(&whole, bytes, length, 0, D2C_DEFAULT_PIXEL_LIMIT, err);
    if (status == D2C_OK)
        status = d2c_image_thumbnail(&c->image[c->count], &whole, c->edge, err);
    d2c_image_free(&whole);
    if (status != D2C_OK) {
        d2c_error_prefix(err, "%s", where);
        return status;
    }
    c->caption[c->count++] = second != NULL ? strdup(second) : NULL;
    c->captions += second != NULL;
    return D2C_OK;
}

static d2c_status
write_sheet(const sheet_arguments *args, const collection *c, d2c_error *err)
{
    d2c_sheet sheet = {.columns = c->columns,
                       .edge = c->edge,
                       .count = c->count,
                       .image = c->image,
                       .caption = c->captions > 0 ? (const char *const *)c->caption : NULL};
    d2c_image out;
    uint8_t *bytes;
    size_t length;
    d2c_status status;

    if (c->count == 0)
        return d2c_fail(err, D2C_NOT_FOUND, "the query returned no images");
    D2C_TRY(d2c_contact_sheet(&out, &sheet, err));
    status = d2c_image_encode_png(&bytes, &length, &out, err);
    if (status == D2C_OK) {
        status = d2c_file_write(args->output, bytes, length, err);
        free(bytes);
    }
    if (status == D2C_OK)
        printf("%d images, %d x %d pixels: %s\n", c->count, out.width, out.height, args->output);
    d2c_image_free(&out);
    return status;
}

static d2c_status
run_sheet(const sheet_arguments *args, d2c_error *err)
{
    collection c = {.columns = (int)args->columns, .edge = (int)args->edge};
    PGconn *conn = NULL;
    d2c_status status = D2C_OK;
    int i;

    if (args->dbname != NULL)
        status = d2c_database_open(&conn, args->dbname, err);
    if (status == D2C_OK)
        status = d2c_each_image(conn, args->query, take_image, &c, err);
    PQfinish(conn);
    if (status == D2C_OK)
        status = write_sheet(args, &c, err);
    for (i = 0; i < c.count; i++) {
        d2c_image_free(&c.image[i]);
        free(c.caption[i]);
    }
    free(c.image);
    free(c.caption);
    return status;
}

int
d2c_command_sheet(int argc, char **argv)
{
    sheet_arguments args = {.edge = 96};
    const d2c_option options[] = {
        {"dbname", D2C_OPTION_TEXT, &args.dbname, 0, 0, "database: a name, a conninfo string or a URI"},
        {"query", D2C_OPTION_TEXT, &args.query, 0, 0,
         "images and, as second column, captions: a query, a table with id and image, or a folder"},
        {"columns", D2C_OPTION_INT, &args.columns, 0, IMAGE_LIMIT, "images side by side; 0: a square sheet"},
        {"edge", D2C_OPTION_INT, &args.edge, 8, 1024, "size of each image in pixels"},
        {"output", D2C_OPTION_TEXT, &args.output, 0, 0, "PNG file to write"},
        {NULL, D2C_OPTION_FLAG, NULL, 0, 0, NULL},
    };
    d2c_error err;
    int help;

    if (d2c_options_parse(options, "sheet --query SOURCE --output FILE.png [--option value]...", argc, argv,
                          &help, &err) != D2C_OK)
        return d2c_command_failed(&err);
    if (help)
        return 0;
    if (args.query == NULL || args.output == NULL) {
        d2c_fail(&err, D2C_INVALID_ARGUMENT, "--query and --output are both needed");
        return d2c_command_failed(&err);
    }
    return run_sheet(&args, &err) == D2C_OK ? 0 : d2c_command_failed(&err);
}
