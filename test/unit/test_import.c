/* test_import.c: IDX files and folders of classes, good and bad; what needs a server is in the TAP tests. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "golden_image.h"
#include "image/folder.h"
#include "train/import.h"

static char folder[64];

static const char *
in_folder(const char *name)
{
    static char path[8][256];
    static int next;

    next = (next + 1) % 8;
    snprintf(path[next], sizeof path[next], "%s/%s", folder, name);
    return path[next];
}

static void
write_bytes(const char *name, const void *bytes, size_t length)
{
    d2c_error err;

    CHECK_OK(d2c_file_write(in_folder(name), bytes, length, &err), &err);
}

/* Five images of 3 rows and 2 columns, labels 2 0 1 0 2. */
static const uint8_t labels[] = {0, 0, 8, 1, 0, 0, 0, 5, 2, 0, 1, 0, 2};
static uint8_t images[16 + 30] = {0, 0, 8, 3, 0, 0, 0, 5, 0, 0, 0, 3, 0, 0, 0, 2};

static void
write_gzip(const char *name, const void *bytes, size_t length)
{
    gzFile file = gzopen(in_folder(name), "wb");

    CHECK(gzwrite(file, bytes, (unsigned)length) == (int)length);
    gzclose(file);
}

static void
write_idx_files(void)
{
    int i;

    for (i = 0; i < 30; i++)
        images[16 + i] = (uint8_t)(i * 7);
    write_gzip("images.gz", images, sizeof images);
    write_gzip("labels.gz", labels, sizeof labels);
    write_bytes("images", images, sizeof images);
}

static void
idx_reads_plain_and_gzipped(void)
{
    static const char *const names[] = {"images", "images.gz"};
    d2c_idx idx;
    d2c_error err;
    int i;

    for (i = 0; i < 2; i++) {
        CHECK_OK(d2c_idx_read(&idx, in_folder(names[i]), 3, 3, &err), &err);
        CHECK(idx.ndim == 3 && idx.dim[0] == 5 && idx.dim[1] == 3 && idx.dim[2] == 2);
        CHECK(memcmp(idx.data, images + 16, 30) == 0);
        d2c_idx_free(&idx);
    }
    CHECK(d2c_idx_read(&idx, in_folder("images"), 1, 1, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "has 3 dimensions") != NULL);
    CHECK(d2c_idx_read(&idx, in_folder("nowhere"), 1, 1, &err) == D2C_NOT_FOUND);
    CHECK(strstr(err.message, "No such file") != NULL);
}

/* Every shorter file, plain or gzipped, is bad data. */
static void
idx_truncated(void)
{
    static const char *const names[] = {"images", "images.gz"};
    d2c_idx idx;
    d2c_error err;
    uint8_t *bytes;
    size_t length, part;
    int i;

    for (i = 0; i < 2; i++) {
        CHECK_OK(d2c_file_read(&bytes, &length, in_folder(names[i]), 1000, &err), &err);
        for (part = 0; part < length; part++) {
            write_bytes("part", bytes, part);
            CHECK(d2c_idx_read(&idx, in_folder("part"), 3, 3, &err) == D2C_BAD_DATA);
        }
        free(bytes);
    }
}

static void
idx_damaged(void)
{
    uint8_t bytes[sizeof images + 1] = {0}, *packed;
    size_t length;
    d2c_idx idx;
    d2c_error err;

    memcpy(bytes, images, sizeof images);
    write_bytes("bad", bytes, sizeof bytes);
    CHECK(d2c_idx_read(&idx, in_folder("bad"), 3, 3, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "longer than its header says") != NULL);
    bytes[2] = 13;
    write_bytes("bad", bytes, sizeof images);
    CHECK(d2c_idx_read(&idx, in_folder("bad"), 3, 3, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "is not an IDX file of bytes") != NULL);
    bytes[2] = 8;
    memset(bytes + 4, 0x7f, 12);
    write_bytes("bad", bytes, sizeof images);
    CHECK(d2c_idx_read(&idx, in_folder("bad"), 3, 3, &err) == D2C_TOO_LARGE);
    memset(bytes + 4, 0, 12);
    write_bytes("bad", bytes, sizeof images);
    CHECK(d2c_idx_read(&idx, in_folder("bad"), 3, 3, &err) == D2C_BAD_DATA);
    CHECK_OK(d2c_file_read(&packed, &length, in_folder("images.gz"), 1000, &err), &err);
    packed[length - 6] ^= 1; /* in the checksum */
    write_bytes("bad", packed, length);
    CHECK(d2c_idx_read(&idx, in_folder("bad"), 3, 3, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "is damaged") != NULL && strstr(err.detail, "check") != NULL);
    free(packed);
}

static void
idx_source_makes_png(void)
{
    d2c_import_idx idx;
    d2c_import_source source;
    d2c_import_item item;
    d2c_image image;
    d2c_error err;

    CHECK_OK(d2c_import_idx_open(&idx, &source, in_folder("images.gz"), in_folder("labels.gz"),
                                 "cat,dog,a fish", &err),
             &err);
    CHECK(source.count == 5);
    CHECK_OK(source.load(source.data, 2, &item, &err), &err);
    CHECK(item.label == 1 && strcmp(source.class_name[1], "dog") == 0);
    CHECK_OK(d2c_image_decode(&image, item.bytes, item.length, 0, 100, &err), &err);
    CHECK(image.width == 2 && image.height == 3 && image.channels == 1);
    CHECK(memcmp(image.pixels, images + 16 + 12, 6) == 0);
    d2c_image_free(&image);
    free(item.bytes);
    d2c_import_idx_close(&idx);
    CHECK_OK(d2c_import_idx_open(&idx, &source, in_folder("images"), in_folder("labels.gz"), NULL, &err),
             &err);
    CHECK(idx.classes == 3 && strcmp(idx.class_name[2], "2") == 0);
    d2c_import_idx_close(&idx);
}

static void
idx_source_refuses(void)
{
    uint8_t fewer[12];
    d2c_import_idx idx;
    d2c_import_source source;
    d2c_error err;

    CHECK(d2c_import_idx_open(&idx, &source, in_folder("images"), in_folder("labels.gz"), "cat,dog", &err) ==
          D2C_INVALID_ARGUMENT);
    CHECK(strcmp(err.detail, "The labels go up to 2; 2 names are given.") == 0);
    memcpy(fewer, labels, sizeof fewer);
    fewer[7] = 4;
    write_bytes("fewer", fewer, sizeof fewer);
    CHECK(d2c_import_idx_open(&idx, &source, in_folder("images"), in_folder("fewer"), NULL, &err) ==
          D2C_BAD_DATA);
    CHECK(strcmp(err.detail, "There are 5 images and 4 labels.") == 0);
}

static void
folder_of_classes(void)
{
    d2c_folder list;
    d2c_import_source source;
    d2c_import_item item;
    d2c_error err;
    size_t length, grey_length;
    uint8_t *rgb = golden_bytes("rgb.png", &length), *grey = golden_bytes("grey.jpg", &grey_length);

    mkdir(in_folder("set"), 0700);
    CHECK(d2c_folder_list(&list, in_folder("set"), &err) == D2C_NOT_FOUND);
    mkdir(in_folder("set/zebra"), 0700);
    mkdir(in_folder("set/Ape"), 0700);
    write_bytes("set/zebra/b.jpg", grey, grey_length);
    write_bytes("set/zebra/a.png", rgb, length);
    write_bytes("set/Ape/1.png", rgb, length - 7);
    write_bytes("set/.hidden", rgb, length);
    CHECK_OK(d2c_import_folder_open(&list, &source, in_folder("set"), &err), &err);
    CHECK(source.count == 3 && list.classes == 2 && strcmp(list.class_name[0], "Ape") == 0);
    CHECK(source.load(source.data, 0, &item, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "Ape/1.png\": invalid PNG image") != NULL);
    CHECK_OK(source.load(source.data, 2, &item, &err), &err);
    CHECK(item.label == 1 && strcmp(source.class_name[1], "zebra") == 0 && item.length == grey_length);
    CHECK(memcmp(item.bytes, grey, grey_length) == 0);
    free(item.bytes);
    d2c_folder_free(&list);
    free(rgb);
    free(grey);
}

static void
folder_refuses(void)
{
    d2c_folder list;
    d2c_import_source source;
    d2c_import_item item;
    d2c_error err;
    size_t length;
    uint8_t *rgb = golden_bytes("rgb.png", &length);

    write_bytes("set/stray.png", rgb, length);
    CHECK_OK(d2c_import_folder_open(&list, &source, in_folder("set"), &err), &err);
    CHECK(source.load(source.data, list.file[0].class_index < 0 ? 0 : 1, &item, &err) == D2C_BAD_DATA);
    CHECK(strstr(err.message, "stray.png\" has no class") != NULL && err.hint[0] != '\0');
    d2c_folder_free(&list);
    mkdir(in_folder("set/Ape/deeper"), 0700);
    CHECK(d2c_folder_list(&list, in_folder("set"), &err) == D2C_INVALID_ARGUMENT);
    CHECK(strstr(err.message, "set/Ape/deeper\" is not an image file") != NULL);
    CHECK(d2c_folder_list(&list, in_folder("nowhere"), &err) == D2C_NOT_FOUND);
    free(rgb);
}

int
main(void)
{
    char command[128];

    snprintf(folder, sizeof folder, "/tmp/d2c-test-import-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    write_idx_files();
    RUN(idx_reads_plain_and_gzipped);
    RUN(idx_truncated);
    RUN(idx_damaged);
    RUN(idx_source_makes_png);
    RUN(idx_source_refuses);
    RUN(folder_of_classes);
    RUN(folder_refuses);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) | check_report();
}
