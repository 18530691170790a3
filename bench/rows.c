/*
 * rows.c: how fast rows come: the trainer's stream beside a plain COPY, a folder of the same image files, and a tar of
 * them, all from a warm cache and on one thread.
 *
 *   rows CONNINFO TABLE FOLDER
 *
 * TABLE has columns id (bigint), label, image.  Its images are written to FOLDER/ID and FOLDER/all.tar first.  Each source
 * is read once as bytes, and once with every image decoded and cropped as the trainer does it; the order is the epoch's in
 * the stream, shuffled in the folder, as stored in COPY and tar, which is what a loader of shards reads.  Medians of five
 * turns, the sources in turns.
 */
#include "bench.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "train/copy_out.h"
#include "train/database.h"
#include "train/stream.h"

#define TURNS 5
#define TAR_BLOCK 512

enum { STREAM, COPY, COPY_DECODED, FOLDER, FOLDER_DECODED, TAR, TAR_DECODED, SOURCES };
static const char *const source_name[SOURCES] = {
    "the trainer's stream", "COPY, bytes", "COPY", "folder, bytes", "folder", "tar, bytes", "tar"};

typedef struct bench_rows {
    const char *conninfo, *folder;
    d2c_table *table;
    d2c_row_shape shape;
    d2c_row row;
    int64_t *id, *label; /* [rows] in the order of COPY */
    int64_t *shuffled;   /* [rows] */
    uint8_t *buffer;     /* for a file */
    size_t capacity;
    int64_t bytes; /* of the images of a pass */
    d2c_error err;
} bench_rows;

/* One row through the trainer's decoding. */
static void
decode(bench_rows *b, int64_t id, int64_t label, const uint8_t *image, size_t length)
{
    uint64_t swapped = __builtin_bswap64((uint64_t)label);
    char text[24];
    int digits = snprintf(text, sizeof text, "%" PRId64, id);
    d2c_field fields[D2C_TABLE_COLUMNS] = {{(const uint8_t *)text, digits},
                                           {(const uint8_t *)&swapped, 8},
                                           {image, (int32_t)length},
                                           {NULL, -1},
                                           {NULL, -1},
                                           {NULL, -1}};

    bench_check(d2c_row_decode(&b->row, &b->shape, fields, &b->err), &b->err);
}

static void
make_room(bench_rows *b, size_t length)
{
    if (length <= b->capacity)
        return;
    b->capacity = 2 * length;
    b->buffer = realloc(b->buffer, b->capacity);
    if (b->buffer == NULL)
        exit(1);
}

static void
file_name(char *path, size_t size, const bench_rows *b, int64_t id)
{
    snprintf(path, size, "%s/%" PRId64, b->folder, id);
}

/* ---- the sources ----------------------------------------------------------------------------------------------------- */

static void
read_stream(bench_rows *b)
{
    d2c_stream_setting setting = {.conninfo = b->conninfo,
                                  .table = b->table,
                                  .shape = &b->shape,
                                  .share = {.batch = 1, .rows = 1},
                                  .seed = 1};
    d2c_stream *stream;
    int64_t i;

    bench_check(d2c_stream_open(&stream, &setting, &b->err), &b->err);
    for (i = 0; i < b->table->rows; i++) {
        const d2c_row *row;

        bench_check(d2c_stream_next(stream, &row, &b->err), &b->err);
    }
    d2c_stream_close(stream);
}

/* Calls put for every row as COPY brings it. */
static void
each_copied(bench_rows *b, void (*put)(bench_rows *b, int64_t place, const d2c_field *fields))
{
    char *sql = d2c_table_copy(b->table);
    d2c_field fields[D2C_TABLE_COLUMNS];
    d2c_copy_out out = {0};
    PGconn *connection;
    int64_t place = 0;
    int found = 1;

    bench_check(d2c_database_open(&connection, b->conninfo, &b->err), &b->err);
    bench_check(d2c_copy_out_start(&out, connection, sql, D2C_TABLE_COLUMNS, &b->err), &b->err);
    for (;;) {
        bench_check(d2c_copy_out_row(&out, fields, &found, &b->err), &b->err);
        if (!found)
            break;
        put(b, place++, fields);
    }
    d2c_copy_out_stop(&out);
    PQfinish(connection);
    free(sql);
}

static void
decode_copied(bench_rows *b, int64_t place, const d2c_field *fields)
{
    decode(b, b->id[place], b->label[place], fields[2].data, (size_t)fields[2].length);
}

/* What psql does with it: the messages, unread. */
static void
read_copy(const bench_rows *b)
{
    char *sql = d2c_table_copy(b->table), *message;
    PGconn *connection;
    d2c_error err;

    bench_check(d2c_database_open(&connection, b->conninfo, &err), &err);
    PQclear(PQexec(connection, sql));
    while (PQgetCopyData(connection, &message, 0) > 0)
        PQfreemem(message);
    PQfinish(connection);
    free(sql);
}

static void
read_folder(bench_rows *b, int decoded)
{
    int64_t i;

    for (i = 0; i < b->table->rows; i++) {
        int64_t place = b->shuffled[i];
        char path[512];
        struct stat info;
        int fd;

        file_name(path, sizeof path, b, b->id[place]);
        fd = open(path, O_RDONLY);
        if (fd < 0 || fstat(fd, &info) != 0)
            exit(1);
        make_room(b, (size_t)info.st_size);
        if (read(fd, b->buffer, (size_t)info.st_size) != info.st_size)
            exit(1);
        close(fd);
        if (decoded)
            decode(b, b->id[place], b->label[place], b->buffer, (size_t)info.st_size);
    }
}

static size_t
padded(size_t length)
{
    return (length + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
}

static void
read_tar(bench_rows *b, int decoded)
{
    char path[512], header[TAR_BLOCK];
    FILE *tar;
    int64_t place;

    snprintf(path, sizeof path, "%s/all.tar", b->folder);
    tar = fopen(path, "r");
    for (place = 0; place < b->table->rows; place++) {
        size_t length;

        if (tar == NULL || fread(header, 1, sizeof header, tar) != sizeof header)
            exit(1);
        length = strtoul(header + 124, NULL, 8);
        make_room(b, padded(length));
        if (fread(b->buffer, 1, padded(length), tar) != padded(length))
            exit(1);
        if (decoded)
            decode(b, strtoll(header, NULL, 10), b->label[place], b->buffer, length);
    }
    fclose(tar);
}

/* ---- files ------------------------------------------------------------------------------------------------------------ */

static void
put_tar(FILE *tar, const char *name, const uint8_t *bytes, size_t length)
{
    static const char nothing[TAR_BLOCK];
    char header[TAR_BLOCK] = {0};

    snprintf(header, 100, "%s", name);
    snprintf(header + 124, 12, "%011zo", length);
    fwrite(header, 1, sizeof header, tar);
    fwrite(bytes, 1, length, tar);
    fwrite(nothing, 1, padded(length) - length, tar);
}

static FILE *tar_made;

static void
keep_copied(bench_rows *b, int64_t place, const d2c_field *fields)
{
    char path[512];
    FILE *file;

    b->id[place] = strtoll((const char *)fields[0].data, NULL, 10);
    bench_check(d2c_field_i64(&b->label[place], &fields[1], &b->err), &b->err);
    file_name(path, sizeof path, b, b->id[place]);
    file = fopen(path, "w");
    if (file == NULL)
        exit(1);
    fwrite(fields[2].data, 1, (size_t)fields[2].length, file);
    fclose(file);
    put_tar(tar_made, path + strlen(b->folder) + 1, fields[2].data, (size_t)fields[2].length);
    b->bytes += fields[2].length;
}

static void
prepare(bench_rows *b)
{
    size_t rows = (size_t)b->table->rows, i;
    char path[512];

    b->id = bench_memory(rows * sizeof *b->id);
    b->label = bench_memory(rows * sizeof *b->label);
    b->shuffled = bench_memory(rows * sizeof *b->shuffled);
    snprintf(path, sizeof path, "%s/all.tar", b->folder);
    tar_made = fopen(path, "w");
    if (tar_made == NULL)
        exit(1);
    each_copied(b, keep_copied);
    fclose(tar_made);
    for (i = 0; i < rows; i++)
        b->shuffled[i] = (int64_t)(i * 7919 % rows); /* 7919 is prime */
}

/* ---- times ------------------------------------------------------------------------------------------------------------ */

static void
read_source(bench_rows *b, int source)
{
    if (source == STREAM)
        read_stream(b);
    else if (source == COPY)
        read_copy(b);
    else if (source == COPY_DECODED)
        each_copied(b, decode_copied);
    else if (source <= FOLDER_DECODED)
        read_folder(b, source == FOLDER_DECODED);
    else
        read_tar(b, source == TAR_DECODED);
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
    d2c_table_setting setting = {.id = "id", .label = "label", .image = "image"};
    double time[SOURCES][TURNS];
    bench_rows b = {0};
    PGconn *connection;
    int source, turn;

    if (argc != 4) {
        fprintf(stderr, "usage: rows CONNINFO TABLE FOLDER\n");
        return 2;
    }
    b.conninfo = argv[1];
    setting.table = argv[2];
    b.folder = argv[3];
    bench_check(d2c_database_open(&connection, b.conninfo, &b.err), &b.err);
    bench_check(d2c_table_open(&b.table, connection, &setting, &b.err), &b.err);
    PQfinish(connection);
    b.shape = (d2c_row_shape){
        .size = b.table->image_width, .channels = b.table->image_channels, .classes = b.table->classes};
    bench_check(d2c_row_allocate(&b.row, &b.shape, &b.err), &b.err);
    prepare(&b);
    for (turn = -1; turn < TURNS; turn++)
        for (source = 0; source < SOURCES; source++) {
            double start = bench_now();

            read_source(&b, source);
            if (turn >= 0)
                time[source][turn] = bench_now() - start;
        }
    for (source = 0; source < SOURCES; source++)
        qsort(time[source], TURNS, sizeof(double), compare_doubles);
    for (source = 0; source < SOURCES; source++) {
        double seconds = time[source][TURNS / 2];

        printf("%.2f times the trainer's stream: %s%s, %.0f rows/s, %.1f MB/s\n",
               time[STREAM][TURNS / 2] / seconds, source_name[source],
               strstr(source_name[source], "bytes") != NULL ? "" : ", decoded",
               (double)b.table->rows / seconds, (double)b.bytes / seconds * 1e-6);
    }
    d2c_row_free(&b.row);
    d2c_table_close(b.table);
    free(b.buffer);
    return 0;
}
