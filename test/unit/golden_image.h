/* golden_image.h: reading the files of test/golden/image and the facts of its expected.txt. */
#ifndef D2C_TEST_GOLDEN_IMAGE_H
#define D2C_TEST_GOLDEN_IMAGE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <zlib.h>

#include "check.h"
#include "image/image.h"

static inline uint8_t *
golden_bytes(const char *name, size_t *length)
{
    char path[1024];
    uint8_t *bytes = malloc(65536);
    FILE *file;

    snprintf(path, sizeof path, "%s/image/%s", GOLDEN, name);
    file = fopen(path, "rb");
    if (file == NULL || bytes == NULL) {
        fprintf(stderr, "cannot read %s\n", path);
        exit(1);
    }
    *length = fread(bytes, 1, 65536, file);
    fclose(file);
    return bytes;
}

/* An exact-size copy, so that a sanitizer sees the first byte read past the end. */
static inline uint8_t *
exact_copy(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length > 0 ? length : 1);

    memcpy(copy, bytes, length);
    return copy;
}

static inline unsigned
pixels_crc(const d2c_image *image)
{
    return (unsigned)crc32(0, image->pixels, (unsigned)(image->width * image->height * image->channels));
}

static inline void
golden_image(d2c_image *image, const char *name, int channels)
{
    d2c_error err;
    size_t length;
    uint8_t *bytes = golden_bytes(name, &length);

    CHECK_OK(d2c_image_decode(image, bytes, length, channels, D2C_DEFAULT_PIXEL_LIMIT, &err), &err);
    free(bytes);
}

/* Calls `fact` with the rest of every line of expected.txt that starts with the word; returns how many there
 * were. */
static inline int
each_fact(const char *word, void (*fact)(const char *rest))
{
    char path[1024], line[256];
    size_t length = strlen(word);
    int count = 0;
    FILE *file;

    snprintf(path, sizeof path, "%s/image/expected.txt", GOLDEN);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, word, length) == 0 && line[length] == ' ') {
            fact(line + length + 1);
            count++;
        }
    if (file != NULL)
        fclose(file);
    return count;
}

#endif
