/*
 * safetensors_header.h: the JSON header of a safetensors file, taken apart; used by safetensors.c alone.
 *
 * The parser knows this one form and nothing else, so that it can be strict where general JSON libraries are
 * not: duplicate keys, numbers that are no exact unsigned integers, lone surrogates, control characters,
 * unknown fields.
 */
#ifndef D2C_BASE_SAFETENSORS_HEADER_H
#define D2C_BASE_SAFETENSORS_HEADER_H

#include "base/safetensors.h"

typedef struct d2c_st_entry {
    d2c_st_tensor tensor; /* data, bytes and count are still unset */
    int bits;             /* of an element */
    uint64_t begin, end;  /* bytes from the start of the data */
} d2c_st_entry;

typedef struct d2c_st_header {
    char *text; /* every name, key and value, zero-terminated */
    d2c_st_entry *entry;
    d2c_st_pair *metadata;
    int count, capacity;
    int pairs, pair_capacity;
} d2c_st_header;

/* On failure the message is "..." without the file's name, and the header is empty. */
d2c_status d2c_st_header_parse(d2c_st_header *header, const char *json, size_t length, d2c_error *err);
void d2c_st_header_free(d2c_st_header *header);

/* The format's name of a dtype, and its width; NULL and 0 for D2C_ST_OTHER. */
const char *d2c_st_dtype_name(d2c_st_dtype dtype);
int d2c_st_dtype_bits(d2c_st_dtype dtype);

#endif
