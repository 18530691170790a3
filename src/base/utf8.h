/* utf8.h: whether bytes from a file are text that can be shown. */
#ifndef D2C_BASE_UTF8_H
#define D2C_BASE_UTF8_H

#include <stddef.h>

/* Whether the bytes are valid UTF-8 without zero characters. */
int d2c_is_utf8(const void *bytes, size_t length);

#endif
