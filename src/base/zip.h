/*
 * zip.h: the entries of a ZIP archive in memory, as torch.save writes it: stored, with or without ZIP64.
 *
 * The central directory tells what there is.  An entry's own header must agree with it and lie before it, so every range
 * that is handed out is inside the archive.  Compressed, encrypted and split archives are refused.
 */
#ifndef D2C_BASE_ZIP_H
#define D2C_BASE_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct d2c_zip_entry {
    const char *name; /* not zero-terminated */
    size_t name_length;
    uint64_t header; /* offset of its local header */
    uint64_t size, packed;
    uint32_t crc;
    unsigned method, flags;
} d2c_zip_entry;

typedef struct d2c_zip {
    const unsigned char *bytes;
    size_t length;
    size_t directory;     /* where the central directory begins: no entry's data reach behind it */
    d2c_zip_entry *entry; /* [count], sorted by name; no name occurs twice */
    int count;
} d2c_zip;

/* The bytes must outlive the archive.  Failures are D2C_BAD_MODEL without the file's name. */
d2c_status d2c_zip_open(d2c_zip *zip, const void *bytes, size_t length, d2c_error *err);
void d2c_zip_close(d2c_zip *zip);

/* The entry of the name `folder` + `name`, or NULL. */
const d2c_zip_entry *d2c_zip_find(const d2c_zip *zip, const char *folder, size_t folder_length,
                                  const char *name, size_t name_length);

/* Where the entry's bytes are: entry->size of them. */
d2c_status d2c_zip_data(const unsigned char **data, const d2c_zip *zip, const d2c_zip_entry *entry,
                        d2c_error *err);

/* The same, and their checksum is right. */
d2c_status d2c_zip_data_checked(const unsigned char **data, const d2c_zip *zip, const d2c_zip_entry *entry,
                                d2c_error *err);

#endif
