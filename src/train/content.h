/*
 * content.h: what the rows held when a training began, so that a change is noticed: 64 bits of sha256 of every value that
 * is trained on.
 *
 * The server computes them, no value is shipped for it; whoever reads a row later computes the same bits from the row's
 * own bytes.  A tensor is hashed in its binary form.
 */
#ifndef D2C_TRAIN_CONTENT_H
#define D2C_TRAIN_CONTENT_H

#include <stdint.h>

#include "base/status.h"
#include "train/copy.h"

/* The values of a row that are hashed: the fields of d2c_table_copy behind id and label. */
#define D2C_CONTENT_PARTS 4
#define D2C_CONTENT_HASH_BYTES 8

typedef struct d2c_content d2c_content;

d2c_status d2c_content_create(d2c_content **content, d2c_error *err);
void d2c_content_free(d2c_content *content);

/* The SQL expression of a value's hash; NULL for an expression that is NULL.  malloc'd; NULL without memory. */
char *d2c_content_sql(const char *expression);

/* Adds a row, in order of the ids; part: the hashes that the server made, NULL where there is no value. */
d2c_status d2c_content_add(d2c_content *content, const char *id, int64_t label,
                           const d2c_field part[D2C_CONTENT_PARTS], d2c_error *err);

/* A JSON object of the sha256 over all rows' hashes for every part that there is, by the part's name.  malloc'd. */
d2c_status d2c_content_finish(d2c_content *content, char **json, d2c_error *err);

/* The names of the parts that differ between two such objects, with commas, the first part by the name that it is given;
 * "" when none does. */
void d2c_content_differences(char *names, size_t size, const char *json, const char *other,
                             const char *first);

/* Every row's hash in a file, under a name for the whole; and the place, in order of the ids, of the first row whose hash
 * is another than in such a file: -1 when there is no such file, it has another name, or no row differs. */
d2c_status d2c_content_save(const d2c_content *content, const char *path, const char *name, d2c_error *err);
int64_t d2c_content_first_change(const d2c_content *content, const char *path, const char *name);

/* Makes the rows ready to be looked up; with `check` 0 they are forgotten, and every row is taken as it is. */
void d2c_content_seal(d2c_content *content, int check);

/* Whether the row is still what it was: fields of d2c_table_copy.  May be called by several threads once sealed. */
d2c_status d2c_content_check(const d2c_content *content, const d2c_field *fields, d2c_error *err);

#endif
