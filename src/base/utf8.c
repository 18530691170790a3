/* utf8.c: checking text by utf8proc. */
#include "base/utf8.h"

#include <utf8proc.h>

int
d2c_is_utf8(const void *bytes, size_t length)
{
    const utf8proc_uint8_t *at = bytes;

    while (length > 0) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(at, (utf8proc_ssize_t)length, &c);

        if (n <= 0 || c == 0)
            return 0;
        at += n;
        length -= (size_t)n;
    }
    return 1;
}
