/*
 * wordpiece.c: BERT's tokenizer on utf8proc's tables.
 *
 * Follows the rules of huggingface/tokenizers (BertNormalizer, BertPreTokenizer, WordPiece).  Its Unicode tables are
 * older than utf8proc's, so marks and punctuation that Unicode 9 and later added may be split differently; every
 * other character comes out the same.
 */
#include "text/wordpiece.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/file.h"
#include "text/ids.h"
#include "text/utf8.h"

#define MAX_VOCABULARY_BYTES ((size_t)64 << 20)
#define MAX_TEXT_BYTES ((size_t)64 << 20)
#define MAX_WORD_CHARACTERS 100 /* a longer word is unknown as a whole */
#define SPECIALS 5

typedef struct entry {
    const char *token;
    size_t length;
    int32_t id;
} entry;

struct d2c_wordpiece {
    char *text;   /* vocab.txt; the entries point into it */
    entry *entry; /* sorted by token, each once */
    size_t count;
    int lines; /* of vocab.txt */
    int lower_case;
    int32_t cls, sep, unknown;
};

/* Tokens that are taken as they stand in a text, before anything is split; only those the vocabulary has. */
static const char *const specials[SPECIALS] = {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"};

static int
compare_tokens(const char *a, size_t a_length, const char *b, size_t b_length)
{
    int order = memcmp(a, b, a_length < b_length ? a_length : b_length);

    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

static int
compare_entries(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    int order = compare_tokens(x->token, x->length, y->token, y->length);

    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

/* The token's id, or -1. */
static int32_t
lookup(const d2c_wordpiece *tokenizer, const char *token, size_t length)
{
    size_t low = 0, high = tokenizer->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const entry *e = &tokenizer->entry[middle];
        int order = compare_tokens(token, length, e->token, e->length);

        if (order == 0)
            return e->id;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* One entry a line; the line's number is the id. */
static void
split_lines(d2c_wordpiece *tokenizer, size_t length)
{
    const char *at = tokenizer->text, *end = tokenizer->text + length;

    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline != NULL ? newline : end;
        entry *e = &tokenizer->entry[tokenizer->count];

        e->token = at;
        e->length = (size_t)(stop - at);
        if (e->length > 0 && stop[-1] == '\r')
            e->length--;
        e->id = tokenizer->lines++;
        tokenizer->count++;
        at = stop + 1;
    }
}

/* Sorts the entries; of a token that stands on several lines the last one counts. */
static void
sort_entries(d2c_wordpiece *tokenizer)
{
    entry *e = tokenizer->entry;
    size_t i, kept = 0;

    qsort(e, tokenizer->count, sizeof *e, compare_entries);
    for (i = 0; i < tokenizer->count; i++) {
        if (kept > 0 && compare_tokens(e[kept - 1].token, e[kept - 1].length, e[i].token, e[i].length) == 0)
            kept--;
        e[kept++] = e[i];
    }
    tokenizer->count = kept;
}

static d2c_status
special_id(int32_t *id, const d2c_wordpiece *tokenizer, const char *token, const char *path, d2c_error *err)
{
    *id = lookup(tokenizer, token, strlen(token));
    if (*id >= 0)
        return D2C_OK;
    return d2c_fail(err, D2C_BAD_MODEL, "vocabulary \"%s\" lacks the token %s", path, token);
}

static d2c_status
read_vocabulary(d2c_wordpiece *tokenizer, const char *path, d2c_error *err)
{
    size_t length, lines = 1, i;
    uint8_t *bytes;

    D2C_TRY(d2c_file_read(&bytes, &length, path, MAX_VOCABULARY_BYTES, err));
    tokenizer->text = (char *)bytes;
    for (i = 0; i < length; i++)
        lines += bytes[i] == '\n';
    tokenizer->entry = malloc(lines * sizeof *tokenizer->entry);
    if (tokenizer->entry == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    split_lines(tokenizer, length);
    sort_entries(tokenizer);
    D2C_TRY(special_id(&tokenizer->cls, tokenizer, "[CLS]", path, err));
    D2C_TRY(special_id(&tokenizer->sep, tokenizer, "[SEP]", path, err));
    return special_id(&tokenizer->unknown, tokenizer, "[UNK]", path, err);
}

d2c_status
d2c_wordpiece_open(d2c_wordpiece **tokenizer, const char *path, int lower_case, d2c_error *err)
{
    d2c_wordpiece *t = calloc(1, sizeof *t);
    d2c_status status;

    *tokenizer = NULL;
    if (t == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    t->lower_case = lower_case;
    status = read_vocabulary(t, path, err);
    if (status != D2C_OK) {
        d2c_wordpiece_close(t);
        return status;
    }
    *tokenizer = t;
    return D2C_OK;
}

void
d2c_wordpiece_close(d2c_wordpiece *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->text);
    free(tokenizer->entry);
    free(tokenizer);
}

int
d2c_wordpiece_size(const d2c_wordpiece *tokenizer)
{
    return tokenizer->lines;
}

typedef struct output {
    const d2c_wordpiece *tokenizer;
    d2c_ids ids;
} output;

static int
is_space(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* Characters that the cleaning takes out: controls, formats, private use, and the replacement character. */
static int
is_removed(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return c == 0xFFFD || category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

/* ASCII's symbols count as punctuation too. */
static int
is_punctuation(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return (category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO) ||
           (c < 128 && category >= UTF8PROC_CATEGORY_SM && category <= UTF8PROC_CATEGORY_SO);
}

/* The blocks that stand alone; Hangul, Hiragana and Katakana do not. */
static int
is_ideograph(int32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
           (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) ||
           (c >= 0x2B920 && c <= 0x2CEAF) || (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Copies UTF-8 without what is removed, white space as blanks, blanks around ideographs; `to` holds three times the
 * length. Returns the new length. */
static size_t
clean(uint8_t *to, const uint8_t *from, size_t length)
{
    uint8_t *start = to;
    int32_t c;

    while (length > 0) {
        utf8proc_ssize_t n = utf8proc_iterate(from, (utf8proc_ssize_t)length, &c);

        if (is_space(c))
            *to++ = ' ';
        else if (!is_removed(c)) {
            if (is_ideograph(c))
                *to++ = ' ';
            memcpy(to, from, (size_t)n);
            to += n;
            if (is_ideograph(c))
                *to++ = ' ';
        }
        from += n;
        length -= (size_t)n;
    }
    return (size_t)(to - start);
}

/* Drops accents (what canonical decomposition makes marks of) and turns to lower case; returns the new count. */
static size_t
fold(int32_t *c, size_t count)
{
    size_t i, kept = 0;

    for (i = 0; i < count; i++)
        if (utf8proc_category(c[i]) != UTF8PROC_CATEGORY_MN)
            c[kept++] = utf8proc_tolower(c[i]);
    return kept;
}

/* The longest piece of the word [from, to) that the vocabulary has; "##" stands before all but the first.  bytes holds
 * "##" and the word in UTF-8, end[i] where its character i ends.  Sets *to and returns the id, or -1. */
static int32_t
longest_piece(const d2c_wordpiece *tokenizer, char *bytes, const size_t *end, int from, int *to)
{
    size_t start = from > 0 ? end[from - 1] : 2;
    char *first = bytes + start;
    char saved[2] = {0};
    int32_t id = -1;

    if (from > 0) { /* the prefix takes the place of what was already cut off */
        first -= 2;
        memcpy(saved, first, 2);
        memcpy(first, "##", 2);
    }
    for (; *to > from && id < 0; (*to)--)
        id = lookup(tokenizer, first, (size_t)(bytes + end[*to - 1] - first));
    (*to)++;
    if (from > 0)
        memcpy(first, saved, 2);
    return id;
}

/* A word becomes its pieces, or [UNK] when any part of it is in no piece. */
static void
emit_word(output *out, const int32_t *word, size_t length)
{
    char bytes[2 + 4 * MAX_WORD_CHARACTERS];
    size_t end[MAX_WORD_CHARACTERS], used = 2;
    int32_t pieces[MAX_WORD_CHARACTERS];
    int from, to, count = 0, characters = (int)length, i;

    if (length > MAX_WORD_CHARACTERS) {
        d2c_ids_add(&out->ids, out->tokenizer->unknown);
        return;
    }
    for (i = 0; i < characters; i++) {
        used += (size_t)utf8proc_encode_char(word[i], (utf8proc_uint8_t *)bytes + used);
        end[i] = used;
    }
    for (from = 0; from < characters; from = to) {
        to = characters;
        pieces[count] = longest_piece(out->tokenizer, bytes, end, from, &to);
        if (pieces[count++] < 0) {
            d2c_ids_add(&out->ids, out->tokenizer->unknown);
            return;
        }
    }
    for (i = 0; i < count; i++)
        d2c_ids_add(&out->ids, pieces[i]);
}

/* Splits at white space and around every punctuation character. */
static void
emit_words(output *out, const int32_t *c, size_t count)
{
    size_t i, start = 0;

    for (i = 0; i <= count && !d2c_ids_full(&out->ids); i++) {
        int space = i == count || is_space(c[i]), alone = !space && is_punctuation(c[i]);

        if (!space && !alone)
            continue;
        if (i > start)
            emit_word(out, c + start, i - start);
        if (alone)
            emit_word(out, c + i, 1);
        start = i + 1;
    }
}

/* Text between special tokens. */
static d2c_status
encode_plain(output *out, const uint8_t *text, size_t length, d2c_error *err)
{
    const utf8proc_option_t option = out->tokenizer->lower_case ? UTF8PROC_DECOMPOSE : 0;
    uint8_t *cleaned = malloc(3 * length + 1);
    int32_t *c = NULL;
    utf8proc_ssize_t count = 0, room;
    size_t used;
    d2c_status status;

    if (cleaned == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    used = clean(cleaned, text, length);
    status = option != 0 ? d2c_utf8_check_marks(cleaned, used, err) : D2C_OK;
    if (status == D2C_OK) {
        room = utf8proc_decompose(cleaned, (utf8proc_ssize_t)used, NULL, 0, option);
        c = room >= 0 ? malloc(((size_t)room + 1) * sizeof *c) : NULL;
        if (c != NULL)
            count = utf8proc_decompose(cleaned, (utf8proc_ssize_t)used, c, room, option);
        if (c == NULL || count < 0)
            status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    free(cleaned);
    if (status != D2C_OK) {
        free(c);
        return status;
    }
    emit_words(out, c, out->tokenizer->lower_case ? fold(c, (size_t)count) : (size_t)count);
    free(c);
    return D2C_OK;
}

/* Whether a special token stands at `text`; its id and length. */
static int
special_at(int32_t *id, size_t *length, const d2c_wordpiece *tokenizer, const char *text)
{
    int i;

    for (i = 0; i < SPECIALS; i++) {
        *length = strlen(specials[i]);
        if (strncmp(text, specials[i], *length) == 0) {
            *id = lookup(tokenizer, specials[i], *length);
            return *id >= 0;
        }
    }
    return 0;
}

static d2c_status
encode_text(output *out, const char *text, d2c_error *err)
{
    const char *plain = text;
    size_t length;
    int32_t id;

    for (; *text != '\0' && !d2c_ids_full(&out->ids); text++) {
        if (*text != '[' || !special_at(&id, &length, out->tokenizer, text))
            continue;
        D2C_TRY(encode_plain(out, (const uint8_t *)plain, (size_t)(text - plain), err));
        d2c_ids_add(&out->ids, id);
        plain = text + length;
        text = plain - 1;
    }
    if (d2c_ids_full(&out->ids))
        return D2C_OK;
    return encode_plain(out, (const uint8_t *)plain, (size_t)(text - plain), err);
}

d2c_status
d2c_wordpiece_encode(const d2c_wordpiece *tokenizer, int32_t *ids, int *count, int capacity, const char *text,
                     d2c_error *err)
{
    output out = {tokenizer, {ids, 0, capacity - 1}};

    *count = 0;
    if (capacity < 2)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "at least two tokens are needed, for [CLS] and [SEP]");
    D2C_TRY(d2c_utf8_check(text, MAX_TEXT_BYTES, err));
    d2c_ids_add(&out.ids, tokenizer->cls);
    D2C_TRY(encode_text(&out, text, err));
    *count = d2c_ids_end(&out.ids, tokenizer->sep);
    return D2C_OK;
}
