/*
 * sentencepiece_model.c: reads a spiece.model: a protobuf message of google/sentencepiece's sentencepiece_model.proto.
 *
 * Field numbers stand in the enums.  Fields that change nothing here are skipped; what would change the pieces and is
 * not implemented is D2C_UNSUPPORTED.
 */
#include "text/sentencepiece_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define MAX_FILE_BYTES ((size_t)64 << 20)
#define MAX_PIECE_BYTES                                                                                      \
    512                  /* bounds the time of a text's search; the library's trainer makes 16 characters */
#define MAX_SPECIALS 256 /* T5 has three */

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum { TRAINER_MODEL_TYPE = 3, TRAINER_SPACE_AS_SUFFIX = 24, TRAINER_BYTE_FALLBACK = 35 };
enum { NORMALIZER_CHARSMAP = 2, NORMALIZER_PREFIX = 3, NORMALIZER_TRIM = 4, NORMALIZER_ESCAPE = 5 };
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };
enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };
#define MODEL_UNIGRAM 1

/* ---- protobuf ------------------------------------------------------------------------------------------------------ */

typedef struct field {
    uint64_t number;
    int wire;
    uint64_t value;  /* of a varint, or the bits of a fixed one */
    d2c_bytes bytes; /* of WIRE_BYTES */
} field;

static int
take(uint64_t *value, d2c_bytes *from, size_t length)
{
    size_t i;

    if (from->length < length)
        return 0;
    *value = 0;
    for (i = 0; i < length; i++)
        *value |= (uint64_t)from->at[i] << (8 * i);
    from->at += length;
    from->length -= length;
    return 1;
}

static int
take_varint(uint64_t *value, d2c_bytes *from)
{
    uint64_t byte;
    int shift;

    *value = 0;
    for (shift = 0; shift < 64; shift += 7) {
        if (!take(&byte, from, 1))
            return 0;
        *value |= (byte & 0x7f) << shift;
        if (byte < 0x80)
            return 1;
    }
    return 0;
}

/* The next field of the message; 0 when it is damaged. */
static int
take_field(field *f, d2c_bytes *from)
{
    uint64_t key;

    if (!take_varint(&key, from))
        return 0;
    f->number = key >> 3;
    f->wire = (int)(key & 7);
    switch (f->wire) {
    case WIRE_VARINT:
        return take_varint(&f->value, from);
    case WIRE_FIXED64:
        return take(&f->value, from, 8);
    case WIRE_FIXED32:
        return take(&f->value, from, 4);
    case WIRE_BYTES:
        if (!take_varint(&f->value, from) || f->value > from->length)
            return 0;
        f->bytes = (d2c_bytes){from->at, (size_t)f->value};
        from->at += f->value;
        from->length -= (size_t)f->value;
        return 1;
    default:
        return 0;
    }
}

static int
is(const field *f, uint64_t number, int wire)
{
    return f->number == number && f->wire == wire;
}

static d2c_status
fail_damaged(d2c_error *err, const char *where)
{
    return d2c_fail(err, D2C_BAD_MODEL, "%s is not a valid protobuf message", where);
}

/* ---- pieces -------------------------------------------------------------------------------------------------------- */

int
d2c_bytes_compare(d2c_bytes a, d2c_bytes b)
{
    int order = memcmp(a.at, b.at, a.length < b.length ? a.length : b.length);

    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

static int
compare_pieces(const void *a, const void *b)
{
    return d2c_bytes_compare(((const d2c_piece *)a)->text, ((const d2c_piece *)b)->text);
}

static d2c_status
read_piece(d2c_piece *piece, uint64_t *type, d2c_bytes message, d2c_error *err)
{
    uint32_t bits = 0;
    field f;

    *type = TYPE_NORMAL;
    piece->text = (d2c_bytes){message.at, 0};
    while (message.length > 0) {
        if (!take_field(&f, &message))
            return fail_damaged(err, "a piece");
        if (is(&f, PIECE_TEXT, WIRE_BYTES))
            piece->text = f.bytes;
        else if (is(&f, PIECE_SCORE, WIRE_FIXED32))
            bits = (uint32_t)f.value;
        else if (is(&f, PIECE_TYPE, WIRE_VARINT))
            *type = f.value;
    }
    memcpy(&piece->score, &bits, sizeof bits);
    if (piece->text.length == 0 || piece->text.length > MAX_PIECE_BYTES)
        return d2c_fail(err, D2C_BAD_MODEL, "piece %d has %zu bytes", piece->id, piece->text.length);
    return isfinite(piece->score)
               ? D2C_OK
               : d2c_fail(err, D2C_BAD_MODEL, "the score of piece %d is not finite", piece->id);
}

static int
hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* "<0x0A>" stands for that byte. */
static d2c_status
add_byte(d2c_sentencepiece *t, const d2c_piece *piece, d2c_error *err)
{
    const uint8_t *text = piece->text.at;

    if (piece->text.length != 6 || memcmp(text, "<0x", 3) != 0 || hex_digit(text[3]) < 0 ||
        hex_digit(text[4]) < 0 || text[5] != '>')
        return d2c_fail(err, D2C_BAD_MODEL, "piece %d names no byte", piece->id);
    t->byte_id[16 * hex_digit(text[3]) + hex_digit(text[4])] = piece->id;
    return D2C_OK;
}

static d2c_status
add_piece(d2c_sentencepiece *t, d2c_bytes message, d2c_error *err)
{
    d2c_piece piece = {.id = t->count++};
    uint64_t type;

    D2C_TRY(read_piece(&piece, &type, message, err));
    switch (type) {
    case TYPE_NORMAL:
        if (t->pieces == 0 || piece.score < t->lowest)
            t->lowest = piece.score;
        t->piece[t->pieces++] = piece;
        return D2C_OK;
    case TYPE_UNKNOWN:
        if (t->unknown >= 0)
            return d2c_fail(err, D2C_BAD_MODEL, "piece %d is a second unknown piece", piece.id);
        t->unknown = piece.id;
        /* fall through */
    case TYPE_CONTROL:
        if (t->specials == MAX_SPECIALS)
            return d2c_fail(err, D2C_UNSUPPORTED, "more than %d control pieces are not supported",
                            MAX_SPECIALS);
        t->special[t->specials++] = piece;
        return D2C_OK;
    case TYPE_BYTE:
        return add_byte(t, &piece, err);
    case TYPE_UNUSED:
        return D2C_OK;
    default:
        return d2c_fail(err, D2C_UNSUPPORTED, "piece %d is of type %llu, which is not supported", piece.id,
                        (unsigned long long)type);
    }
}

/* Room for as many pieces as the file has. */
static d2c_status
allocate_pieces(d2c_sentencepiece *t, d2c_bytes file, d2c_error *err)
{
    size_t count = 0;
    field f;

    while (file.length > 0) {
        if (!take_field(&f, &file))
            return fail_damaged(err, "the file");
        count += is(&f, MODEL_PIECE, WIRE_BYTES);
    }
    if (count == 0)
        return d2c_fail(err, D2C_BAD_MODEL, "the file has no pieces");
    t->piece = malloc(count * sizeof *t->piece);
    t->special = malloc(count * sizeof *t->special);
    return t->piece != NULL && t->special != NULL ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* ---- settings ------------------------------------------------------------------------------------------------------ */

static d2c_status
read_trainer(d2c_sentencepiece *t, d2c_bytes message, d2c_error *err)
{
    field f;

    while (message.length > 0) {
        if (!take_field(&f, &message))
            return fail_damaged(err, "trainer_spec");
        if (is(&f, TRAINER_MODEL_TYPE, WIRE_VARINT) && f.value != MODEL_UNIGRAM)
            return d2c_fail(err, D2C_UNSUPPORTED, "the model is not a unigram model");
        if (is(&f, TRAINER_SPACE_AS_SUFFIX, WIRE_VARINT) && f.value != 0)
            return d2c_fail(err, D2C_UNSUPPORTED, "\"treat_whitespace_as_suffix\" is not supported");
        if (is(&f, TRAINER_BYTE_FALLBACK, WIRE_VARINT))
            t->byte_fallback = f.value != 0;
    }
    return D2C_OK;
}

/* The table: the trie's size, its units, and the texts that they lead to. */
static d2c_status
read_charsmap(d2c_sentencepiece *t, d2c_bytes map, d2c_error *err)
{
    uint64_t size;

    if (map.length == 0)
        return D2C_OK;
    if (!take(&size, &map, 4) || size % 4 != 0 || size == 0 || size >= map.length)
        return d2c_fail(err, D2C_BAD_MODEL, "the normalisation table has no valid size");
    t->trie = (d2c_bytes){map.at, (size_t)size};
    t->replacement = (d2c_bytes){map.at + size, map.length - (size_t)size};
    return D2C_OK;
}

static d2c_status
read_normalizer(d2c_sentencepiece *t, d2c_bytes message, d2c_error *err)
{
    field f;

    while (message.length > 0) {
        if (!take_field(&f, &message))
            return fail_damaged(err, "normalizer_spec");
        if (is(&f, NORMALIZER_CHARSMAP, WIRE_BYTES))
            D2C_TRY(read_charsmap(t, f.bytes, err));
        else if (is(&f, NORMALIZER_PREFIX, WIRE_VARINT))
            t->dummy_prefix = f.value != 0;
        else if (is(&f, NORMALIZER_TRIM, WIRE_VARINT))
            t->trim_spaces = f.value != 0;
        else if (is(&f, NORMALIZER_ESCAPE, WIRE_VARINT))
            t->escape_spaces = f.value != 0;
    }
    return D2C_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------------------- */

static d2c_status
check_pieces(d2c_sentencepiece *t, d2c_error *err)
{
    static const d2c_bytes end = {(const uint8_t *)"</s>", 4};
    int i;

    t->end = -1;
    for (i = 0; i < t->specials; i++)
        if (t->special[i].id != t->unknown && d2c_bytes_compare(t->special[i].text, end) == 0)
            t->end = t->special[i].id;
    if (t->unknown < 0 || t->end < 0)
        return d2c_fail(err, D2C_BAD_MODEL, "the file has no %s piece",
                        t->unknown < 0 ? "unknown" : "control \"</s>\"");
    qsort(t->piece, (size_t)t->pieces, sizeof *t->piece, compare_pieces);
    for (i = 1; i < t->pieces; i++)
        if (d2c_bytes_compare(t->piece[i - 1].text, t->piece[i].text) == 0)
            return d2c_fail(err, D2C_BAD_MODEL, "pieces %d and %d are the same", t->piece[i - 1].id,
                            t->piece[i].id);
    for (i = 0; i < 256 && t->byte_fallback; i++)
        if (t->byte_id[i] < 0)
            return d2c_fail(err, D2C_BAD_MODEL, "the file has no piece for byte 0x%02X", (unsigned)i);
    return D2C_OK;
}

static d2c_status
read_message(d2c_sentencepiece *t, d2c_bytes file, d2c_error *err)
{
    field f;

    t->unknown = -1;
    t->dummy_prefix = t->trim_spaces = t->escape_spaces = 1;
    memset(t->byte_id, 0xff, sizeof t->byte_id);
    D2C_TRY(allocate_pieces(t, file, err));
    while (file.length > 0) {
        if (!take_field(&f, &file))
            return fail_damaged(err, "the file");
        if (is(&f, MODEL_PIECE, WIRE_BYTES))
            D2C_TRY(add_piece(t, f.bytes, err));
        else if (is(&f, MODEL_TRAINER, WIRE_BYTES))
            D2C_TRY(read_trainer(t, f.bytes, err));
        else if (is(&f, MODEL_NORMALIZER, WIRE_BYTES))
            D2C_TRY(read_normalizer(t, f.bytes, err));
    }
    return check_pieces(t, err);
}

d2c_status
d2c_sentencepiece_read(d2c_sentencepiece *tokenizer, const char *path, d2c_error *err)
{
    d2c_status status;
    size_t length;

    D2C_TRY(d2c_file_read(&tokenizer->file, &length, path, MAX_FILE_BYTES, err));
    status = read_message(tokenizer, (d2c_bytes){tokenizer->file, length}, err);
    if (status == D2C_BAD_MODEL || status == D2C_UNSUPPORTED)
        d2c_error_prefix(err, "\"%s\"", path);
    return status;
}
