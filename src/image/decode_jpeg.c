/*
 * decode_jpeg.c: JPEG by libjpeg-turbo.
 *
 * libjpeg's default error handler prints and exits; ours fills d2c_error and jumps to run_guarded, whose only
 * local is a pointer that does not change.  Damaged entropy data is only a warning to libjpeg and an error
 * here: a picture that is half grey must not be scored as if it were whole.
 */
#include "image/codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A progressive file may repeat scans without end, each costing a pass over the picture. */
#define SCAN_LIMIT 500

typedef struct jpeg_job {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_source_mgr source;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const uint8_t *bytes;
    size_t length;
    int64_t pixel_limit;
    d2c_image_info header;
    d2c_image image;
    uint8_t *row; /* libjpeg's memory: one row as it decodes CMYK */
    d2c_status status;
    d2c_error *err;
} jpeg_job;

static d2c_status
classify(int code)
{
    switch (code) {
    case JERR_OUT_OF_MEMORY:
        return D2C_NO_MEMORY;
    case JERR_NO_BACKING_STORE:
        return D2C_TOO_LARGE;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_ARITH_NOTIMPL:
        return D2C_UNSUPPORTED;
    default:
        return D2C_BAD_DATA;
    }
}

static void
fail_with(j_common_ptr cinfo, d2c_status status, const char *detail)
{
    jpeg_job *job = cinfo->client_data;

    job->status =
        d2c_fail(job->err, status, "%s JPEG image", status == D2C_BAD_DATA ? "invalid" : "cannot decode");
    d2c_detail(job->err, "%s.", detail);
    longjmp(job->jump, 1);
}

static void
fail_job(j_common_ptr cinfo)
{
    char text[JMSG_LENGTH_MAX];

    cinfo->err->format_message(cinfo, text);
    fail_with(cinfo, classify(cinfo->err->msg_code), text);
}

/* Warnings of damaged data are errors; stray bytes between markers and odd headers are as common as harmless.
 */
static void
take_warning(j_common_ptr cinfo, int level)
{
    if (level >= 0)
        return;
    switch (cinfo->err->msg_code) {
    case JWRN_HIT_MARKER:
    case JWRN_HUFF_BAD_CODE:
    case JWRN_JPEG_EOF:
    case JWRN_MUST_RESYNC:
    case JWRN_ARITH_BAD_CODE:
    case JWRN_NOT_SEQUENTIAL:
        fail_job(cinfo);
    }
}

static void
print_nothing(j_common_ptr cinfo)
{
    (void)cinfo;
}

static void
source_nothing(j_decompress_ptr cinfo)
{
    (void)cinfo;
}

/* Called at the end of the bytes: libjpeg would make up an end marker there. */
static boolean
source_end(j_decompress_ptr cinfo)
{
    fail_with((j_common_ptr)cinfo, D2C_BAD_DATA, "The file is truncated");
    return FALSE;
}

static void
source_skip(j_decompress_ptr cinfo, long count)
{
    if (count <= 0)
        return;
    if ((size_t)count > cinfo->src->bytes_in_buffer)
        source_end(cinfo);
    cinfo->src->next_input_byte += count;
    cinfo->src->bytes_in_buffer -= (size_t)count;
}

static void
check_scans(j_common_ptr cinfo)
{
    if (cinfo->is_decompressor && ((j_decompress_ptr)cinfo)->input_scan_number > SCAN_LIMIT)
        fail_with(cinfo, D2C_BAD_DATA, "It has too many scans");
}

static void
open_source(jpeg_job *job)
{
    job->source.init_source = source_nothing;
    job->source.fill_input_buffer = source_end;
    job->source.skip_input_data = source_skip;
    job->source.resync_to_restart = jpeg_resync_to_restart;
    job->source.term_source = source_nothing;
    job->source.next_input_byte = job->bytes;
    job->source.bytes_in_buffer = job->length;
    job->cinfo.src = &job->source;
    job->progress.progress_monitor = check_scans;
    job->cinfo.progress = &job->progress;
}

static void
read_header(jpeg_job *job)
{
    int components;

    open_source(job);
    jpeg_read_header(&job->cinfo, TRUE);
    components = job->cinfo.num_components;
    if (components != 1 && components != 3 && components != 4)
        fail_with((j_common_ptr)&job->cinfo, D2C_UNSUPPORTED, "It has neither 1 nor 3 nor 4 components");
    d2c_image_describe(&job->header, "jpeg", (int)job->cinfo.image_width, (int)job->cinfo.image_height,
                       components);
}

/* Adobe stores CMYK inverted, and every reader takes all CMYK files so; rgb = 255 - min(255, ink + black) by
 * products, rounded as PIL does. */
static void
cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int width)
{
    int column, c;

    for (column = 0; column < width; column++) {
        int light = cmyk[4 * column + 3]; /* 255 - black */

        for (c = 0; c < 3; c++) {
            int product = (255 - cmyk[4 * column + c]) * light + 128;

            rgb[3 * column + c] = (uint8_t)(light - (((product >> 8) + product) >> 8));
        }
    }
}

static void
read_row(jpeg_job *job)
{
    size_t stride = (size_t)job->image.width * (size_t)job->image.channels;
    uint8_t *to = job->image.pixels + (size_t)job->cinfo.output_scanline * stride;
    JSAMPROW row = job->row != NULL ? job->row : to;

    jpeg_read_scanlines(&job->cinfo, &row, 1);
    if (job->row != NULL)
        cmyk_to_rgb(to, job->row, job->image.width);
}

/* The memory cap leaves room for a progressive file's coefficients, 16 bits for each of up to four
 * components. */
static void
read_all(jpeg_job *job)
{
    read_header(job);
    job->status = d2c_image_check_size(job->header.width, job->header.height, job->pixel_limit, job->err);
    if (job->status != D2C_OK)
        return;
    job->cinfo.mem->max_memory_to_use = (long)(job->pixel_limit * 9 + (16 << 20));
    job->cinfo.out_color_space = job->header.channels == 1   ? JCS_GRAYSCALE
                                 : job->header.channels == 3 ? JCS_RGB
                                                             : JCS_CMYK;
    jpeg_start_decompress(&job->cinfo);
    job->status = d2c_image_allocate(&job->image, job->header.width, job->header.height,
                                     job->header.channels == 1 ? 1 : 3, job->err);
    if (job->status != D2C_OK)
        return;
    if (job->header.channels == 4)
        job->row = job->cinfo.mem->alloc_large((j_common_ptr)&job->cinfo, JPOOL_IMAGE,
                                               (size_t)job->header.width * 4);
    while (job->cinfo.output_scanline < job->cinfo.output_height)
        read_row(job);
    jpeg_finish_decompress(&job->cinfo);
}

static void
run_guarded(jpeg_job *job, void (*work)(jpeg_job *))
{
    job->cinfo.err = jpeg_std_error(&job->errors);
    job->errors.error_exit = fail_job;
    job->errors.emit_message = take_warning;
    job->errors.output_message = print_nothing;
    job->cinfo.client_data = job;
    if (setjmp(job->jump) == 0) {
        jpeg_create_decompress(&job->cinfo);
        work(job);
    }
    jpeg_destroy_decompress(&job->cinfo);
}

d2c_status
d2c_jpeg_probe(d2c_image_info *info, const uint8_t *bytes, size_t length, d2c_error *err)
{
    jpeg_job job = {.bytes = bytes, .length = length, .err = err};

    run_guarded(&job, read_header);
    *info = job.header;
    return job.status;
}

d2c_status
d2c_jpeg_decode(d2c_image *image, const uint8_t *bytes, size_t length, int64_t pixel_limit, d2c_error *err)
{
    jpeg_job job = {.bytes = bytes, .length = length, .pixel_limit = pixel_limit, .err = err};

    run_guarded(&job, read_all);
    if (job.status != D2C_OK)
        d2c_image_free(&job.image);
    *image = job.image;
    return job.status;
}
