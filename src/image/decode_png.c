/*
 * decode_png.c: PNG by libpng.
 *
 * libpng reports errors by longjmp.  The one setjmp is in run_guarded, whose only local is a pointer that
 * does not change, so nothing is lost when it returns twice.
 */
#include "image/codec.h"
#include "image/png_warning.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

/* Nothing but IHDR, PLTE, tRNS and IDAT is kept, so a chunk of more than this is not an image's. */
#define CHUNK_MEMORY_LIMIT (8 * 1024 * 1024)

typedef struct png_job {
    png_structp png;
    png_infop info;
    const uint8_t *bytes;
    size_t length, offset;
    int64_t pixel_limit;
    d2c_image_info header;
    d2c_image image;
    d2c_status status;
    d2c_error *err;
} png_job;

static void
fail_job(png_structp png, const char *message)
{
    png_job *job = png_get_error_ptr(png);

    if (strstr(message, "memory") != NULL)
        job->status = d2c_fail(job->err, D2C_NO_MEMORY, "out of memory while decoding a PNG image");
    else {
        job->status = d2c_fail(job->err, D2C_BAD_DATA, "invalid PNG image");
        d2c_detail(job->err, "%s.", message);
    }
    png_longjmp(png, 1);
}

static void
read_bytes(png_structp png, png_bytep to, size_t count)
{
    png_job *job = png_get_io_ptr(png);

    if (job->length - job->offset < count)
        png_error(png, "The file is truncated");
    memcpy(to, job->bytes + job->offset, count);
    job->offset += count;
}

/* Reads everything before the pixels; text, profiles and gamma are skipped unread. */
static void
read_header(png_job *job)
{
    int type, channels;

    png_set_read_fn(job->png, job, read_bytes);
    png_set_user_limits(job->png, 0x7fffffff, 0x7fffffff);
    png_set_chunk_malloc_max(job->png, CHUNK_MEMORY_LIMIT);
    png_set_chunk_cache_max(job->png, 16);
    png_set_keep_unknown_chunks(job->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(job->png, job->info);
    type = png_get_color_type(job->png, job->info);
    channels = png_get_channels(job->png, job->info);
    if (type == PNG_COLOR_TYPE_PALETTE)
        channels = png_get_valid(job->png, job->info, PNG_INFO_tRNS) ? 4 : 3;
    d2c_image_describe(&job->header, "png", (int)png_get_image_width(job->png, job->info),
                       (int)png_get_image_height(job->png, job->info), channels);
}

/* Asks libpng for 8-bit grey or RGB whatever is stored; 16-bit samples keep their high byte. */
static void
set_transforms(png_job *job)
{
    int type = png_get_color_type(job->png, job->info);

    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(job->png);
    if (type == PNG_COLOR_TYPE_GRAY)
        png_set_expand_gray_1_2_4_to_8(job->png);
    png_set_strip_16(job->png);
    png_set_strip_alpha(job->png);
}

/* Rows are read in place, once for each pass of an interlaced file, so no table of row pointers is needed. */
static void
read_pixels(png_job *job)
{
    int channels = job->header.channels < 3 ? 1 : 3, passes, pass, row;
    size_t stride;

    job->status = d2c_image_check_size(job->header.width, job->header.height, job->pixel_limit, job->err);
    if (job->status != D2C_OK)
        return;
    set_transforms(job);
    passes = png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);
    job->status = d2c_image_allocate(&job->image, job->header.width, job->header.height, channels, job->err);
    if (job->status != D2C_OK)
        return;
    stride = (size_t)job->header.width * (size_t)channels;
    if (png_get_rowbytes(job->png, job->info) != stride)
        png_error(job->png, "Its rows are not what the header says");
    for (pass = 0; pass < passes; pass++)
        for (row = 0; row < job->image.height; row++)
            png_read_row(job->png, job->image.pixels + (size_t)row * stride, NULL);
    png_read_end(job->png, NULL);
}

static void
read_all(png_job *job)
{
    read_header(job);
    read_pixels(job);
}

static void
run_guarded(png_job *job, void (*work)(png_job *))
{
    job->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, job, fail_job, d2c_png_ignore_warning);
    if (job->png != NULL)
        job->info = png_create_info_struct(job->png);
    if (job->info == NULL)
        job->status = d2c_fail(job->err, D2C_NO_MEMORY, "out of memory while decoding a PNG image");
    else if (setjmp(png_jmpbuf(job->png)) == 0)
        work(job);
    png_destroy_read_struct(&job->png, &job->info, NULL);
}

d2c_status
d2c_png_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err)
{
    png_job job = {.bytes = bytes, .length = length, .err = err};

    run_guarded(&job, read_header);
    *info = job.header;
    return job.status;
}

d2c_status
d2c_png_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit, d2c_error *err)
{
    png_job job = {.bytes = bytes, .length = length, .pixel_limit = pixel_limit, .err = err};

    run_guarded(&job, read_all);
    if (job.status != D2C_OK)
        d2c_image_free(&job.image);
    *image = job.image;
    return job.status;
}
