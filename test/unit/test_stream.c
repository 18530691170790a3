/* test_stream.c: the binary COPY format, the tensor's binary form, the order of an epoch. */
#include <stdlib.h>

#include "check.h"
#include "train/copy.h"
#include "train/order.h"
#include "train/tensor_wire.h"

static const uint8_t header[19] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

/* A stream of `rows` rows: a bigint, and a bytea of as many bytes as the row's number, NULL for row 1. */
static size_t
write_stream(uint8_t *out, int rows)
{
    size_t at = sizeof header;
    int i, j;

    memcpy(out, header, sizeof header);
    for (i = 0; i < rows; i++) {
        const uint8_t head[] = {0, 2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, (uint8_t)i};

        memcpy(out + at, head, sizeof head);
        at += sizeof head;
        memset(out + at, i == 1 ? 0xff : 0, 4);
        if (i != 1)
            out[at + 3] = (uint8_t)i;
        at += 4;
        for (j = 0; j < i && i != 1; j++)
            out[at++] = (uint8_t)(i + j);
    }
    out[at++] = 0xff;
    out[at++] = 0xff;
    return at;
}

/* Feeds the bytes in pieces; the number of rows read, checked, or -1 at an error. */
static int
read_stream(const uint8_t *bytes, size_t length, size_t piece, int *ended, d2c_error *err)
{
    d2c_copy_reader reader;
    d2c_field fields[2];
    d2c_status status = D2C_OK;
    size_t at;
    int rows = 0, found;
    int64_t id;

    d2c_copy_open(&reader, 2);
    for (at = 0; at < length && status == D2C_OK; at += piece) {
        status = d2c_copy_feed(&reader, bytes + at, length - at < piece ? length - at : piece, err);
        for (found = 1; status == D2C_OK && found;) {
            status = d2c_copy_row(&reader, fields, &found, err);
            if (status != D2C_OK || !found)
                continue;
            status = d2c_field_i64(&id, &fields[0], err);
            CHECK(status != D2C_OK || id == rows);
            CHECK(status != D2C_OK || fields[1].length == (rows == 1 ? -1 : rows));
            CHECK(status != D2C_OK || fields[1].length < 1 ||
                  fields[1].data[rows - 1] == (uint8_t)(2 * rows - 1));
            rows++;
        }
    }
    *ended = reader.ended;
    d2c_copy_close(&reader);
    return status == D2C_OK ? rows : -1;
}

static void
copy_in_pieces(void)
{
    uint8_t bytes[4096];
    size_t length = write_stream(bytes, 40), piece;
    d2c_error err;
    int ended;

    for (piece = 1; piece < 200; piece += 7) {
        CHECK(read_stream(bytes, length, piece, &ended, &err) == 40);
        CHECK(ended);
    }
    CHECK(read_stream(bytes, length - 1, 64, &ended, &err) == 40);
    CHECK(!ended);
    CHECK(read_stream(bytes, length - 3, 64, &ended, &err) == 39);
    CHECK(!ended);
}

static void
copy_refuses(void)
{
    uint8_t bytes[4096], bad[4096];
    size_t length = write_stream(bytes, 4);
    d2c_error err;
    int ended;

    memcpy(bad, bytes, length);
    bad[3] = 'X';
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
    CHECK(strcmp(err.message, "binary COPY data has no valid signature") == 0);
    memcpy(bad, bytes, length);
    bad[11] = 1;
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
    memcpy(bad, bytes, length);
    bad[15] = 0x7f;
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
    memcpy(bad, bytes, length);
    bad[20] = 3;
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
    CHECK(strcmp(err.message, "binary COPY row has 3 fields, expected 2") == 0);
    memcpy(bad, bytes, length);
    bad[21] = 0x80;
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
    memcpy(bad, bytes, length);
    bad[24] = 7;
    CHECK(read_stream(bad, length, length, &ended, &err) == -1);
}

static void
tensors(void)
{
    const uint8_t f16[] = {1, 4, 2, 0, 0, 0, 0, 1, 0, 0, 0, 3, 0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00};
    const uint8_t bf16[] = {1, 1, 1, 0, 0, 0, 0, 2, 0x80, 0x3f, 0x48, 0xc0};
    const uint8_t f32[] = {1, 0, 1, 0, 0, 0, 0, 1, 0x00, 0x00, 0x80, 0x3e};
    d2c_field field = {f16, sizeof f16};
    d2c_wire_tensor tensor;
    d2c_error err;
    float value[3];
    uint16_t half[3];

    CHECK_OK(d2c_wire_tensor_read(&tensor, &field, &err), &err);
    CHECK(tensor.dtype == D2C_F16 && tensor.ndim == 2 && tensor.dim[0] == 1 && tensor.dim[1] == 3);
    d2c_wire_tensor_f32(value, &tensor, 3);
    CHECK(value[0] == 1.0f && value[1] == -2.0f && value[2] == 0x1p-24f);
    field = (d2c_field){bf16, sizeof bf16};
    CHECK_OK(d2c_wire_tensor_read(&tensor, &field, &err), &err);
    d2c_wire_tensor_f16(half, &tensor, 2);
    CHECK(half[0] == 0x3c00 && half[1] == 0xc240);
    field = (d2c_field){f32, sizeof f32};
    CHECK_OK(d2c_wire_tensor_read(&tensor, &field, &err), &err);
    d2c_wire_tensor_f16(half, &tensor, 1);
    CHECK(half[0] == 0x3400);
}

static void
halves_round_to_even(void)
{
    static const struct {
        uint32_t bits;
        uint16_t half;
    } cases[] = {{0x3f801000, 0x3c00}, {0x3f803000, 0x3c02}, {0x477fefff, 0x7bff}, {0x477ff000, 0x7c00},
                 {0x33000000, 0x0000}, {0x33000001, 0x0001}, {0x33c00000, 0x0002}, {0x387fe000, 0x0400},
                 {0xff800000, 0xfc00}, {0x7fc00000, 0x7e00}, {0x80000000, 0x8000}, {0x38800000, 0x0400}};
    size_t i;

    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t bytes[] = {1,
                           0,
                           1,
                           0,
                           0,
                           0,
                           0,
                           1,
                           (uint8_t)cases[i].bits,
                           (uint8_t)(cases[i].bits >> 8),
                           (uint8_t)(cases[i].bits >> 16),
                           (uint8_t)(cases[i].bits >> 24)};
        d2c_field field = {bytes, sizeof bytes};
        d2c_wire_tensor tensor;
        d2c_error err;
        uint16_t half;

        CHECK_OK(d2c_wire_tensor_read(&tensor, &field, &err), &err);
        d2c_wire_tensor_f16(&half, &tensor, 1);
        CHECK(half == cases[i].half);
    }
}

static void
tensors_refused(void)
{
    const uint8_t good[] = {1, 3, 2, 0, 0, 0, 0, 1, 0, 0, 0, 2, 5, 6};
    static const struct {
        int at;
        uint8_t value;
    } damage[] = {{0, 2}, {1, 2},    {1, 9}, {2, 0}, {2, 9},   {2, 3},
                  {3, 1}, {4, 0x80}, {7, 0}, {7, 2}, {8, 0x7f}};
    uint8_t bad[sizeof good];
    d2c_wire_tensor tensor;
    d2c_error err;
    d2c_field field = {bad, sizeof bad};
    size_t i;

    for (i = 0; i < sizeof damage / sizeof *damage; i++) {
        memcpy(bad, good, sizeof good);
        bad[damage[i].at] = damage[i].value;
        CHECK(d2c_wire_tensor_read(&tensor, &field, &err) != D2C_OK);
    }
    memcpy(bad, good, sizeof good);
    for (field.length = -1; field.length < (int)sizeof good; field.length++)
        CHECK(d2c_wire_tensor_read(&tensor, &field, &err) != D2C_OK);
    CHECK_OK(d2c_wire_tensor_read(&tensor, &field, &err), &err);
}

#define ROWS 5000

/* Every row occurs once in each epoch, epochs and seeds differ, and the order does not depend on how rows are given. */
static void
order_is_a_permutation(void)
{
    static char text[ROWS][16];
    static const char *ids[ROWS], *reversed[ROWS];
    static int64_t first[ROWS], second[ROWS], turned[ROWS];
    static char seen[ROWS];
    int i, same = 0, seen_count = 0;
    d2c_error err;

    for (i = 0; i < ROWS; i++) {
        snprintf(text[i], sizeof text[i], "%d", i);
        ids[i] = reversed[ROWS - 1 - i] = text[i];
    }
    CHECK_OK(d2c_order_permute(first, ids, ROWS, 7, 0, &err), &err);
    CHECK_OK(d2c_order_permute(second, ids, ROWS, 7, 1, &err), &err);
    CHECK_OK(d2c_order_permute(turned, reversed, ROWS, 7, 0, &err), &err);
    for (i = 0; i < ROWS; i++) {
        seen_count += !seen[first[i]];
        seen[first[i]] = 1;
        same += first[i] == second[i];
        CHECK(first[i] == ROWS - 1 - turned[i]);
    }
    CHECK(seen_count == ROWS);
    CHECK(same < 20);
}

/* The key is a plain sha256, as sha256sum prints it. */
static void
order_key_is_sha256(void)
{
    d2c_order_key key, back;
    char text[2 * D2C_ORDER_BYTES + 1];

    d2c_order_key_of(&key, "12345", 42, 3);
    d2c_order_key_print(text, &key);
    CHECK(strcmp(text, "602b19ddb9051b86bcb32bfddc2c422b45e6c36cfc4d12fa87f3e224cca88c67") == 0);
    CHECK(d2c_order_key_parse(&back, text) == 0 && memcmp(&back, &key, sizeof key) == 0);
    text[5] = 'x';
    CHECK(d2c_order_key_parse(&back, text) == -1);
    CHECK(d2c_order_key_parse(&back, "12") == -1);
}

static void
numbers_of_ids(void)
{
    CHECK(d2c_order_number("0") == 0);
    CHECK(d2c_order_number("-9223372036854775808") == INT64_MIN);
    CHECK(d2c_order_number("9223372036854775808") != INT64_MAX);
    CHECK(d2c_order_number("007") != 7);
    CHECK(d2c_order_number("a") != d2c_order_number("b"));
}

int
main(void)
{
    RUN(copy_in_pieces);
    RUN(copy_refuses);
    RUN(tensors);
    RUN(halves_round_to_even);
    RUN(tensors_refused);
    RUN(order_is_a_permutation);
    RUN(order_key_is_sha256);
    RUN(numbers_of_ids);
    return check_report();
}
