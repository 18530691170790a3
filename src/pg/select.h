/*
 * select.h: the state of d2c_select and its kin, SQL type "d2c_selection".
 *
 * A selection keeps the candidates of one group: (score, id) pairs, in no order.  The ranks that interval sampling asks
 * for end at (n - 1) k, so of a long group only that many and one are kept: candidates gather in a buffer a quarter
 * larger, quickselect prunes it when it is full, and the greatest score that is left turns later rows away at once.
 * All this is by the total order (score, id), so the result depends neither on the order of rows nor on how they were
 * divided among workers.
 *
 * The state is one flat varlena, changed in place while it has room.  Ids of type text and uuid lie in a heap behind the
 * entries and compare as bytes, which is uuid's own order and the C collation of text.  Methods that choose by features
 * keep every row's, behind the heap and in the order of the entries.  Room left over is part of the value, but not of the
 * text and binary forms.
 */
#ifndef D2C_PG_SELECT_H
#define D2C_PG_SELECT_H

#include "postgres.h"
#include "fmgr.h"

#define SELECTION_VERSION 2

typedef enum SelectionKind
{
	SELECTION_BIGINT = 1,
	SELECTION_TEXT = 2,
	SELECTION_UUID = 3
} SelectionKind;

/* The first four and product take ranks from the low end of their own key, so they can prune. */
typedef enum SelectionMethod
{
	SELECTION_INTERVAL = 1,
	SELECTION_RANDOM = 2,
	SELECTION_MIN = 3,
	SELECTION_MAX = 4,			/* scores are stored negated */
	SELECTION_MEDIUM = 5,
	SELECTION_CCS = 6,
	SELECTION_KCENTER = 7,		/* up to gadc: by features, scores are 0 */
	SELECTION_HERDING = 8,
	SELECTION_MODERATE = 9,
	SELECTION_GADC = 10,
	SELECTION_PRODUCT = 11		/* scores are the negated logarithms; the seed tells the strengths apart */
} SelectionMethod;

typedef struct SelectionId
{
	int64		number;			/* SELECTION_BIGINT */
	const char *bytes;			/* otherwise */
	uint32		length;
} SelectionId;

typedef struct SelectionEntry
{
	float8		score;
	union
	{
		int64		number;
		struct
		{
			uint32		offset; /* into the heap */
			uint32		length;
		}			bytes;
	}			id;
} SelectionEntry;

typedef struct D2cSelection
{
	int32		vl_len_;		/* varlena header (do not touch directly) */
	uint8		version;
	uint8		kind;			/* SelectionKind */
	uint8		method;			/* SelectionMethod */
	uint8		reserved;
	int32		k;
	int32		n;
	int64		seed;
	float8		cut;			/* SELECTION_CCS: share of the hardest rows that is left out */
	float8		cutoff;			/* greater scores cannot be picked any more */
	uint32		count;
	uint32		capacity;
	uint32		heap_used;
	uint32		heap_size;
	uint32		width;			/* of the features; 0: none, or not known yet */
	uint32		unused;
	SelectionEntry entries[FLEXIBLE_ARRAY_MEMBER];
} D2cSelection;

#define SELECTION_HEAP(selection) ((char *) &(selection)->entries[(selection)->capacity])
#define SELECTION_FEATURE(selection, i) \
	((float *) (SELECTION_HEAP(selection) + MAXALIGN((selection)->heap_size)) + (size_t) (selection)->width * (i))
#define SELECTION_LAST_METHOD SELECTION_PRODUCT
#define SELECTION_BY_FEATURES(method) ((method) >= SELECTION_KCENTER && (method) <= SELECTION_GADC)

/* What a call asks for; equal for all rows of a group. */
typedef struct SelectionParameters
{
	SelectionKind kind;
	SelectionMethod method;
	int32		k;
	int32		n;
	int64		seed;
	float8		cut;
} SelectionParameters;

/* An empty selection with room for some entries, in the current context; raises on k or n below 1. */
extern D2cSelection *SelectionMake(const SelectionParameters *parameters, uint32 capacity);

/* Raises unless a selection of so many entries, with features of that width, fits a value. */
extern void SelectionRequireRoom(uint64 capacity, uint64 heap_size, uint64 width);

/* Whether the selection was made with these parameters: asked for every row. */
static inline bool
SelectionHasParameters(const D2cSelection *selection, const SelectionParameters *parameters)
{
	return selection->k == parameters->k && selection->n == parameters->n && selection->seed == parameters->seed &&
		selection->kind == parameters->kind && selection->method == parameters->method &&
		selection->cut == parameters->cut;
}

/* Raises unless the selection was made with these parameters. */
extern void SelectionRequireParameters(const D2cSelection *selection, const SelectionParameters *parameters);
extern void SelectionGetParameters(SelectionParameters *parameters, const D2cSelection *selection);

/* The selection with one candidate more: the same memory where it has room, otherwise new in the current context. */
extern D2cSelection *SelectionAdd(D2cSelection *selection, float8 score, const SelectionId *id);

/* The same with its feature of so many elements; raises when another row's has another width. */
extern D2cSelection *SelectionAddFeature(D2cSelection *selection, const SelectionId *id, const float *feature, uint32 width);

/* The order of ids: negative, 0 or positive. */
extern int	SelectionCompareIds(const D2cSelection *selection, const SelectionEntry *a, const SelectionEntry *b);

/* Id i of entries that belong to the selection. */
extern void SelectionGetId(SelectionId *id, const D2cSelection *selection, const SelectionEntry *entry);

/* The picked entries, in the order of their ranks; *count of them, palloc'd. */
extern SelectionEntry *SelectionPick(const D2cSelection *selection, int *count);

/*
 * Bring ranks first, first + step, ... of the entries, which belong to the selection, into place: the order is (score, id)
 */
extern void SelectionOrderRanks(const D2cSelection *selection, SelectionEntry *entries, int64 count, int64 first,
								int64 step, int64 ranks);

/* select_feature.c: writes the picked entries to picked[n] and returns how many there are. */
extern int64 SelectionPickByFeature(const D2cSelection *selection, SelectionEntry *picked);

/* select_engine.c: the engine's picks, rows of the features in the order of ids, written to chosen[ranks]. */
extern void SelectionAskEngine(int64 *chosen, const float **features, int64 count, int64 width, SelectionMethod method,
							   int64 ranks);

/* select_strata.c: the same for SELECTION_CCS. */
extern int64 SelectionPickStrata(const D2cSelection *selection, SelectionEntry *picked);

/* A number in [0, 1) that depends on id and seed alone: neither on the server's version nor on its byte order. */
extern float8 SelectionRandomKey(const SelectionId *id, SelectionKind kind, int64 seed);

/* The finalizer of SplitMix64, for keys that must not depend on the server. */
extern uint64 SelectionMix(uint64 x);

/* Raises "data corrupted" unless every count, offset and parameter holds; a value may come from anywhere. */
extern D2cSelection *SelectionCheck(void *value);

extern const char *SelectionKindName(SelectionKind kind);
extern const char *SelectionMethodName(SelectionMethod method);

#endif
