/* requests_image.c: what is asked about images themselves. */
#include "engine/requests.h"

#include <stdlib.h>

#include "image/image.h"

#define MAX_EDGE 16384
#define MAX_SHEET_IMAGES 65536

static d2c_status
check_edge(uint32_t edge, d2c_error *err)
{
    if (edge >= 1 && edge <= MAX_EDGE)
        return D2C_OK;
    return d2c_fail(err, D2C_INVALID_ARGUMENT, "edge must be between 1 and %d pixels", MAX_EDGE);
}

/* Decodes the bytes and shrinks the picture to fit edge x edge. */
static d2c_status
decode_thumbnail(d2c_image *out, d2c_worker *worker, const char *bytes, size_t length, uint32_t edge,
                 d2c_error *err)
{
    d2c_image image = {0};
    d2c_status status;

    D2C_TRY(d2c_image_decode(&image, bytes, length, 0, d2c_worker_pool(worker)->max_image_pixels, err));
    status = d2c_image_thumbnail(out, &image, (int)edge, err);
    d2c_image_free(&image);
    return status;
}

d2c_status
d2c_put_png(d2c_buffer *out, const d2c_image *image, d2c_error *err)
{
    uint8_t *png;
    size_t length;

    D2C_TRY(d2c_image_encode_png(&png, &length, image, err));
    d2c_put_bytes(out, png, length);
    free(png);
    return D2C_OK;
}

d2c_status
d2c_planes_of_image(float **x, d2c_worker *worker, const char *bytes, size_t length, int channels, int size,
                    d2c_error *err)
{
    d2c_image image = {0}, cropped = {0};
    d2c_status status;

    *x = NULL;
    D2C_TRY(
        d2c_image_decode(&image, bytes, length, channels, d2c_worker_pool(worker)->max_image_pixels, err));
    status = d2c_image_adm_crop(&cropped, &image, size, err);
    d2c_image_free(&image);
    D2C_TRY(status);
    *x = malloc((size_t)channels * (size_t)size * (size_t)size * sizeof **x);
    if (*x != NULL)
        d2c_image_to_planes(*x, &cropped, channels);
    d2c_image_free(&cropped);
    return *x != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

d2c_status
d2c_request_image_info(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    d2c_image_info info;
    size_t length;
    const char *bytes = d2c_read_bytes(in, &length);

    (void)worker;
    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_image_probe(&info, bytes, length, err));
    d2c_put_string(out, info.format);
    d2c_put_u32(out, (uint32_t)info.width);
    d2c_put_u32(out, (uint32_t)info.height);
    d2c_put_u32(out, (uint32_t)info.channels);
    return D2C_OK;
}

d2c_status
d2c_request_thumbnail(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    d2c_image small = {0};
    size_t length;
    const char *bytes = d2c_read_bytes(in, &length);
    uint32_t edge = d2c_read_u32(in);
    d2c_status status;

    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(check_edge(edge, err));
    D2C_TRY(decode_thumbnail(&small, worker, bytes, length, edge, err));
    status = d2c_put_png(out, &small, err);
    d2c_image_free(&small);
    return status;
}

d2c_status
d2c_request_phash(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    d2c_image image = {0};
    size_t length;
    const char *bytes = d2c_read_bytes(in, &length);
    d2c_status status;
    uint64_t hash;

    D2C_TRY(d2c_read_finish(in, err));
    D2C_TRY(d2c_image_decode(&image, bytes, length, 0, d2c_worker_pool(worker)->max_image_pixels, err));
    status = d2c_image_phash(&hash, &image, err);
    d2c_image_free(&image);
    if (status == D2C_OK)
        d2c_put_i64(out, (int64_t)hash);
    return status;
}

/* The cells of a contact sheet: [count] pictures and captions. */
typedef struct cells {
    d2c_image *image;
    char **caption;
    uint32_t count;
} cells;

static void
free_cells(cells *c)
{
    uint32_t i;

    for (i = 0; i < c->count && c->image != NULL && c->caption != NULL; i++) {
        d2c_image_free(&c->image[i]);
        free(c->caption[i]);
    }
    free(c->image);
    free(c->caption);
}

static d2c_status
read_caption(char **caption, d2c_reader *in, d2c_error *err)
{
    d2c_reader text = *in;
    size_t length;

    d2c_read_bytes(in, &length);
    *caption = malloc(length + 1);
    if (*caption == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    return d2c_read_string(*caption, length + 1, &text, "caption", err);
}

static d2c_status
read_cells(cells *c, d2c_worker *worker, d2c_reader *in, uint32_t edge, d2c_error *err)
{
    uint32_t i;

    for (i = 0; i < c->count; i++) {
        size_t length;
        const char *bytes = d2c_read_bytes(in, &length);
        d2c_status status;

        D2C_TRY(d2c_worker_check_client(worker, err));
        D2C_TRY(read_caption(&c->caption[i], in, err));
        if (in->bad)
            break;
        status = decode_thumbnail(&c->image[i], worker, bytes, length, edge, err);
        if (status != D2C_OK) {
            d2c_error_prefix(err, "image %u of the contact sheet", i + 1);
            return status;
        }
    }
    return d2c_read_finish(in, err);
}

d2c_status
d2c_request_contact_sheet(d2c_worker *worker, d2c_reader *in, d2c_buffer *out, d2c_error *err)
{
    uint32_t edge = d2c_read_u32(in), columns = d2c_read_u32(in);
    cells c = {NULL, NULL, d2c_read_u32(in)};
    d2c_image picture = {0};
    d2c_sheet sheet;
    d2c_status status = D2C_OK;

    D2C_TRY(check_edge(edge, err));
    if (in->bad || c.count < 1 || c.count > MAX_SHEET_IMAGES || columns > MAX_SHEET_IMAGES)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a contact sheet holds 1 to %d images", MAX_SHEET_IMAGES);
    c.image = calloc(c.count, sizeof *c.image);
    c.caption = calloc(c.count, sizeof *c.caption);
    if (c.image == NULL || c.caption == NULL)
        status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    sheet = (d2c_sheet){(int)columns, (int)edge, (int)c.count, c.image, (const char *const *)c.caption};
    /* Before any cell is decoded: so many of such an edge might not fit into memory. */
    if (status == D2C_OK)
        status = d2c_sheet_check(&sheet, err);
    if (status == D2C_OK)
        status = read_cells(&c, worker, in, edge, err);
    if (status == D2C_OK)
        status = d2c_contact_sheet(&picture, &sheet, err);
    if (status == D2C_OK)
        status = d2c_put_png(out, &picture, err);
    d2c_image_free(&picture);
    free_cells(&c);
    return status;
}
