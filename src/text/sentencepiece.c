/*
 * sentencepiece.c: unigram tokens of a text, as google/sentencepiece makes them: normalise by the file's table, then
 * the cut with the highest sum of scores.
 */
#include "text/sentencepiece.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/ids.h"
#include "text/sentencepiece_model.h"

#define MAX_TEXT_BYTES ((size_t)1 << 20)
#define MAX_NORMALISED_BYTES ((size_t)32 << 20)
#define MAX_RULE_BYTES 1024 /* of a rule's text and of its replacement; those of NFKC have less than 64 */
#define UNKNOWN_PENALTY 10.0f

static const d2c_bytes space_mark = {(const uint8_t *)"\xe2\x96\x81", 3}; /* U+2581 */

d2c_status
d2c_sentencepiece_open(d2c_sentencepiece **tokenizer, const char *path, int extra_ids, d2c_error *err)
{
    d2c_sentencepiece *t = calloc(1, sizeof *t);
    d2c_status status;

    *tokenizer = NULL;
    if (t == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    t->extra_ids = extra_ids;
    status = d2c_sentencepiece_read(t, path, err);
    if (status != D2C_OK) {
        d2c_sentencepiece_close(t);
        return status;
    }
    *tokenizer = t;
    return D2C_OK;
}

void
d2c_sentencepiece_close(d2c_sentencepiece *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->file);
    free(tokenizer->piece);
    free(tokenizer->special);
    free(tokenizer);
}

int
d2c_sentencepiece_size(const d2c_sentencepiece *tokenizer)
{
    return tokenizer->count + tokenizer->extra_ids;
}

/* ---- normalising --------------------------------------------------------------------------------------------------- */

/* Bytes that grow. */
typedef struct growing {
    uint8_t *at;
    size_t length, capacity;
} growing;

static d2c_status
append(growing *to, d2c_bytes bytes, d2c_error *err)
{
    size_t needed = to->length + bytes.length, capacity = 2 * needed;
    uint8_t *grown;

    if (needed > MAX_NORMALISED_BYTES)
        return d2c_fail(err, D2C_TOO_LARGE, "text of more than %zu bytes is too long", MAX_NORMALISED_BYTES);
    if (needed > to->capacity) {
        grown = realloc(to->at, capacity);
        if (grown == NULL)
            return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
        to->at = grown;
        to->capacity = capacity;
    }
    memcpy(to->at + to->length, bytes.at, bytes.length);
    to->length = needed;
    return D2C_OK;
}

/* A unit of the double array: a leaf holds a value; others a label, where their children begin, and if one is a leaf. */
static uint32_t
unit_at(d2c_bytes trie, uint32_t index)
{
    const uint8_t *p = trie.at + 4 * (size_t)index;

    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t
unit_offset(uint32_t unit)
{
    return unit >> 10 << ((unit & 1u << 9) >> 6);
}

/* The longest rule that the text begins with: its length, 0 for none, and where its replacement is. */
static size_t
longest_rule(uint32_t *value, d2c_bytes trie, d2c_bytes from)
{
    size_t units = trie.length / 4, most = from.length < MAX_RULE_BYTES ? from.length : MAX_RULE_BYTES;
    size_t longest = 0, i;
    uint32_t node, unit;

    if (units == 0)
        return 0;
    node = unit_offset(unit_at(trie, 0));
    for (i = 0; i < most; i++) {
        node ^= from.at[i];
        if (node >= units)
            break;
        unit = unit_at(trie, node);
        if ((unit & (1u << 31 | 0xff)) != from.at[i])
            break;
        node ^= unit_offset(unit);
        if (node >= units)
            break;
        if ((unit >> 8 & 1) != 0) {
            *value = unit_at(trie, node) & ~(1u << 31);
            longest = i + 1;
        }
    }
    return longest;
}

/* The length of the UTF-8 character that the text begins with, or 0. */
static size_t
character_length(d2c_bytes from)
{
    static const uint32_t first[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = from.at[0];
    size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0, i;
    uint32_t c = length == 1 ? lead : lead & (0x7fu >> length);

    if (length > from.length)
        return 0;
    for (i = 1; i < length; i++) {
        if (from.at[i] >> 6 != 2)
            return 0;
        c = c << 6 | (from.at[i] & 0x3f);
    }
    if (c < first[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    return length;
}

/* What the text begins with, and what becomes of it; returns the length of the former. */
static d2c_status
normalise_prefix(d2c_bytes *out, size_t *consumed, const d2c_sentencepiece *t, d2c_bytes from, d2c_error *err)
{
    uint32_t value = 0;
    const uint8_t *zero;

    *consumed = longest_rule(&value, t->trie, from);
    if (*consumed == 0) {
        *consumed = character_length(from);
        *out = (d2c_bytes){from.at, *consumed};
        if (*consumed == 0) {
            *out = (d2c_bytes){(const uint8_t *)"\xef\xbf\xbd", 3}; /* U+FFFD */
            *consumed = 1;
        }
        return D2C_OK;
    }
    out->at = t->replacement.at + value;
    out->length = value < t->replacement.length ? t->replacement.length - value : 0;
    if (out->length > MAX_RULE_BYTES)
        out->length = MAX_RULE_BYTES;
    zero = out->length > 0 ? memchr(out->at, 0, out->length) : NULL;
    if (zero == NULL)
        return d2c_fail(err, D2C_BAD_MODEL, "the tokenizer's normalisation table is damaged");
    out->length = (size_t)(zero - out->at);
    return D2C_OK;
}

static d2c_status
append_spaced(growing *to, const d2c_sentencepiece *t, d2c_bytes bytes, d2c_error *err)
{
    size_t i;

    for (i = 0; i < bytes.length; i++) {
        d2c_bytes one = {bytes.at + i, 1};

        D2C_TRY(append(to, bytes.at[i] == ' ' && t->escape_spaces ? space_mark : one, err));
    }
    return D2C_OK;
}

static void
skip(d2c_bytes *from, size_t length)
{
    from->at += length;
    from->length -= length;
}

/* What stands before the first character that is no space is dropped. */
static d2c_status
skip_spaces(d2c_bytes *from, const d2c_sentencepiece *t, d2c_error *err)
{
    size_t consumed;
    d2c_bytes piece;

    while (t->trim_spaces && from->length > 0) {
        D2C_TRY(normalise_prefix(&piece, &consumed, t, *from, err));
        if (piece.length != 1 || piece.at[0] != ' ')
            break;
        skip(from, consumed);
    }
    return D2C_OK;
}

static void
drop_spaces_at_end(growing *to, const d2c_sentencepiece *t)
{
    d2c_bytes mark = t->escape_spaces ? space_mark : (d2c_bytes){(const uint8_t *)" ", 1};

    while (t->trim_spaces && to->length >= mark.length &&
           memcmp(to->at + to->length - mark.length, mark.at, mark.length) == 0)
        to->length -= mark.length;
}

/* A run of spaces becomes one, none is left at the ends, and one comes first. */
static d2c_status
normalise(growing *to, const d2c_sentencepiece *t, d2c_bytes from, d2c_error *err)
{
    int after_space = t->trim_spaces;
    d2c_bytes piece;
    size_t consumed;

    D2C_TRY(skip_spaces(&from, t, err));
    if (from.length > 0 && t->dummy_prefix)
        D2C_TRY(append_spaced(to, t, (d2c_bytes){(const uint8_t *)" ", 1}, err));
    for (; from.length > 0; skip(&from, consumed)) {
        D2C_TRY(normalise_prefix(&piece, &consumed, t, from, err));
        while (after_space && piece.length > 0 && piece.at[0] == ' ')
            skip(&piece, 1);
        D2C_TRY(append_spaced(to, t, piece, err));
        if (piece.length > 0)
            after_space = t->trim_spaces && piece.at[piece.length - 1] == ' ';
    }
    drop_spaces_at_end(to, t);
    return D2C_OK;
}

/* ---- the best cut -------------------------------------------------------------------------------------------------- */

/* The best cut of the text up to a byte: its last piece. */
typedef struct cut {
    float score;
    int32_t start; /* -1: none yet */
    int32_t id;
    int32_t next; /* where the best cut of the whole text ends the piece that begins here */
} cut;

/* Of equal cuts the first counts. */
static void
offer(cut *at, float score, size_t start, int32_t id)
{
    if (at->start >= 0 && !(score > at->score))
        return;
    *at = (cut){score, (int32_t)start, id, 0};
}

/* Narrows [low, high) of the pieces that share `depth` bytes to those whose next byte is c. */
static void
narrow(int *low, int *high, const d2c_sentencepiece *t, size_t depth, int c)
{
    int bound[2], i;

    for (i = 0; i < 2; i++) { /* the first piece whose byte is at least c, then at least c + 1 */
        int from = *low, to = *high;

        while (from < to) {
            int middle = from + (to - from) / 2;
            d2c_bytes piece = t->piece[middle].text;

            if (piece.length > depth && piece.at[depth] >= c + i)
                to = middle;
            else
                from = middle + 1;
        }
        bound[i] = from;
    }
    *low = bound[0];
    *high = bound[1];
}

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Offers every piece that begins at `start`, and the unknown one for a character that is no piece itself. */
static size_t
extend(cut *best, const d2c_sentencepiece *t, d2c_bytes all, size_t start)
{
    size_t character = least("\1\1\1\1\1\1\1\1\1\1\1\1\2\2\3\4"[all.at[start] >> 4], all.length - start), end;
    int low = 0, high = t->pieces, is_piece = 0;

    for (end = start; end < all.length && low < high;) {
        narrow(&low, &high, t, end - start, all.at[end]);
        end++;
        if (low == high || t->piece[low].text.length != end - start)
            continue;
        offer(&best[end], t->piece[low].score + best[start].score, start, t->piece[low].id);
        is_piece |= end - start == character;
    }
    if (!is_piece)
        offer(&best[start + character], (t->lowest - UNKNOWN_PENALTY) + best[start].score, start, t->unknown);
    return character;
}

typedef struct output {
    const d2c_sentencepiece *tokenizer;
    d2c_ids ids;
} output;

/* What is unknown becomes its bytes where the model has them; otherwise a run of it becomes one piece. */
static void
emit_piece(output *out, int32_t id, d2c_bytes text, int after_unknown)
{
    const d2c_sentencepiece *t = out->tokenizer;
    size_t i;

    if (id == t->unknown && t->byte_fallback)
        for (i = 0; i < text.length; i++)
            d2c_ids_add(&out->ids, t->byte_id[text.at[i]]);
    else if (id != t->unknown || !after_unknown)
        d2c_ids_add(&out->ids, id);
}

static void
emit_cut(output *out, cut *best, d2c_bytes all)
{
    size_t start, end;
    int32_t last = -1;

    for (end = all.length; end > 0; end = start) {
        start = (size_t)best[end].start;
        best[start].next = (int32_t)end;
    }
    for (start = 0; start < all.length && !d2c_ids_full(&out->ids); start = end) {
        end = (size_t)best[start].next;
        emit_piece(out, best[end].id, (d2c_bytes){all.at + start, end - start},
                   last == out->tokenizer->unknown);
        last = best[end].id;
    }
}

static d2c_status
emit_best(output *out, d2c_bytes all, d2c_error *err)
{
    cut *best = malloc((all.length + 1) * sizeof *best);
    size_t i;

    if (best == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    for (i = 0; i <= all.length; i++)
        best[i] = (cut){0, -1, -1, 0};
    for (i = 0; i < all.length;)
        i += extend(best, out->tokenizer, all, i);
    emit_cut(out, best, all);
    free(best);
    return D2C_OK;
}

/* ---- a text -------------------------------------------------------------------------------------------------------- */

/* Text between special tokens. */
static d2c_status
encode_plain(output *out, d2c_bytes from, d2c_error *err)
{
    growing normalised = {0};
    d2c_status status = normalise(&normalised, out->tokenizer, from, err);

    if (status == D2C_OK)
        status = emit_best(out, (d2c_bytes){normalised.at, normalised.length}, err);
    free(normalised.at);
    return status;
}

/* Whether "<extra_id_n>" begins the text, n less than there are; its id and length. */
static int
extra_id_at(int32_t *id, size_t *length, const d2c_sentencepiece *t, d2c_bytes from)
{
    static const char start[] = "<extra_id_";
    const size_t begin = sizeof start - 1;
    size_t i;
    int n = 0;

    if (from.length < begin || memcmp(from.at, start, begin) != 0)
        return 0;
    for (i = begin; i < from.length && from.at[i] >= '0' && from.at[i] <= '9' && n < t->extra_ids; i++)
        n = 10 * n + from.at[i] - '0';
    *id = d2c_sentencepiece_size(t) - 1 - n;
    *length = i + 1;
    return i > begin && i < from.length && from.at[i] == '>' && n < t->extra_ids &&
           (from.at[begin] != '0' || i == begin + 1);
}

/* Whether a special token begins the text; its id and length. */
static int
special_at(int32_t *id, size_t *length, const d2c_sentencepiece *t, d2c_bytes from)
{
    int i;

    for (i = 0; i < t->specials; i++) {
        d2c_bytes name = t->special[i].text;

        if (name.length <= from.length && memcmp(name.at, from.at, name.length) == 0) {
            *id = t->special[i].id;
            *length = name.length;
            return 1;
        }
    }
    return extra_id_at(id, length, t, from);
}

static d2c_status
encode_text(output *out, d2c_bytes from, d2c_error *err)
{
    d2c_bytes plain = {from.at, 0};
    size_t length;
    int32_t id;

    while (from.length > 0 && !d2c_ids_full(&out->ids)) {
        if (!special_at(&id, &length, out->tokenizer, from)) {
            skip(&from, 1);
            plain.length++;
            continue;
        }
        D2C_TRY(encode_plain(out, plain, err));
        d2c_ids_add(&out->ids, id);
        skip(&from, length);
        plain = (d2c_bytes){from.at, 0};
    }
    return d2c_ids_full(&out->ids) ? D2C_OK : encode_plain(out, plain, err);
}

d2c_status
d2c_sentencepiece_encode(const d2c_sentencepiece *tokenizer, int32_t *ids, int *count, int capacity,
                         const char *text, d2c_error *err)
{
    output out = {tokenizer, {ids, 0, capacity - 1}};
    d2c_bytes all = {(const uint8_t *)text, strlen(text)};

    *count = 0;
    if (capacity < 1)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "at least one token is needed, for </s>");
    if (all.length > MAX_TEXT_BYTES) {
        d2c_fail(err, D2C_TOO_LARGE, "text of %zu bytes is too long", all.length);
        d2c_detail(err, "The limit is %zu bytes.", MAX_TEXT_BYTES);
        return D2C_TOO_LARGE;
    }
    D2C_TRY(encode_text(&out, all, err));
    *count = d2c_ids_end(&out.ids, tokenizer->end);
    return D2C_OK;
}
