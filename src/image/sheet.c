/* sheet.c: contact sheets: many small pictures on one, each with its caption. */
#include "image/image.h"

#include <math.h>
#include <string.h>

#include "image/codec.h"
#include "image/font.h"

#define MARGIN 4 /* white pixels around the sheet and between rows */
#define GAP 8    /* between columns, so that captions of neighbours stay apart */
#define PAPER 255
#define INK 32
#define SMALL_EDGE 56 /* below it pictures are hard to see */
#define EDGE_LIMIT 4096

typedef struct layout {
    int columns, rows;
    int pitch_x, pitch_y; /* from one cell to the next */
} layout;

static d2c_status
plan(layout *plan, const d2c_sheet *sheet, d2c_error *err)
{
    int caption = sheet->caption != NULL ? D2C_FONT_HEIGHT + MARGIN : 0;

    if (sheet->count <= 0)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a contact sheet needs at least one image");
    if (sheet->edge <= 0 || sheet->edge > EDGE_LIMIT)
        return d2c_fail(err, D2C_INVALID_ARGUMENT, "a contact sheet's edge must lie between 1 and %d pixels",
                        EDGE_LIMIT);
    plan->columns = sheet->columns > 0 ? sheet->columns : (int)ceil(sqrt(sheet->count));
    if (plan->columns > sheet->count)
        plan->columns = sheet->count;
    plan->rows = (sheet->count - 1) / plan->columns + 1;
    plan->pitch_x = sheet->edge + GAP;
    plan->pitch_y = sheet->edge + MARGIN + caption;
    return d2c_image_check_size((int64_t)plan->columns * plan->pitch_x + MARGIN,
                                (int64_t)plan->rows * plan->pitch_y + MARGIN, D2C_DEFAULT_PIXEL_LIMIT, err);
}

d2c_status
d2c_sheet_check(const d2c_sheet *sheet, d2c_error *err)
{
    layout p;

    return plan(&p, sheet, err);
}

static uint8_t *
pixel(const d2c_image *image, int x, int y)
{
    return image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * (size_t)image->channels;
}

/* Draws the picture with every pixel `zoom` wide and high, its corner at x, y. */
static void
draw_image(d2c_image *out, const d2c_image *in, int x, int y, int zoom)
{
    int row, column, c;

    for (row = 0; row < in->height * zoom; row++)
        for (column = 0; column < in->width * zoom; column++) {
            const uint8_t *from = pixel(in, column / zoom, row / zoom);
            uint8_t *to = pixel(out, x + column, y + row);

            for (c = 0; c < out->channels; c++)
                to[c] = from[c < in->channels ? c : 0];
        }
}

/* Small pictures are enlarged by whole numbers, large ones reduced; both are centred in their cell. */
static d2c_status
draw_cell(d2c_image *out, const d2c_image *in, int x, int y, int edge, d2c_error *err)
{
    d2c_image small = *in;
    int longest = in->width > in->height ? in->width : in->height;
    int zoom = edge / longest;

    if (zoom == 0) {
        D2C_TRY(d2c_image_thumbnail(&small, in, edge, err));
        zoom = 1;
    }
    draw_image(out, &small, x + (edge - small.width * zoom) / 2, y + (edge - small.height * zoom) / 2, zoom);
    if (small.pixels != in->pixels)
        d2c_image_free(&small);
    return D2C_OK;
}

static void
draw_glyph(d2c_image *out, const uint8_t *glyph, int x, int y)
{
    int row, column;

    for (row = 0; row < D2C_FONT_HEIGHT; row++)
        for (column = 0; column < D2C_FONT_WIDTH; column++)
            if (glyph[row] >> (D2C_FONT_WIDTH - 1 - column) & 1)
                memset(pixel(out, x + column, y + row), INK, (size_t)out->channels);
}

/* One line of text, cut at the cell's width; a character of several UTF-8 bytes is drawn as one question
 * mark. */
static void
draw_caption(d2c_image *out, const char *text, int x, int y, int width)
{
    int at = 0;

    for (; *text != '\0' && at + D2C_FONT_WIDTH <= width; text++) {
        if (((unsigned char)*text & 0xC0) == 0x80)
            continue;
        draw_glyph(out, d2c_font_glyph((unsigned char)*text), x + at, y);
        at += D2C_FONT_ADVANCE;
    }
}

static int
any_colour(const d2c_sheet *sheet)
{
    int i;

    for (i = 0; i < sheet->count; i++)
        if (sheet->image[i].channels == 3)
            return 1;
    return 0;
}

d2c_status
d2c_contact_sheet(d2c_image *out, const d2c_sheet *sheet, d2c_error *err)
{
    layout p = {0};
    d2c_status status;
    int i;

    memset(out, 0, sizeof *out);
    D2C_TRY(plan(&p, sheet, err));
    D2C_TRY(d2c_image_allocate(out, p.columns * p.pitch_x + MARGIN, p.rows * p.pitch_y + MARGIN,
                               any_colour(sheet) ? 3 : 1, err));
    memset(out->pixels, PAPER, (size_t)out->width * (size_t)out->height * (size_t)out->channels);
    for (i = 0; i < sheet->count; i++) {
        int x = MARGIN + i % p.columns * p.pitch_x, y = MARGIN + i / p.columns * p.pitch_y;

        status = draw_cell(out, &sheet->image[i], x, y, sheet->edge, err);
        if (status != D2C_OK) {
            d2c_image_free(out);
            return status;
        }
        if (sheet->caption != NULL && sheet->caption[i] != NULL)
            draw_caption(out, sheet->caption[i], x, y + sheet->edge + MARGIN / 2, sheet->edge + GAP / 2);
    }
    return D2C_OK;
}

d2c_status
d2c_contact_sheet_png(uint8_t **bytes, size_t *length, const d2c_sheet *sheet, d2c_error *err)
{
    d2c_image picture;
    d2c_status status;

    *bytes = NULL;
    D2C_TRY(d2c_contact_sheet(&picture, sheet, err));
    status = d2c_image_encode_png(bytes, length, &picture, err);
    d2c_image_free(&picture);
    return status;
}

int
d2c_sheet_edge(const d2c_image *image)
{
    int longer = image->width > image->height ? image->width : image->height;

    return (SMALL_EDGE + longer - 1) / longer * longer;
}
