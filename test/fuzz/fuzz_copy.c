/*
 * fuzz_copy.c: any bytes as binary COPY data of six columns, in pieces, and its rows through the decoder.
 *
 *    make fuzz && build/fuzz/fuzz_copy CORPUS test/golden/copy/seeds
 */
#include <stdlib.h>

#include "train/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
    static const d2c_row_shape shape = {.size = 4,
                                        .channels = 1,
                                        .classes = 3,
                                        .text_tokens = 2,
                                        .text_width = 2,
                                        .visual_tokens = 2,
                                        .visual_width = 1};
    size_t piece = length > 0 ? bytes[length - 1] + 1u : 1, at;
    d2c_field fields[D2C_TABLE_COLUMNS];
    d2c_status status = D2C_OK;
    d2c_copy_reader reader;
    d2c_row row;
    d2c_error err;
    int found;

    if (d2c_row_allocate(&row, &shape, &err) != D2C_OK)
        abort();
    d2c_copy_open(&reader, D2C_TABLE_COLUMNS);
    for (at = 0; at < length && status == D2C_OK; at += piece) {
        status = d2c_copy_feed(&reader, bytes + at, length - at < piece ? length - at : piece, &err);
        for (found = 1; status == D2C_OK && found;) {
            status = d2c_copy_row(&reader, fields, &found, &err);
            if (status == D2C_OK && found)
                d2c_row_decode(&row, &shape, fields, &err);
        }
    }
    d2c_copy_close(&reader);
    d2c_row_free(&row);
    return 0;
}
