/* zip.c: the central directory of a ZIP archive (zip.h; PKWARE's APPNOTE has the layout). */
#include "base/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define END_SIZE 22u       /* end of central directory, without its comment */
#define END64_SIZE 56u     /* ZIP64's, without what later versions append */
#define LOCATOR_SIZE 20u   /* in front of the end, points to ZIP64's */
#define DIRECTORY_SIZE 46u /* an entry of the central directory, without name, extra field and comment */
#define LOCAL_SIZE 30u
#define MAX_COMMENT 0xFFFFu
#define FULL16 0xFFFFu
#define FULL32 0xFFFFFFFFu /* the number is in the ZIP64 field */

static uint64_t
get(const unsigned char *at, int bytes)
{
    uint64_t value = 0;

    while (bytes-- > 0)
        value = value << 8 | at[bytes];
    return value;
}

static int
has_magic(const unsigned char *at, unsigned char third, unsigned char fourth)
{
    return at[0] == 'P' && at[1] == 'K' && at[2] == third && at[3] == fourth;
}

static d2c_status
fail(d2c_error *err, const char *problem)
{
    d2c_fail(err, D2C_BAD_MODEL, "damaged ZIP archive");
    d2c_detail(err, "%s", problem);
    return D2C_BAD_MODEL;
}

/* Names may be any bytes; messages are text. */
static d2c_status
fail_entry(d2c_error *err, const d2c_zip_entry *entry, const char *problem)
{
    char name[128];
    size_t i;

    for (i = 0; i < entry->name_length && i < sizeof name - 1; i++)
        name[i] = entry->name[i] >= ' ' && entry->name[i] < 127 ? entry->name[i] : '?';
    name[i] = '\0';
    d2c_fail(err, D2C_BAD_MODEL, "damaged ZIP archive");
    d2c_detail(err, "Entry \"%s\" %s.", name, problem);
    return D2C_BAD_MODEL;
}

/* Where the archive ends: the last record whose comment fills the rest of the file. */
static d2c_status
find_end(size_t *end, const d2c_zip *zip, d2c_error *err)
{
    size_t comment;

    for (comment = 0; comment <= MAX_COMMENT && END_SIZE + comment <= zip->length; comment++) {
        const unsigned char *at = zip->bytes + zip->length - END_SIZE - comment;

        if (has_magic(at, 5, 6) && get(at + 20, 2) == comment) {
            *end = zip->length - END_SIZE - comment;
            return D2C_OK;
        }
    }
    return fail(err, "Its end is missing, so it may be cut off.");
}

typedef struct directory {
    uint64_t count, size, offset;
    size_t limit; /* it ends here at the latest */
} directory;

/* Reads ZIP64's end, which the locator before the usual end points to. */
static d2c_status
read_end64(directory *d, const d2c_zip *zip, size_t end, d2c_error *err)
{
    const unsigned char *at = zip->bytes + end - LOCATOR_SIZE;
    uint64_t offset = get(at + 8, 8);

    if (offset > end - LOCATOR_SIZE || end - LOCATOR_SIZE - offset < END64_SIZE ||
        !has_magic(zip->bytes + offset, 6, 6))
        return fail(err, "Its ZIP64 end is not where it should be.");
    at = zip->bytes + offset;
    if (get(at + 24, 8) != get(at + 32, 8))
        return fail(err, "It is a part of a split archive.");
    *d = (directory){get(at + 32, 8), get(at + 40, 8), get(at + 48, 8), (size_t)offset};
    return D2C_OK;
}

static d2c_status
read_end(directory *d, const d2c_zip *zip, size_t end, d2c_error *err)
{
    const unsigned char *at = zip->bytes + end;

    if (end >= LOCATOR_SIZE && has_magic(at - LOCATOR_SIZE, 6, 7))
        D2C_TRY(read_end64(d, zip, end, err));
    else {
        if (get(at + 8, 2) != get(at + 10, 2))
            return fail(err, "It is a part of a split archive.");
        *d = (directory){get(at + 10, 2), get(at + 12, 4), get(at + 16, 4), end};
    }
    if (d->offset > d->limit || d->size > d->limit - d->offset)
        return fail(err, "Its directory lies outside the file.");
    if (d->count > d->size / DIRECTORY_SIZE || d->count > INT32_MAX)
        return fail(err, "Its directory is too small for its entries.");
    return D2C_OK;
}

/* Replaces what does not fit 32 bits by the numbers of the ZIP64 extra field, which has only those, in this order. */
static d2c_status
read_extra64(d2c_zip_entry *entry, const unsigned char *at, size_t length, d2c_error *err)
{
    uint64_t *wide[3] = {&entry->size, &entry->packed, &entry->header};
    int i;

    for (i = 0; i < 3; i++) {
        if (*wide[i] != FULL32)
            continue;
        if (length < 8)
            return fail_entry(err, entry, "has a short ZIP64 field");
        *wide[i] = get(at, 8);
        at += 8;
        length -= 8;
    }
    return D2C_OK;
}

static d2c_status
read_extra(d2c_zip_entry *entry, const unsigned char *at, size_t length, d2c_error *err)
{
    while (length >= 4) {
        size_t id = get(at, 2), bytes = get(at + 2, 2);

        if (bytes > length - 4)
            return fail_entry(err, entry, "has a damaged extra field");
        if (id == 1)
            return read_extra64(entry, at + 4, bytes, err);
        at += 4 + bytes;
        length -= 4 + bytes;
    }
    return D2C_OK;
}

/* Reads an entry of the directory and moves *at behind it. */
static d2c_status
read_entry(d2c_zip_entry *entry, const unsigned char **at, const unsigned char *end, d2c_error *err)
{
    const unsigned char *record = *at;
    size_t rest = (size_t)(end - record), extra, comment;

    if (rest < DIRECTORY_SIZE || !has_magic(record, 1, 2))
        return fail(err, "Its directory has fewer entries than it says.");
    entry->flags = (unsigned)get(record + 8, 2);
    entry->method = (unsigned)get(record + 10, 2);
    entry->crc = (uint32_t)get(record + 16, 4);
    entry->packed = get(record + 20, 4);
    entry->size = get(record + 24, 4);
    entry->header = get(record + 42, 4);
    entry->name = (const char *)record + DIRECTORY_SIZE;
    entry->name_length = get(record + 28, 2);
    extra = get(record + 30, 2);
    comment = get(record + 32, 2);
    if (entry->name_length + extra + comment > rest - DIRECTORY_SIZE)
        return fail(err, "An entry of its directory is too long.");
    *at = record + DIRECTORY_SIZE + entry->name_length + extra + comment;
    return read_extra(entry, record + DIRECTORY_SIZE + entry->name_length, extra, err);
}

/* Orders bytes, a shorter text before what continues it. */
static int
compare_texts(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);

    return order != 0 ? order : a_length < b_length ? -1 : a_length > b_length;
}

static int
compare_entries(const void *a, const void *b)
{
    const d2c_zip_entry *x = a, *y = b;

    return compare_texts(x->name, x->name_length, y->name, y->name_length);
}

static d2c_status
read_directory(d2c_zip *zip, const directory *d, d2c_error *err)
{
    const unsigned char *at = zip->bytes + d->offset, *end = at + d->size;
    int i;

    zip->directory = (size_t)d->offset;
    zip->entry = calloc((size_t)d->count + 1, sizeof zip->entry[0]);
    if (zip->entry == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    zip->count = (int)d->count;
    for (i = 0; i < zip->count; i++)
        D2C_TRY(read_entry(&zip->entry[i], &at, end, err));
    qsort(zip->entry, (size_t)zip->count, sizeof zip->entry[0], compare_entries);
    for (i = 1; i < zip->count; i++)
        if (compare_entries(&zip->entry[i - 1], &zip->entry[i]) == 0)
            return fail_entry(err, &zip->entry[i], "occurs twice");
    return D2C_OK;
}

d2c_status
d2c_zip_open(d2c_zip *zip, const void *bytes, size_t length, d2c_error *err)
{
    d2c_status status;
    directory d;
    size_t end;

    *zip = (d2c_zip){.bytes = bytes, .length = length};
    D2C_TRY(find_end(&end, zip, err));
    D2C_TRY(read_end(&d, zip, end, err));
    status = read_directory(zip, &d, err);
    if (status != D2C_OK)
        d2c_zip_close(zip);
    return status;
}

void
d2c_zip_close(d2c_zip *zip)
{
    free(zip->entry);
    memset(zip, 0, sizeof *zip);
}

/* How the entry's name compares with the text folder + name. */
static int
compare_with(const d2c_zip_entry *entry, const char *folder, size_t folder_length, const char *name,
             size_t name_length)
{
    size_t front = entry->name_length < folder_length ? entry->name_length : folder_length;
    int order = compare_texts(entry->name, front, folder, folder_length);

    if (order != 0)
        return order;
    return compare_texts(entry->name + front, entry->name_length - front, name, name_length);
}

const d2c_zip_entry *
d2c_zip_find(const d2c_zip *zip, const char *folder, size_t folder_length, const char *name,
             size_t name_length)
{
    int low = 0, high = zip->count;

    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = compare_with(&zip->entry[middle], folder, folder_length, name, name_length);

        if (order == 0)
            return &zip->entry[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

d2c_status
d2c_zip_data(const unsigned char **data, const d2c_zip *zip, const d2c_zip_entry *entry, d2c_error *err)
{
    const unsigned char *local;
    size_t before, skip;

    if (entry->method != 0 || entry->packed != entry->size)
        return fail_entry(err, entry, "is compressed, which torch.save never does");
    if (entry->flags & 1)
        return fail_entry(err, entry, "is encrypted");
    if (entry->header > zip->directory || zip->directory - entry->header < LOCAL_SIZE)
        return fail_entry(err, entry, "lies outside the file");
    local = zip->bytes + entry->header;
    before = zip->directory - (size_t)entry->header - LOCAL_SIZE; /* bytes before the directory */
    if (!has_magic(local, 3, 4))
        return fail_entry(err, entry, "is not where the directory says");
    skip = get(local + 26, 2) + get(local + 28, 2);
    if (skip > before || entry->size > before - skip)
        return fail_entry(err, entry, "lies outside the file");
    if (get(local + 26, 2) != entry->name_length ||
        memcmp(local + LOCAL_SIZE, entry->name, entry->name_length) != 0)
        return fail_entry(err, entry, "has another name in its own header");
    *data = local + LOCAL_SIZE + skip;
    return D2C_OK;
}

d2c_status
d2c_zip_data_checked(const unsigned char **data, const d2c_zip *zip, const d2c_zip_entry *entry,
                     d2c_error *err)
{
    D2C_TRY(d2c_zip_data(data, zip, entry, err));
    if ((uint32_t)crc32_z(0, *data, (z_size_t)entry->size) != entry->crc)
        return fail_entry(err, entry, "has a wrong checksum");
    return D2C_OK;
}
