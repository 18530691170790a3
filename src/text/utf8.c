/* utf8.c: checking texts (utf8.h). */
#include "text/utf8.h"

#include <string.h>
#include <utf8proc.h>

#define MAX_MARKS 256

d2c_status
d2c_utf8_check(const char *text, size_t limit, d2c_error *err)
{
    size_t length = strlen(text), at = 0;
    utf8proc_int32_t c;

    if (length > limit) {
        d2c_fail(err, D2C_TOO_LARGE, "text of %zu bytes is too long", length);
        d2c_detail(err, "The limit is %zu bytes.", limit);
        return D2C_TOO_LARGE;
    }
    while (at < length) {
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &c);

        if (n <= 0) {
            d2c_fail(err, D2C_BAD_DATA, "text is not valid UTF-8");
            d2c_detail(err, "Byte %zu (0x%02x) does not continue or start a character.", at,
                       (unsigned char)text[at]);
            return D2C_BAD_DATA;
        }
        at += (size_t)n;
    }
    return D2C_OK;
}

d2c_status
d2c_utf8_check_marks(const uint8_t *text, size_t length, d2c_error *err)
{
    size_t at = 0;
    int marks = 0;

    while (at < length) {
        utf8proc_int32_t c;

        at += (size_t)utf8proc_iterate(text + at, (utf8proc_ssize_t)(length - at), &c);
        marks = utf8proc_get_property(c)->combining_class != 0 ? marks + 1 : 0;
        if (marks > MAX_MARKS) {
            d2c_fail(err, D2C_BAD_DATA, "text has more than %d combining marks in a row", MAX_MARKS);
            d2c_detail(err, "The last of them is U+%04X.", (unsigned)c);
            return D2C_BAD_DATA;
        }
    }
    return D2C_OK;
}
