/* font.h: a built-in bitmap font for captions. */
#ifndef D2C_IMAGE_FONT_H
#define D2C_IMAGE_FONT_H

#include <stdint.h>

#define D2C_FONT_WIDTH 5
#define D2C_FONT_HEIGHT 7
#define D2C_FONT_ADVANCE 6 /* from one character to the next */

/* Seven rows of five bits, the leftmost pixel highest; a question mark for what is not printable ASCII. */
const uint8_t *d2c_font_glyph(unsigned char character);

#endif
