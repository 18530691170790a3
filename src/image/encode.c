/* encode.c: PNG files by libpng. */
#include "image/image.h"
#include "image/png_warning.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

typedef struct png_output {
    png_structp png;
    png_infop info;
    const d2c_image *image;
    uint8_t *bytes;
    size_t length, capacity;
    d2c_status status;
    d2c_error *err;
} png_output;

static void
fail_output(png_structp png, const char *message)
{
    png_output *out = png_get_error_ptr(png);

    out->status = d2c_fail(out->err, strstr(message, "memory") ? D2C_NO_MEMORY : D2C_INTERNAL,
                           "cannot encode a PNG image");
    d2c_detail(out->err, "%s.", message);
    png_longjmp(png, 1);
}

static void
append(png_structp png, png_bytep from, size_t count)
{
    png_output *out = png_get_io_ptr(png);

    if (out->capacity - out->length < count) {
        size_t wanted;
        uint8_t *bytes = NULL;

        if (d2c_size_mul(&wanted, out->capacity + count, 2) == 0)
            bytes = realloc(out->bytes, wanted);
        if (bytes == NULL)
            png_error(png, "Out of memory");
        out->bytes = bytes;
        out->capacity = wanted;
    }
    memcpy(out->bytes + out->length, from, count);
    out->length += count;
}

static void
flush_nothing(png_structp png)
{
    (void)png;
}

static void
write_all(png_output *out)
{
    const d2c_image *image = out->image;
    int row;

    png_set_write_fn(out->png, out, append, flush_nothing);
    png_set_IHDR(out->png, out->info, (png_uint_32)image->width, (png_uint_32)image->height, 8,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(out->png, out->info);
    for (row = 0; row < image->height; row++)
        png_write_row(out->png, image->pixels + (size_t)row * (size_t)image->width * (size_t)image->channels);
    png_write_end(out->png, NULL);
}

static void
run_guarded(png_output *out)
{
    out->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, out, fail_output, d2c_png_ignore_warning);
    if (out->png != NULL)
        out->info = png_create_info_struct(out->png);
    if (out->info == NULL)
        out->status = d2c_fail(out->err, D2C_NO_MEMORY, "out of memory while encoding a PNG image");
    else if (setjmp(png_jmpbuf(out->png)) == 0)
        write_all(out);
    png_destroy_write_struct(&out->png, &out->info);
}

d2c_status
d2c_image_encode_png(uint8_t **bytes, size_t *length, const d2c_image *image, d2c_error *err)
{
    png_output out = {.image = image, .err = err};

    run_guarded(&out);
    if (out.status != D2C_OK) {
        free(out.bytes);
        out.bytes = NULL;
        out.length = 0;
    }
    *bytes = out.bytes;
    *length = out.length;
    return out.status;
}
