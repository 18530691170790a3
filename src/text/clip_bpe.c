/* clip_bpe.c: CLIP's tokens of a text (clip_bpe.h), on utf8proc's tables. */
#include "text/clip_bpe.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/clip_bpe_model.h"
#include "text/ids.h"
#include "text/utf8.h"

#define MAX_TEXT_BYTES ((size_t)1 << 20)

static const char start_name[] = "<|startoftext|>", end_name[] = "<|endoftext|>";

d2c_status
d2c_clip_bpe_open(d2c_clip_bpe **tokenizer, const char *vocabulary_path, const char *merges_path,
                  d2c_error *err)
{
    d2c_clip_bpe *t = calloc(1, sizeof *t);
    d2c_status status;

    *tokenizer = NULL;
    if (t == NULL)
        return d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    status = d2c_clip_bpe_read(t, vocabulary_path, merges_path, err);
    if (status != D2C_OK) {
        d2c_clip_bpe_close(t);
        return status;
    }
    *tokenizer = t;
    return D2C_OK;
}

void
d2c_clip_bpe_close(d2c_clip_bpe *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->merge);
    free(tokenizer);
}

int
d2c_clip_bpe_size(const d2c_clip_bpe *tokenizer)
{
    return tokenizer->size;
}

typedef struct output {
    const d2c_clip_bpe *tokenizer;
    d2c_ids ids;
} output;

/* ---- merging a word ------------------------------------------------------------------------------------------------ */

/* A piece of the word: from a byte up to the next piece. */
typedef struct piece {
    int32_t id;
    int32_t before, next; /* pieces, by their first byte; -1: none */
    int gone;             /* it became part of the one before */
} piece;

/* A merge that was possible when it was found: the piece at `at` with its next. */
typedef struct candidate {
    int32_t rank, at, id;
} candidate;

/* The pieces of a word, and a heap of what may be merged: the first is the one to merge next. */
typedef struct word {
    const d2c_clip_bpe *tokenizer;
    piece *piece;
    candidate *heap;
    size_t candidates;
} word;

static int
comes_before(const candidate *a, const candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void
push(word *w, candidate c)
{
    size_t i = w->candidates++;

    for (; i > 0 && comes_before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static candidate
pop(word *w)
{
    candidate first = w->heap[0], last = w->heap[--w->candidates];
    size_t i = 0, child;

    while ((child = 2 * i + 1) < w->candidates) {
        if (child + 1 < w->candidates && comes_before(&w->heap[child + 1], &w->heap[child]))
            child++;
        if (!comes_before(&w->heap[child], &last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = last;
    return first;
}

static int
compare_merges(const void *a, const void *b)
{
    return d2c_merge_compare(a, b);
}

/* The merge of the piece at `at` with its next, or NULL. */
static const d2c_merge *
find_merge(const word *w, int32_t at)
{
    d2c_merge key;

    if (at < 0 || w->piece[at].gone || w->piece[at].next < 0)
        return NULL;
    key = (d2c_merge){.left = w->piece[at].id, .right = w->piece[w->piece[at].next].id};
    return bsearch(&key, w->tokenizer->merge, w->tokenizer->merges, sizeof key, compare_merges);
}

static void
consider(word *w, int32_t at)
{
    const d2c_merge *m = find_merge(w, at);

    if (m != NULL)
        push(w, (candidate){m->rank, at, m->id});
}

/* Merges, unless the pieces have changed since the candidate was found. */
static void
merge(word *w, candidate c)
{
    const d2c_merge *m = find_merge(w, c.at);
    piece *first = &w->piece[c.at];

    if (m == NULL || m->id != c.id)
        return;
    w->piece[first->next].gone = 1;
    first->id = c.id;
    first->next = w->piece[first->next].next;
    if (first->next >= 0)
        w->piece[first->next].before = c.at;
    consider(w, first->before);
    consider(w, c.at);
}

/* w has room for pieces of every byte, and for three candidates each: one at first, two for each merge. */
static void
emit_word(output *out, word *w, const uint8_t *bytes, size_t length)
{
    int32_t i, count = (int32_t)length;

    for (i = 0; i < count; i++)
        w->piece[i] =
            (piece){w->tokenizer->byte_id[i == count - 1][bytes[i]], i - 1, i + 1 < count ? i + 1 : -1, 0};
    w->candidates = 0;
    for (i = 0; i < count; i++)
        consider(w, i);
    while (w->candidates > 0)
        merge(w, pop(w));
    for (i = count > 0 ? 0 : -1; i >= 0; i = w->piece[i].next)
        d2c_ids_add(&out->ids, w->piece[i].id);
}

/* ---- splitting ----------------------------------------------------------------------------------------------------- */

static int
is_space(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return (c >= '\t' && c <= '\r') || c == 0x85 || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static int
is_letter(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

static int
is_number(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);

    return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

/* The length of the name when the characters begin with it, or 0. */
static size_t
begins_with(const int32_t *c, size_t count, const char *name)
{
    size_t i;

    for (i = 0; name[i] != '\0'; i++)
        if (i >= count || c[i] != name[i])
            return 0;
    return i;
}

/* The ending that is a word of its own, "'s" and its like; or 0. */
static size_t
contraction_length(const int32_t *c, size_t count)
{
    static const char *const endings[] = {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"};
    size_t length = 0, i;

    for (i = 0; length == 0 && i < sizeof endings / sizeof endings[0]; i++)
        length = begins_with(c, count, endings[i]);
    return length;
}

/* Characters of the first one's kind: letters, one number, or anything but white space. */
static size_t
run_length(const int32_t *c, size_t count)
{
    int letters = is_letter(c[0]);
    size_t i = 1;

    if (is_number(c[0]))
        return 1;
    while (i < count && is_letter(c[i]) == letters && (letters || (!is_number(c[i]) && !is_space(c[i]))))
        i++;
    return i;
}

/* The length of the word that comes next.  The name of a special token that became one by its lower case is split
 * again, into its letters and what is around them: at "<|" and "|>", *inside tells how much of it is left. */
static size_t
word_length(const int32_t *c, size_t count, size_t *inside)
{
    size_t length = 0;

    if (*inside == 0) {
        length = begins_with(c, count, start_name);
        *inside = length > 0 ? length : begins_with(c, count, end_name);
    }
    if (*inside > 0) {
        length = run_length(c, *inside);
        *inside -= length;
        return length;
    }
    length = contraction_length(c, count);
    return length > 0 ? length : run_length(c, count);
}

static size_t
encode_characters(uint8_t *bytes, const int32_t *c, size_t count)
{
    size_t used = 0, i;

    for (i = 0; i < count; i++)
        used += (size_t)utf8proc_encode_char(c[i], bytes + used);
    return used;
}

static void
emit_words(output *out, word *w, uint8_t *bytes, const int32_t *c, size_t count)
{
    size_t i = 0, inside = 0, length;

    while (i < count && !d2c_ids_full(&out->ids)) {
        if (is_space(c[i])) {
            i++;
            continue;
        }
        length = word_length(c + i, count - i, &inside);
        emit_word(out, w, bytes, encode_characters(bytes, c + i, length));
        i += length;
    }
}

/* ---- a text -------------------------------------------------------------------------------------------------------- */

/* Composes canonically and turns to lower case; *c is malloc'd.  Only of U+0130 come two characters. */
static d2c_status
normalise(int32_t **c, size_t *count, const uint8_t *text, size_t length, d2c_error *err)
{
    const utf8proc_option_t option = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    utf8proc_ssize_t room = utf8proc_decompose(text, (utf8proc_ssize_t)length, NULL, 0, option), made = -1, i;
    int32_t *from = room >= 0 ? malloc(((size_t)room + 1) * sizeof *from) : NULL;
    int32_t *to = room >= 0 ? malloc((2 * (size_t)room + 1) * sizeof *to) : NULL;

    *count = 0;
    if (from != NULL && to != NULL)
        made = utf8proc_decompose(text, (utf8proc_ssize_t)length, from, room, option);
    if (made >= 0)
        made = utf8proc_normalize_utf32(from, made, option);
    for (i = 0; i < made; i++) {
        to[(*count)++] = utf8proc_tolower(from[i]);
        if (from[i] == 0x130)
            to[(*count)++] = 0x307;
    }
    free(from);
    *c = to;
    return made >= 0 ? D2C_OK : d2c_fail(err, D2C_NO_MEMORY, "out of memory");
}

/* Text between special tokens. */
static d2c_status
encode_plain(output *out, const char *text, size_t length, d2c_error *err)
{
    word w = {.tokenizer = out->tokenizer};
    uint8_t *bytes = NULL;
    int32_t *c = NULL;
    size_t count;
    d2c_status status = d2c_utf8_check_marks((const uint8_t *)text, length, err);

    if (status == D2C_OK)
        status = normalise(&c, &count, (const uint8_t *)text, length, err);
    if (status == D2C_OK) {
        bytes = malloc(4 * count + 1);
        w.piece = malloc((4 * count + 1) * sizeof *w.piece);
        w.heap = malloc((12 * count + 1) * sizeof *w.heap);
        if (bytes == NULL || w.piece == NULL || w.heap == NULL)
            status = d2c_fail(err, D2C_NO_MEMORY, "out of memory");
    }
    if (status == D2C_OK)
        emit_words(out, &w, bytes, c, count);
    free(c);
    free(bytes);
    free(w.piece);
    free(w.heap);
    return status;
}

/* Whether a special token stands at `text`; its id and length. */
static int
special_at(int32_t *id, size_t *length, const d2c_clip_bpe *t, const char *text)
{
    int is_start = strncmp(text, start_name, sizeof start_name - 1) == 0;

    *id = is_start ? t->start : t->end;
    *length = is_start ? sizeof start_name - 1 : sizeof end_name - 1;
    return is_start || strncmp(text, end_name, sizeof end_name - 1) == 0;
}

static d2c_status
encode_text(output *out, const char *text, d2c_error *err)
{
    const char *plain = text;
    size_t length;
    int32_t id;

    for (; *text != '\0' && !d2c_ids_full(&out->ids); text++) {
        if (*text != '<' || !special_at(&id, &length, out->tokenizer, text))
            continue;
        D2C_TRY(encode_plain(out, plain, (size_t)(text - plain), err));
        d2c_ids_add(&out->ids, id);
        plain = text + length;
        text = plain - 1;
    }
    return d2c_ids_full(&out->ids) ? D2C_OK : encode_plain(out, plain, (size_t)(text - plain), err);
}

d2c_status
d2c_clip_bpe_encode(const d2c_clip_bpe *tokenizer, int32_t *ids, int *count, int capacity, const char *text,
                    d2c_error *err)
{
    output out = {tokenizer, {ids, 0, capacity - 1}};

    *count = 0;
    if (capacity < 2)
        return d2c_fail(err, D2C_INVALID_ARGUMENT,
                        "at least two tokens are needed, for <|startoftext|> and <|endoftext|>");
    D2C_TRY(d2c_utf8_check(text, MAX_TEXT_BYTES, err));
    d2c_ids_add(&out.ids, tokenizer->start);
    D2C_TRY(encode_text(&out, text, err));
    *count = d2c_ids_end(&out.ids, tokenizer->end);
    return D2C_OK;
}
