/* ids.h: the ids of a prompt as a tokenizer makes them. */
#ifndef D2C_TEXT_IDS_H
#define D2C_TEXT_IDS_H

#include <stdint.h>

/* at has room for limit ids and one more, the token that ends every prompt. */
typedef struct d2c_ids {
    int32_t *at;
    int count, limit;
} d2c_ids;

static inline int
d2c_ids_full(const d2c_ids *ids)
{
    return ids->count >= ids->limit;
}

/* What no longer fits is cut off. */
static inline void
d2c_ids_add(d2c_ids *ids, int32_t id)
{
    if (!d2c_ids_full(ids))
        ids->at[ids->count++] = id;
}

/* Returns how many there are, the last one included. */
static inline int
d2c_ids_end(d2c_ids *ids, int32_t id)
{
    ids->at[ids->count++] = id;
    return ids->count;
}

#endif
