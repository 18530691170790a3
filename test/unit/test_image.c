/* test_image.c: decoding against PIL, damaged files, PNG writing, contact sheets, planes. */
#include "golden_image.h"

static void
check_decoding(const char *rest)
{
    char name[64];
    int width, height, stored;
    unsigned rgb, grey;
    size_t length;
    uint8_t *bytes;
    d2c_image_info info;
    d2c_image image;
    d2c_error err;

    CHECK(sscanf(rest, "%63s %d %d %d %x %x", name, &width, &height, &stored, &rgb, &grey) == 6);
    bytes = golden_bytes(name, &length);
    CHECK_OK(d2c_image_probe(&info, bytes, length, &err), &err);
    CHECK(info.width == width && info.height == height && info.channels == stored);
    CHECK(strncmp(info.format, strrchr(name, '.') + 1, 1) == 0);
    golden_image(&image, name, 3);
    CHECK(image.width == width && image.height == height && image.channels == 3);
    CHECK(pixels_crc(&image) == rgb);
    if (pixels_crc(&image) != rgb)
        fprintf(stderr, "%s differs in RGB\n", name);
    d2c_image_free(&image);
    golden_image(&image, name, 1);
    CHECK(image.channels == 1 && pixels_crc(&image) == grey);
    if (pixels_crc(&image) != grey)
        fprintf(stderr, "%s differs in grey\n", name);
    d2c_image_free(&image);
    golden_image(&image, name, 0);
    CHECK(image.channels == (stored < 3 ? 1 : 3));
    d2c_image_free(&image);
    free(bytes);
}

static void
decodes_as_pil(void)
{
    CHECK(each_fact("decode", check_decoding) == 24);
}

/* No part of a file passes for the whole, and none crashes. */
static void
check_truncations(const char *rest)
{
    char name[64];
    size_t length, part;
    uint8_t *bytes;
    d2c_image image;
    d2c_image_info info;
    d2c_error err;

    CHECK(sscanf(rest, "%63s", name) == 1);
    bytes = golden_bytes(name, &length);
    for (part = 0; part < length; part++) {
        uint8_t *copy = exact_copy(bytes, part);
        d2c_status status = d2c_image_decode(&image, copy, part, 0, D2C_DEFAULT_PIXEL_LIMIT, &err);

        CHECK(status == D2C_BAD_DATA && image.pixels == NULL && err.message[0] != '\0');
        if (status != D2C_BAD_DATA)
            fprintf(stderr, "%s cut to %zu bytes: %s\n", name, part, d2c_status_name(status));
        d2c_image_free(&image);
        d2c_image_probe(&info, copy, part, &err);
        free(copy);
    }
    free(bytes);
}

static void
truncated_files_are_bad_data(void)
{
    CHECK(each_fact("decode", check_truncations) == 24);
}

/* A flipped bit gives a picture or an error, never a crash or a leak. */
static void
check_flips(const char *rest)
{
    char name[64];
    size_t length, bit;
    uint8_t *bytes, *copy;
    d2c_image image;
    d2c_error err;
    int failed = 0;

    CHECK(sscanf(rest, "%63s", name) == 1);
    bytes = golden_bytes(name, &length);
    copy = exact_copy(bytes, length);
    for (bit = 0; bit < length * 8; bit += 3) {
        d2c_status status;

        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        status = d2c_image_decode(&image, copy, length, 0, 1 << 20, &err);
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(status == D2C_OK || status == D2C_BAD_DATA || status == D2C_UNSUPPORTED ||
              status == D2C_TOO_LARGE);
        CHECK((status == D2C_OK) == (image.pixels != NULL));
        failed += status != D2C_OK;
        d2c_image_free(&image);
    }
    CHECK(failed > 0);
    free(copy);
    free(bytes);
}

static void
flipped_bits_do_not_crash(void)
{
    CHECK(each_fact("decode", check_flips) == 24);
}

static void
unknown_bytes_name_the_formats(void)
{
    d2c_image image;
    d2c_image_info info;
    d2c_error err;

    CHECK(d2c_image_decode(&image, "GIF89a, as it were", 18, 0, 100, &err) == D2C_UNSUPPORTED);
    CHECK(strcmp(err.message, "unrecognized image format") == 0);
    CHECK(strcmp(err.detail, "The image starts with the bytes 47 49 46 38.") == 0);
    CHECK(strcmp(err.hint, "Supported formats are PNG, JPEG and WebP.") == 0);
    CHECK(d2c_image_probe(&info, "", 0, &err) == D2C_BAD_DATA);
    CHECK(strcmp(err.message, "image has only 0 bytes") == 0);
    CHECK(d2c_image_decode(&image, "GIF89a, as it were", 18, 2, 100, &err) == D2C_INVALID_ARGUMENT);
}

/* The limit is checked before a pixel is allocated: this header promises 12 TB. */
static void
pixel_limit_comes_first(void)
{
    static const char *const names[] = {"rgb.png", "420.jpg", "progressive.jpg", "lossless.webp"};
    size_t length, i;
    d2c_image image;
    d2c_error err;
    uint8_t *bytes;

    for (i = 0; i < 4; i++) {
        bytes = golden_bytes(names[i], &length);
        CHECK(d2c_image_decode(&image, bytes, length, 3, 37 * 29 - 1, &err) == D2C_TOO_LARGE);
        CHECK(strcmp(err.detail, "It has 37 x 29 pixels; the limit is 1072 in all.") == 0);
        CHECK_OK(d2c_image_decode(&image, bytes, length, 3, 37 * 29, &err), &err);
        d2c_image_free(&image);
        free(bytes);
    }
    bytes = golden_bytes("rgb.png", &length);
    memcpy(bytes + 16, "\0\x20\0\0\0\x20\0\0", 8);
    memcpy(bytes + 29, (uint8_t[4]){0}, 4);
    for (i = 0; i < 4; i++)
        bytes[29 + i] = (uint8_t)(crc32(0, bytes + 12, 17) >> (24 - 8 * i));
    CHECK(d2c_image_decode(&image, bytes, length, 3, D2C_DEFAULT_PIXEL_LIMIT, &err) == D2C_TOO_LARGE);
    free(bytes);
}

static void
png_round_trip(void)
{
    static const char *const names[] = {"rgb.png", "grey.png", "one-pixel.png", "large.png"};
    size_t length, i;
    d2c_image image, again;
    d2c_error err;
    uint8_t *bytes;

    for (i = 0; i < 4; i++) {
        golden_image(&image, names[i], 0);
        CHECK_OK(d2c_image_encode_png(&bytes, &length, &image, &err), &err);
        CHECK_OK(d2c_image_decode(&again, bytes, length, 0, D2C_DEFAULT_PIXEL_LIMIT, &err), &err);
        CHECK(again.width == image.width && again.height == image.height && again.channels == image.channels);
        CHECK(pixels_crc(&again) == pixels_crc(&image));
        free(bytes);
        d2c_image_free(&image);
        d2c_image_free(&again);
    }
}

/* Three cells of 8 pixels in two columns: a square enlarged twofold, one reduced, one grey beside colour. */
static void
contact_sheet_layout(void)
{
    uint8_t red[4 * 4 * 3], black[20 * 10 * 3] = {0}, white_grey[8 * 8];
    d2c_image images[3] = {{4, 4, 3, red}, {20, 10, 3, black}, {8, 8, 1, white_grey}}, out;
    const char *captions[3] = {"I", NULL, "\xc3\xa9\xc3\xa9\xc3\xa9"};
    d2c_sheet sheet = {.columns = 2, .edge = 8, .count = 3, .image = images, .caption = captions};
    d2c_error err;
    size_t i;

    for (i = 0; i < sizeof red; i++)
        red[i] = i % 3 == 0 ? 200 : 0;
    memset(white_grey, 99, sizeof white_grey);
    CHECK_OK(d2c_contact_sheet(&out, &sheet, &err), &err);
    CHECK(out.width == 4 + 2 * 16 && out.height == 4 + 2 * 23 && out.channels == 3);
#define AT(x, y, c) out.pixels[((y)*out.width + (x)) * 3 + (c)]
    CHECK(AT(3, 4, 0) == 255 && AT(4, 4, 0) == 200 && AT(4, 4, 1) == 0 && AT(11, 11, 0) == 200 &&
          AT(12, 11, 0) == 255);
    CHECK(AT(20, 5, 0) == 255 && AT(20, 6, 0) == 0 && AT(27, 9, 0) == 0 && AT(27, 10, 0) == 255);
    CHECK(AT(4, 27, 0) == 99 && AT(4, 27, 2) == 99 && AT(11, 34, 1) == 99);
    /* The letter I: three pixels at its top, one in its middle. */
    CHECK(AT(4, 14, 0) == 255 && AT(5, 14, 0) == 32 && AT(7, 14, 0) == 32 && AT(8, 14, 0) == 255);
    CHECK(AT(5, 15, 0) == 255 && AT(6, 15, 0) == 32 && AT(7, 15, 0) == 255);
    /* Two-byte characters are one question mark each, and the third does not fit. */
    CHECK(AT(5, 37, 0) == 32 && AT(11, 37, 0) == 32 && AT(17, 37, 0) == 255);
#undef AT
    d2c_image_free(&out);
    sheet.count = 0;
    CHECK(d2c_contact_sheet(&out, &sheet, &err) == D2C_INVALID_ARGUMENT);
    sheet.count = 3;
    sheet.edge = 0;
    CHECK(d2c_contact_sheet(&out, &sheet, &err) == D2C_INVALID_ARGUMENT);
    /* One of too many pixels is known before its images. */
    sheet = (d2c_sheet){.columns = 3, .edge = 4096, .count = 3};
    CHECK_OK(d2c_sheet_check(&sheet, &err), &err);
    sheet.count = 4;
    CHECK(d2c_sheet_check(&sheet, &err) == D2C_TOO_LARGE);
}

static void
planes_and_back(void)
{
    uint8_t pixels[256 * 3], grey[2] = {0, 255};
    d2c_image image = {256, 1, 3, pixels}, one = {2, 1, 1, grey};
    float x[3 * 256];
    int i;

    for (i = 0; i < 256 * 3; i++)
        pixels[i] = (uint8_t)(i / 3 ^ (i % 3 * 85));
    d2c_image_to_planes(x, &image, 3);
    CHECK(x[0] == -1.0f && x[255] == 1.0f && x[256] == 85 / 127.5f - 1.0f);
    memset(pixels, 0, sizeof pixels);
    d2c_image_from_planes(&image, x);
    for (i = 0; i < 256 * 3; i++)
        CHECK(pixels[i] == (uint8_t)(i / 3 ^ (i % 3 * 85)));
    d2c_image_to_planes(x, &one, 3);
    for (i = 0; i < 6; i++)
        CHECK(x[i] == (i % 2 ? 1.0f : -1.0f));
    x[0] = -7.0f;
    x[1] = 1e30f;
    d2c_image_from_planes(&one, x);
    CHECK(grey[0] == 0 && grey[1] == 255);
    x[0] = (float)NAN;
    x[1] = 0.0f;
    d2c_image_from_planes(&one, x);
    CHECK(grey[0] == 0 && grey[1] == 128);
}

int
main(void)
{
    RUN(decodes_as_pil);
    RUN(truncated_files_are_bad_data);
    RUN(flipped_bits_do_not_crash);
    RUN(unknown_bytes_name_the_formats);
    RUN(pixel_limit_comes_first);
    RUN(png_round_trip);
    RUN(contact_sheet_layout);
    RUN(planes_and_back);
    return check_report();
}
