/* test_resample.c: resizing, ADM's crop and hashes against PIL and imagehash, bit for bit. */
#include "golden_image.h"

#include <inttypes.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static d2c_filter
filter_of(const char *word)
{
    static const char *const words[] = {"box", "bilinear", "bicubic", "lanczos"};
    int filter = 0;

    while (strcmp(words[filter], word) != 0)
        filter++;
    return (d2c_filter)filter;
}

static void
check_resize(const char *rest)
{
    char name[64], word[16];
    int width, height;
    unsigned crc;
    d2c_image in, out;
    d2c_error err;

    CHECK(sscanf(rest, "%63s %15s %d %d %x", name, word, &width, &height, &crc) == 5);
    golden_image(&in, name, 0);
    CHECK_OK(d2c_image_resize(&out, &in, width, height, filter_of(word), &err), &err);
    CHECK(out.width == width && out.height == height && pixels_crc(&out) == crc);
    if (pixels_crc(&out) != crc)
        fprintf(stderr, "differs: %s", rest);
    d2c_image_free(&in);
    d2c_image_free(&out);
}

static void
resizes_as_pil(void)
{
    CHECK(each_fact("resize", check_resize) == 96);
}

static void
check_crop(const char *rest)
{
    char name[64];
    int size;
    unsigned crc;
    d2c_image in, out;
    d2c_error err;

    CHECK(sscanf(rest, "%63s %d %x", name, &size, &crc) == 3);
    golden_image(&in, name, 0);
    CHECK_OK(d2c_image_adm_crop(&out, &in, size, &err), &err);
    CHECK(out.width == size && out.height == size && pixels_crc(&out) == crc);
    if (pixels_crc(&out) != crc)
        fprintf(stderr, "differs: %s", rest);
    d2c_image_free(&in);
    d2c_image_free(&out);
}

static void
crops_as_adm(void)
{
    CHECK(each_fact("adm", check_crop) == 39);
}

static void
check_hash(const char *rest)
{
    char name[64];
    uint64_t expected, hash;
    d2c_image in;
    d2c_error err;

    CHECK(sscanf(rest, "%63s %" SCNx64, name, &expected) == 2);
    golden_image(&in, name, 0);
    CHECK_OK(d2c_image_phash(&hash, &in, &err), &err);
    CHECK(hash == expected);
    d2c_image_free(&in);
}

static void
check_flat_hash(const char *rest)
{
    uint8_t pixels[40 * 40];
    d2c_image in = {40, 40, 1, pixels};
    uint64_t expected, hash;
    d2c_error err;

    CHECK(sscanf(rest, "%" SCNx64, &expected) == 1);
    memset(pixels, 77, sizeof pixels);
    CHECK_OK(d2c_image_phash(&hash, &in, &err), &err);
    CHECK(hash == expected);
}

static void
hashes_as_imagehash(void)
{
    CHECK(each_fact("phash", check_hash) == 3);
    CHECK(each_fact("phash-flat", check_flat_hash) == 1);
}

/* A line of 400,000 pixels to 3,000, lying and standing: its weights are not held all at once. */
static void
check_line(const char *rest)
{
    enum { LONG = 400000, SHORT = 3000 };
    char word[16];
    unsigned across, down;
    uint8_t *pixels = malloc(LONG);
    d2c_image lying = {LONG, 1, 1, pixels}, standing = {1, LONG, 1, pixels}, out;
    d2c_filter filter;
    d2c_error err;
    int64_t i;

    CHECK(sscanf(rest, "%15s %x %x", word, &across, &down) == 3);
    filter = filter_of(word);
    for (i = 0; i < LONG; i++)
        pixels[i] = (uint8_t)(i * i / 97 % 251);
    CHECK_OK(d2c_image_resize(&out, &lying, SHORT, 1, filter, &err), &err);
    CHECK(out.width == SHORT && pixels_crc(&out) == across);
    d2c_image_free(&out);
    CHECK_OK(d2c_image_resize(&out, &standing, 1, SHORT, filter, &err), &err);
    CHECK(out.height == SHORT && pixels_crc(&out) == down);
    d2c_image_free(&out);
    free(pixels);
}

static void
lines_as_pil(void)
{
    CHECK(each_fact("line", check_line) == 3);
}

/* 16 million pixels to nine take no more than some bytes a pixel, though every one of the nine reads almost half of them. */
static void
memory_is_that_of_the_picture(void)
{
    enum { LONG = 16000000, ROOM = 160000000 };
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct rlimit limit;
        uint8_t *pixels = calloc(LONG, 1);
        d2c_image in = {LONG, 1, 1, pixels}, out;
        float nine[9];

        getrlimit(RLIMIT_DATA, &limit);
        limit.rlim_cur = ROOM;
        setrlimit(RLIMIT_DATA, &limit);
        _exit(pixels == NULL || d2c_image_resize(&out, &in, 9, 1, D2C_FILTER_BICUBIC, NULL) != D2C_OK ||
              d2c_image_resize_float(nine, &in, 9, 1, D2C_FILTER_BICUBIC, NULL) != D2C_OK);
    }
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* A line of a million pixels, resized to ADM's size, would be 256 million; only the crop is computed. */
static void
crop_of_a_long_line(void)
{
    uint8_t *pixels = malloc(1000000);
    d2c_image in = {1000000, 1, 1, pixels}, out;
    d2c_error err;

    memset(pixels, 9, 1000000);
    CHECK_OK(d2c_image_adm_crop(&out, &in, 256, &err), &err);
    CHECK(out.width == 256 && out.height == 256 && out.pixels[0] == 9 && out.pixels[65535] == 9);
    d2c_image_free(&out);
    free(pixels);
}

static void
thumbnail_sizes(void)
{
    uint8_t pixels[100 * 40 * 3] = {0};
    d2c_image in = {100, 40, 3, pixels}, out;
    d2c_error err;

    CHECK_OK(d2c_image_thumbnail(&out, &in, 50, &err), &err);
    CHECK(out.width == 50 && out.height == 20 && out.channels == 3);
    d2c_image_free(&out);
    CHECK_OK(d2c_image_thumbnail(&out, &in, 1000, &err), &err);
    CHECK(out.width == 100 && out.height == 40);
    d2c_image_free(&out);
    CHECK_OK(d2c_image_thumbnail(&out, &in, 1, &err), &err);
    CHECK(out.width == 1 && out.height == 1);
    d2c_image_free(&out);
    CHECK(d2c_image_thumbnail(&out, &in, 0, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_image_resize(&out, &in, 0, 5, D2C_FILTER_BOX, &err) == D2C_INVALID_ARGUMENT);
    CHECK(d2c_image_resize(&out, &in, 1 << 20, 1 << 20, D2C_FILTER_BOX, &err) == D2C_TOO_LARGE);
    CHECK(d2c_image_adm_crop(&out, &in, 0, &err) == D2C_INVALID_ARGUMENT);
}

int
main(void)
{
    RUN(resizes_as_pil);
    RUN(crops_as_adm);
    RUN(hashes_as_imagehash);
    RUN(lines_as_pil);
    RUN(memory_is_that_of_the_picture);
    RUN(crop_of_a_long_line);
    RUN(thumbnail_sizes);
    return check_report();
}
