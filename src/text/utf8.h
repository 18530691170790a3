/* utf8.h: whether bytes are text, and one that can be normalised. */
#ifndef D2C_TEXT_UTF8_H
#define D2C_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* D2C_BAD_DATA, with the place, unless the text is UTF-8; D2C_TOO_LARGE over the limit. */
d2c_status d2c_utf8_check(const char *text, size_t limit, d2c_error *err);

/* D2C_BAD_DATA where more than 256 combining marks follow one another in valid UTF-8; no language has more than a few, and
 * utf8proc's time to put them in order grows with the square of their number. */
d2c_status d2c_utf8_check_marks(const uint8_t *text, size_t length, d2c_error *err);

#endif
