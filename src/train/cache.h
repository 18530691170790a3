/* cache.h: a whole set of decoded rows in memory: read once, in no order, decoded on several threads. */
#ifndef D2C_TRAIN_CACHE_H
#define D2C_TRAIN_CACHE_H

#include "train/row.h"

typedef struct d2c_cache d2c_cache;

/* Bytes that the set takes, texts aside. */
size_t d2c_cache_estimate(const d2c_table *table, const d2c_row_shape *shape);

/* Reads the table.  *cache is NULL, without an error, when the set turns out to be larger than the limit. */
d2c_status d2c_cache_open(d2c_cache **cache, PGconn *connection, const d2c_table *table,
                          const d2c_row_shape *shape, size_t limit, int threads, d2c_error *err);
void d2c_cache_close(d2c_cache *cache);

size_t d2c_cache_bytes(const d2c_cache *cache);
const uint8_t *
d2c_cache_pixels(const d2c_cache *cache); /* [rows, size, size, channels], in no order; NULL: latents */

/* The epoch's row at a place, 0 <= place < table->rows; it points into the cache. */
d2c_status d2c_cache_row(d2c_cache *cache, d2c_row *row, uint64_t seed, int64_t epoch, int64_t place,
                         d2c_error *err);

#endif
