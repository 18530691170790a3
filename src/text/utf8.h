/* utf8.h: whether bytes are text. */
#ifndef D2C_TEXT_UTF8_H
#define D2C_TEXT_UTF8_H

#include <stddef.h>

#include "base/status.h"

/* D2C_BAD_DATA, with the place, unless the text is UTF-8; D2C_TOO_LARGE over the limit. */
d2c_status d2c_utf8_check(const char *text, size_t limit, d2c_error *err);

#endif
