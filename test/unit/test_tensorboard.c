/* test_tensorboard.c: event files against those of TensorBoard's own package, and the order of their names. */
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "train/tensorboard.h"

static char folder[64];

/* The only event file in the folder, or that with the greatest name. */
static void
last_file(char *path, size_t size)
{
    DIR *directory = opendir(folder);
    const struct dirent *entry;
    char last[256] = "";

    while (directory != NULL && (entry = readdir(directory)) != NULL)
        if (strncmp(entry->d_name, "events", 6) == 0 && strcmp(entry->d_name, last) > 0)
            snprintf(last, sizeof last, "%s", entry->d_name);
    if (directory != NULL)
        closedir(directory);
    snprintf(path, size, "%s/%s", folder, last);
}

static void
clear_folder(void)
{
    char path[512];

    for (last_file(path, sizeof path); path[strlen(path) - 1] != '/'; last_file(path, sizeof path))
        unlink(path);
}

static void
write_golden(const uint8_t *png, size_t length)
{
    const char *const tags[] = {"loss", "grad_norm", "zero", "projection_loss"};
    const float values[] = {0.75f, 1e-30f, 0, -0.5f}, infinite = INFINITY;
    char name[201];
    const char *const long_tag[] = {name};
    d2c_tensorboard *board;
    d2c_error err;

    memset(name, 'x', 200);
    name[200] = '\0';
    CHECK_OK(d2c_tensorboard_open(&board, folder, 301, 1700000000.25, &err), &err);
    CHECK_OK(d2c_tensorboard_scalars(board, 1700000001.5, 310, tags, values, 4, &err), &err);
    CHECK_OK(d2c_tensorboard_png(board, 1700000002.0, 5000000000, "samples", png, length, &err), &err);
    CHECK_OK(d2c_tensorboard_scalars(board, 1700000003.0, 0, long_tag, &infinite, 1, &err), &err);
    CHECK(d2c_tensorboard_png(board, 0, 1, "samples", "GIF89a", 6, &err) == D2C_INVALID_ARGUMENT);
    CHECK_OK(d2c_tensorboard_close(board, &err), &err);
}

static void
same_bytes(void)
{
    uint8_t *png, *expected, *written;
    size_t png_length, expected_length, length;
    char path[512];
    d2c_error err;

    CHECK_OK(d2c_file_read(&png, &png_length, GOLDEN "/tensorboard/picture.png", 1 << 20, &err), &err);
    CHECK_OK(d2c_file_read(&expected, &expected_length, GOLDEN "/tensorboard/run.tfevents", 1 << 20, &err),
             &err);
    write_golden(png, png_length);
    last_file(path, sizeof path);
    CHECK(strstr(path, "/events.out.tfevents.1700000000.d2c.0000") != NULL);
    CHECK_OK(d2c_file_read(&written, &length, path, 1 << 20, &err), &err);
    CHECK(length == expected_length && memcmp(written, expected, length) == 0);
    clear_folder();
    free(png);
    free(expected);
    free(written);
}

/* TensorBoard reads files in order of their names: a later one comes later, whatever the clock says. */
static void
names_in_order(void)
{
    static const double now[] = {1700000000, 1700000000, 1600000000, 1700000001};
    char path[512], previous[512] = "";
    d2c_tensorboard *board;
    d2c_error err;
    size_t i;

    for (i = 0; i < sizeof now / sizeof *now; i++) {
        CHECK_OK(d2c_tensorboard_open(&board, folder, 1, now[i], &err), &err);
        CHECK_OK(d2c_tensorboard_close(board, &err), &err);
        last_file(path, sizeof path);
        CHECK(strcmp(path, previous) > 0);
        snprintf(previous, sizeof previous, "%s", path);
    }
    clear_folder();
}

static void
no_folder(void)
{
    d2c_tensorboard *board;
    d2c_error err;

    CHECK(d2c_tensorboard_open(&board, "/dev/null/x", 1, 0, &err) != D2C_OK);
    CHECK(board == NULL);
}

int
main(void)
{
    snprintf(folder, sizeof folder, "/tmp/d2c-test-tensorboard-%d", (int)getpid());
    RUN(same_bytes);
    RUN(names_in_order);
    RUN(no_folder);
    rmdir(folder);
    return check_report();
}
