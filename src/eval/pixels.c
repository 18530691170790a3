/* pixels.c: reading image sets; images are decoded on all threads, a block at a time. */
#include "eval/pixels.h"

#include <stdlib.h>
#include <string.h>

#include "eval/blocks.h"
#include "image/image.h"

typedef struct loader {
    d2c_pixel_set *set;
    int edge;
    int channels;  /* asked for; 0: the first image's */
    int grey_only; /* by the first image, not by anyone's word */
} loader;

/* Decodes to `channels` (0: the file's own) and crops. */
static d2c_status
decode(d2c_image *image, const d2c_block_image *p, int channels, int edge, d2c_error *err)
{
    d2c_image whole;
    d2c_status status;

    if (edge == 0)
        return d2c_image_decode(image, p->bytes, p->length, channels, D2C_DEFAULT_PIXEL_LIMIT, err);
    D2C_TRY(d2c_image_decode(&whole, p->bytes, p->length, channels, D2C_DEFAULT_PIXEL_LIMIT, err));
    status = d2c_image_adm_crop(image, &whole, edge, err);
    d2c_image_free(&whole);
    return status;
}

/* The set takes the shape of its first image. */
static d2c_status
take_shape(loader *l, const d2c_block_image *first, d2c_error *err)
{
    d2c_image image;
    int64_t size;

    D2C_TRY(decode(&image, first, l->channels, l->edge, err));
    l->grey_only = l->channels == 0 && image.channels == 1;
    size = (int64_t)image.width * image.height * image.channels;
    l->set->width = image.width;
    l->set->height = image.height;
    l->set->channels = image.channels;
    d2c_image_free(&image);
    if (size > D2C_EVAL_MAX_SIZE) {
        d2c_fail(err, D2C_TOO_LARGE, "images of %lld values are too large to be compared by their pixels",
                 (long long)size);
        d2c_detail(err, "The limit is %d values: 64 x 64 pixels in grey, 36 x 36 in colour.",
                   D2C_EVAL_MAX_SIZE);
        d2c_hint(err, "Let them be cropped and resized with --edge.");
        return D2C_TOO_LARGE;
    }
    l->set->size = (int)size;
    return D2C_OK;
}

static d2c_status
reserve(d2c_pixel_set *set, int64_t more, d2c_error *err)
{
    int64_t wanted = set->capacity > 0 ? set->capacity : 4096;
    uint8_t *pixels;
    int32_t *label;

    while (wanted < set->count + more)
        wanted *= 2;
    if (wanted == set->capacity)
        return D2C_OK;
    pixels = realloc(set->pixels, (size_t)wanted * (size_t)set->size);
    if (pixels != NULL)
        set->pixels = pixels;
    label = realloc(set->label, (size_t)wanted * sizeof *label);
    if (label != NULL)
        set->label = label;
    if (pixels == NULL || label == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for %lld images", (long long)wanted);
    set->capacity = wanted;
    return D2C_OK;
}

/* Colour that a grey first image would take from all behind it, whichever came first. */
static d2c_status
refuse_colour(const d2c_block_image *p, d2c_error *err)
{
    d2c_image_info info;

    D2C_TRY(d2c_image_probe(&info, p->bytes, p->length, err));
    if (info.channels < 3)
        return D2C_OK;
    d2c_fail(err, D2C_BAD_DATA, "a colour image follows grey ones");
    d2c_hint(err, "Say --channels 3, or 1 for the luma of all.");
    return D2C_BAD_DATA;
}

static void
decode_into(const loader *l, uint8_t *pixels, d2c_block_image *p)
{
    const d2c_pixel_set *set = l->set;
    d2c_image image;

    p->status = l->grey_only ? refuse_colour(p, &p->error) : D2C_OK;
    if (p->status == D2C_OK)
        p->status = decode(&image, p, set->channels, l->edge, &p->error);
    if (p->status != D2C_OK)
        return;
    if (image.width == set->width && image.height == set->height)
        memcpy(pixels, image.pixels, (size_t)set->size);
    else {
        p->status = d2c_fail(&p->error, D2C_BAD_DATA, "images differ in size");
        d2c_detail(&p->error, "One has %d x %d pixels, the first %d x %d.", image.width, image.height,
                   set->width, set->height);
        d2c_hint(&p->error, "Let them be cropped and resized with --edge.");
    }
    d2c_image_free(&image);
}

static d2c_status
take_block(void *data, d2c_block_image *image, int count, d2c_error *err)
{
    loader *l = data;
    d2c_pixel_set *set = l->set;
    int i;

    if (set->size == 0) {
        d2c_status status = take_shape(l, &image[0], err);

        if (status != D2C_OK) {
            d2c_error_prefix(err, "%s", image[0].where);
            return status;
        }
    }
    D2C_TRY(reserve(set, count, err));
#pragma omp parallel for schedule(dynamic, 8)
    for (i = 0; i < count; i++) {
        decode_into(l, set->pixels + (size_t)(set->count + i) * (size_t)set->size, &image[i]);
        set->label[set->count + i] = image[i].label;
    }
    set->count += count;
    return D2C_OK;
}

d2c_status
d2c_pixel_set_read(d2c_pixel_set *set, const d2c_pixel_set *like, PGconn *conn, const char *source, int edge,
                   int channels, d2c_error *err)
{
    loader l = {.set = set, .edge = edge, .channels = channels};
    d2c_status status;

    memset(set, 0, sizeof *set);
    if (like != NULL) {
        set->width = like->width;
        set->height = like->height;
        set->channels = like->channels;
        set->size = like->size;
    }
    status = d2c_each_block(conn, source, take_block, &l, err);
    if (status == D2C_OK && set->count < 2)
        status =
            d2c_fail(err, D2C_BAD_DATA, "a set of %lld images cannot be compared", (long long)set->count);
    if (status != D2C_OK)
        d2c_pixel_set_free(set);
    return status;
}

void
d2c_pixel_set_free(d2c_pixel_set *set)
{
    free(set->pixels);
    free(set->label);
    memset(set, 0, sizeof *set);
}

int64_t
d2c_spread(int64_t i, int64_t n, int64_t count)
{
    return (int64_t)((__int128)i * count / n);
}
