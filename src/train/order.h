/*
 * order.h: the order of an epoch's rows: a permutation keyed by (seed, epoch).
 *
 * A row's sort key is sha256("seed:epoch:id"), so the database (sha256() is built in) and this program agree
 * on the order whatever PostgreSQL's version is, and anyone can repeat it in psql.  Ids are the text of the
 * id column.
 */
#ifndef D2C_TRAIN_ORDER_H
#define D2C_TRAIN_ORDER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define D2C_ORDER_BYTES 32
#define D2C_ID_LIMIT 1000 /* bytes of an id's text */

typedef struct d2c_order_key {
    uint8_t byte[D2C_ORDER_BYTES];
} d2c_order_key;

void d2c_order_key_of(d2c_order_key *key, const char *id, uint64_t seed, int64_t epoch);

/* Lower-case hex and back; -1 when the text is not 64 hex digits. */
void d2c_order_key_print(char text[2 * D2C_ORDER_BYTES + 1], const d2c_order_key *key);
int d2c_order_key_parse(d2c_order_key *key, const char *text);

/* The same key as an SQL expression over the column reference `id` of type text. */
void d2c_order_sql(char *sql, size_t size, const char *id, uint64_t seed, int64_t epoch);

/* permutation [count] = the indices of ids [count] in the epoch's order. */
d2c_status d2c_order_permute(int64_t *permutation, const char *const *ids, int64_t count, uint64_t seed,
                             int64_t epoch, d2c_error *err);

/* What Philox takes for a row: the number itself when the id is one, otherwise 64 bits of sha256 of the text.
 */
int64_t d2c_order_number(const char *id);

#endif
