/* order.c: the permutation of order.h. */
#include "train/order.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
d2c_order_key_of(d2c_order_key *key, const char *id, uint64_t seed, int64_t epoch)
{
    char text[D2C_ID_LIMIT + 64];
    int length = snprintf(text, sizeof text, "%" PRIu64 ":%" PRId64 ":%s", seed, epoch, id);

    if (length >= (int)sizeof text)
        length = (int)sizeof text - 1;
    SHA256((const uint8_t *)text, (size_t)length, key->byte);
}

void
d2c_order_key_print(char text[2 * D2C_ORDER_BYTES + 1], const d2c_order_key *key)
{
    int i;

    for (i = 0; i < D2C_ORDER_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", key->byte[i]);
}

int
d2c_order_key_parse(d2c_order_key *key, const char *text)
{
    int i;

    if (strlen(text) != 2 * D2C_ORDER_BYTES || strspn(text, "0123456789abcdef") != 2 * D2C_ORDER_BYTES)
        return -1;
    for (i = 0; i < D2C_ORDER_BYTES; i++) {
        char pair[3] = {text[2 * i], text[2 * i + 1], '\0'};

        key->byte[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return 0;
}

void
d2c_order_sql(char *sql, size_t size, const char *id, uint64_t seed, int64_t epoch)
{
    snprintf(sql, size, "pg_catalog.sha256(pg_catalog.convert_to('%" PRIu64 ":%" PRId64 ":' || %s, 'UTF8'))",
             seed, epoch, id);
}

typedef struct keyed_row {
    d2c_order_key key;
    int64_t index;
} keyed_row;

static int
compare_rows(const void *a, const void *b)
{
    const keyed_row *x = a, *y = b;
    int order = memcmp(x->key.byte, y->key.byte, D2C_ORDER_BYTES);

    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

d2c_status
d2c_order_permute(int64_t *permutation, const char *const *ids, int64_t count, uint64_t seed, int64_t epoch,
                  d2c_error *err)
{
    keyed_row *rows = NULL;
    int64_t i;

    if ((size_t)count <= SIZE_MAX / sizeof *rows)
        rows = malloc((size_t)count * sizeof *rows + 1);
    if (rows == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory for the order of %" PRId64 " rows", count);
    for (i = 0; i < count; i++) {
        d2c_order_key_of(&rows[i].key, ids[i], seed, epoch);
        rows[i].index = i;
    }
    qsort(rows, (size_t)count, sizeof *rows, compare_rows);
    for (i = 0; i < count; i++)
        permutation[i] = rows[i].index;
    free(rows);
    return D2C_OK;
}

int64_t
d2c_order_number(const char *id)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char printed[32];
    long long number;
    uint64_t hash = 0;
    int i;

    errno = 0;
    number = strtoll(id, NULL, 10);
    snprintf(printed, sizeof printed, "%lld", number);
    if (errno == 0 && strcmp(printed, id) == 0)
        return number;
    SHA256((const uint8_t *)id, strlen(id), digest);
    for (i = 0; i < 8; i++)
        hash = hash << 8 | digest[i];
    return (int64_t)hash;
}
