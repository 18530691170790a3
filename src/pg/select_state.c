/*
 * select_state.c: the candidates of a selection: adding, pruning, picking (select.h has the idea).
 */
#include "postgres.h"

#include <math.h>

#include "compat.h"
#include "miscadmin.h"
#include "select.h"
#include "utils/memutils.h"

/* The first two sizes fill 512 and 2048 bytes, which is what the allocator gives; the third is a block of its own. */
#define FIRST_CAPACITY 27
#define LARGE_CAPACITY 512

/* Quickselect takes its pivots from fixed places among so many entries. */
#define FEW_ENTRIES 128

const char *
SelectionKindName(SelectionKind kind)
{
	switch (kind)
	{
		case SELECTION_BIGINT:
			return "bigint";
		case SELECTION_TEXT:
			return "text";
		case SELECTION_UUID:
			return "uuid";
	}
	return "unknown";
}

const char *
SelectionMethodName(SelectionMethod method)
{
	switch (method)
	{
		case SELECTION_INTERVAL:
			return "interval";
		case SELECTION_RANDOM:
			return "random";
		case SELECTION_MIN:
			return "min";
		case SELECTION_MAX:
			return "max";
		case SELECTION_MEDIUM:
			return "medium";
		case SELECTION_CCS:
			return "ccs";
		case SELECTION_KCENTER:
			return "kcenter";
		case SELECTION_HERDING:
			return "herding";
		case SELECTION_MODERATE:
			return "moderate";
		case SELECTION_GADC:
			return "gadc";
		case SELECTION_PRODUCT:
			return "product";
	}
	return "unknown";
}

/*
 * Bytes of a selection; no argument is beyond MaxAllocSize, so the first two terms do not overflow
 */
static size_t
SelectionSize(uint64 capacity, uint64 heap_size, uint64 width)
{
	size_t		size = offsetof(D2cSelection, entries) + sizeof(SelectionEntry) * capacity + heap_size;

	if (width == 0)
		return size;
	if (capacity > MaxAllocSize / (sizeof(float) * width))
		return (size_t) MaxAllocSize + 1;
	return MAXALIGN(size) + sizeof(float) * width * capacity;
}

void
SelectionRequireRoom(uint64 capacity, uint64 heap_size, uint64 width)
{
	if (capacity > MaxAllocSize || heap_size > MaxAllocSize || width > MaxAllocSize ||
		SelectionSize(capacity, heap_size, width) > MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("selection is larger than 1 GB"),
				 width > 0 ? errhint("Select within smaller groups, or by shorter features (d2c_mean).") :
				 errhint("Ask for fewer ranks (k, n), or select within smaller groups.")));
}

/*
 * Allocate a selection's memory, its room still empty
 */
static D2cSelection *
Allocate(uint64 capacity, uint64 heap_size, uint64 width)
{
	D2cSelection *selection;

	SelectionRequireRoom(capacity, heap_size, width);
	selection = palloc0(SelectionSize(capacity, heap_size, width));
	SET_VARSIZE(selection, SelectionSize(capacity, heap_size, width));
	selection->capacity = capacity;
	selection->heap_size = heap_size;
	selection->width = width;
	return selection;
}

D2cSelection *
SelectionMake(const SelectionParameters *parameters, uint32 capacity)
{
	D2cSelection *selection;

	if (parameters->k < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("interval k must be at least 1, not %d", parameters->k),
				 errhint("d2c_interval(class_size, n) gives the paper's.")));
	if (parameters->k > 1 && parameters->method != SELECTION_INTERVAL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("selection \"%s\" takes no interval", SelectionMethodName(parameters->method))));
	if (parameters->n < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of picks n must be at least 1, not %d", parameters->n)));
	if (!(parameters->cut >= 0 && parameters->cut < 1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("share of rows to leave out must be at least 0 and less than 1")));
	selection = Allocate(Max(capacity, FIRST_CAPACITY), 0, 0);
	selection->version = SELECTION_VERSION;
	selection->kind = parameters->kind;
	selection->method = parameters->method;
	selection->k = parameters->k;
	selection->n = parameters->n;
	selection->seed = parameters->seed;
	selection->cut = parameters->cut;
	selection->cutoff = INFINITY;
	return selection;
}

void
SelectionGetParameters(SelectionParameters *parameters, const D2cSelection *selection)
{
	parameters->kind = selection->kind;
	parameters->method = selection->method;
	parameters->k = selection->k;
	parameters->n = selection->n;
	parameters->seed = selection->seed;
	parameters->cut = selection->cut;
}

void
SelectionRequireParameters(const D2cSelection *selection, const SelectionParameters *parameters)
{
	if (selection->kind != parameters->kind || selection->method != parameters->method)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("cannot combine selections of different kinds"),
				 errdetail("One is \"%s\" of %s ids, the other \"%s\" of %s ids.",
						   SelectionMethodName(selection->method), SelectionKindName(selection->kind),
						   SelectionMethodName(parameters->method), SelectionKindName(parameters->kind))));
	if (selection->method == SELECTION_PRODUCT && selection->seed != parameters->seed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of a selection must be equal for all rows of a group"),
				 errdetail("The strengths of two rows differ."),
				 errhint("Group by them, or give constants.")));
	if (selection->k != parameters->k || selection->n != parameters->n || selection->seed != parameters->seed)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of a selection must be equal for all rows of a group"),
				 errdetail("One row has k = %d, n = %d, seed = %lld, another k = %d, n = %d, seed = %lld.",
						   selection->k, selection->n, (long long) selection->seed,
						   parameters->k, parameters->n, (long long) parameters->seed),
				 errhint("Group by them, or give constants.")));
	if (selection->cut != parameters->cut)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("parameters of a selection must be equal for all rows of a group"),
				 errdetail("One row has cut = %g, another %g.", selection->cut, parameters->cut),
				 errhint("Group by it, or give a constant.")));
}

void
SelectionGetId(SelectionId *id, const D2cSelection *selection, const SelectionEntry *entry)
{
	if (selection->kind == SELECTION_BIGINT)
	{
		id->number = entry->id.number;
		return;
	}
	id->bytes = SELECTION_HEAP(selection) + entry->id.bytes.offset;
	id->length = entry->id.bytes.length;
}

/*
 * The finalizer of SplitMix64 (Steele, Lea and Flood 2014)
 */
uint64
SelectionMix(uint64 x)
{
	x += UINT64CONST(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

float8
SelectionRandomKey(const SelectionId *id, SelectionKind kind, int64 seed)
{
	uint64		hash = (uint64) id->number;

	if (kind != SELECTION_BIGINT)
	{
		hash = UINT64CONST(0xcbf29ce484222325); /* FNV-1a */
		for (uint32 i = 0; i < id->length; i++)
			hash = (hash ^ (uint8) id->bytes[i]) * UINT64CONST(0x100000001b3);
	}
	return (SelectionMix(hash ^ SelectionMix((uint64) seed)) >> 11) * 0x1p-53;
}

int
SelectionCompareIds(const D2cSelection *selection, const SelectionEntry *a, const SelectionEntry *b)
{
	SelectionId left;
	SelectionId right;
	int			order;

	if (selection->kind == SELECTION_BIGINT)
		return a->id.number < b->id.number ? -1 : a->id.number > b->id.number;
	SelectionGetId(&left, selection, a);
	SelectionGetId(&right, selection, b);
	order = memcmp(left.bytes, right.bytes, Min(left.length, right.length));
	if (order != 0)
		return order;
	return left.length < right.length ? -1 : left.length > right.length;
}

static inline bool
Before(const D2cSelection *selection, const SelectionEntry *a, const SelectionEntry *b)
{
	if (a->score != b->score)
		return a->score < b->score;
	return SelectionCompareIds(selection, a, b) < 0;
}

static inline void
Swap(SelectionEntry *a, SelectionEntry *b)
{
	SelectionEntry entry = *a;

	*a = *b;
	*b = entry;
}

/*
 * Bring the three in order
 */
static void
OrderThree(const D2cSelection *selection, SelectionEntry *first, SelectionEntry *middle, SelectionEntry *last)
{
	if (Before(selection, middle, first))
		Swap(middle, first);
	if (Before(selection, last, middle))
		Swap(last, middle);
	if (Before(selection, middle, first))
		Swap(middle, first);
}

/*
 * Bring the entries from low on that are before the one at high to the front, equal ones too if asked, and that one behind
 * them; return its place.  Which entries are before it cannot be foreseen, so none is jumped over.
 */
static pg_attribute_always_inline int64
Partition(const D2cSelection *selection, SelectionEntry *entries, int64 low, int64 high, bool equal)
{
	SelectionEntry pivot = entries[high];
	int64		place = low;

	for (int64 i = low; i < high; i++)
	{
		bool		before = equal ? !Before(selection, &pivot, &entries[i]) : Before(selection, &entries[i], &pivot);

		Swap(&entries[i], &entries[place]);
		place += before;
	}
	Swap(&entries[place], &entries[high]);
	return place;
}

/*
 * Bring entries from anywhere to where the pivot is chosen.  Rows come in orders, such as two sorted runs one behind the other,
 * in which fixed places give the worst pivot in every round; few rows are not worth the draw.
 */
static void
Scatter(SelectionEntry *entries, int64 low, int64 middle, int64 high)
{
	uint64		size = high - low + 1;
	uint64		random = SelectionMix(low ^ (uint64) high << 32);

	if (size <= FEW_ENTRIES)
		return;
	Swap(&entries[low], &entries[low + random % size]);
	Swap(&entries[middle], &entries[low + SelectionMix(random) % size]);
	Swap(&entries[high], &entries[low + SelectionMix(~random) % size]);
}

/*
 * Quickselect: put into place the entry of this rank, within [low, high], with no greater one before it
 */
static void
SelectRank(const D2cSelection *selection, SelectionEntry *entries, int64 low, int64 high, int64 rank)
{
	while (low < high)
	{
		int64		middle = low + (high - low) / 2;
		int64		place;

		Scatter(entries, low, middle, high);
		OrderThree(selection, &entries[low], &entries[high], &entries[middle]);
		place = Partition(selection, entries, low, high, false);
		if (place == low && rank > low)
		{
			/* Rows that are there many times: all of them at once, or each round would take one. */
			Swap(&entries[low], &entries[high]);
			place = Partition(selection, entries, low, high, true);
			if (rank <= place)
				return;
		}
		if (rank == place)
			return;
		if (rank > place)
			low = place + 1;
		else
			high = place - 1;
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * Put several ranks into place: the middle one first, which divides the work of the others
 */
static void
SelectRanks(const D2cSelection *selection, SelectionEntry *entries, int64 low, int64 high,
			int64 first, int64 step, int64 ranks)
{
	while (ranks > 0 && low < high)
	{
		int64		middle = ranks / 2;
		int64		rank = first + middle * step;

		SelectRank(selection, entries, low, high, rank);
		SelectRanks(selection, entries, low, rank - 1, first, step, middle);
		low = rank + 1;
		first = rank + step;
		ranks -= middle + 1;
	}
}

void
SelectionOrderRanks(const D2cSelection *selection, SelectionEntry *entries, int64 count, int64 first, int64 step,
					int64 ranks)
{
	SelectRanks(selection, entries, 0, count - 1, first, step, ranks);
}

/*
 * How many candidates can still be picked: up to the last rank asked for
 */
static uint64
Needed(const D2cSelection *selection)
{
	if (selection->method >= SELECTION_MEDIUM && selection->method != SELECTION_PRODUCT)
		return PG_UINT32_MAX;
	return Min((uint64) (selection->n - 1) * selection->k + 1, PG_UINT32_MAX);
}

/*
 * Copy the ids that entries still refer to into another heap, which may be smaller
 */
static uint32
CopyHeap(char *to, const D2cSelection *selection, SelectionEntry *entries, uint32 count)
{
	uint32		used = 0;

	for (uint32 i = 0; i < count; i++)
	{
		uint32		length = entries[i].id.bytes.length;

		memcpy(to + used, SELECTION_HEAP(selection) + entries[i].id.bytes.offset, length);
		entries[i].id.bytes.offset = used;
		used += length;
	}
	return used;
}

/*
 * Drop what cannot be picked any more, and remember the greatest score that can
 */
static void
Prune(D2cSelection *selection)
{
	uint32		needed = Needed(selection);

	SelectRank(selection, selection->entries, 0, selection->count - 1, needed - 1);
	selection->count = needed;
	selection->cutoff = selection->entries[needed - 1].score;
	if (selection->kind != SELECTION_BIGINT)
	{
		char	   *heap = palloc(selection->heap_used + 1);

		selection->heap_used = CopyHeap(heap, selection, selection->entries, needed);
		memcpy(SELECTION_HEAP(selection), heap, selection->heap_used);
		pfree(heap);
	}
}

/*
 * The most rows with features of this width that a value can hold beside its heap
 */
static uint64
RowsThatFit(uint64 heap_size, uint32 width)
{
	uint64		fixed = offsetof(D2cSelection, entries) + heap_size + MAXIMUM_ALIGNOF;

	if (fixed >= MaxAllocSize)
		return 0;
	return (MaxAllocSize - fixed) / (sizeof(SelectionEntry) + sizeof(float) * (uint64) width);
}

/*
 * The next capacity: fourfold while small, then twofold, at most the limit, which is gone to at once when it is near
 */
static uint64
NextCapacity(uint64 capacity, uint64 limit, uint32 width)
{
	if (width > 0)
		return Min(capacity * 2, limit);
	if (limit <= capacity * 4)
		return limit;
	return capacity < LARGE_CAPACITY ? capacity * 4 + 16 : capacity * 2;
}

/*
 * Return the selection in memory with more room, no more than a quarter above what can be picked
 */
static D2cSelection *
Enlarge(const D2cSelection *selection, uint32 length, uint32 width)
{
	uint64		needed = Needed(selection);
	uint64		limit = needed + needed / 4 + 16;
	uint64		capacity = selection->capacity;
	uint64		heap_size = selection->heap_size;
	D2cSelection *larger;

	if (selection->count == capacity)
		capacity = Max(capacity + 1, NextCapacity(capacity, limit, width));
	if ((uint64) selection->heap_used + length > heap_size)
		heap_size = Max(heap_size * 2, (uint64) selection->heap_used + length * (uint64) FIRST_CAPACITY);
	/* doubling ends at what a value can hold, not at half of it */
	capacity = Max(Min(capacity, RowsThatFit(heap_size, width)), (uint64) selection->count + 1);
	larger = Allocate(capacity, heap_size, width);
	memcpy((char *) larger + VARHDRSZ, (const char *) selection + VARHDRSZ,
		   SelectionSize(selection->count, 0, 0) - VARHDRSZ);
	larger->capacity = capacity;
	larger->heap_size = heap_size;
	larger->width = width;
	memcpy(SELECTION_HEAP(larger), SELECTION_HEAP(selection), selection->heap_used);
	if (selection->width > 0)
		memcpy(SELECTION_FEATURE(larger, 0), SELECTION_FEATURE(selection, 0),
			   sizeof(float) * selection->width * selection->count);
	return larger;
}

D2cSelection *
SelectionAdd(D2cSelection *selection, float8 score, const SelectionId *id)
{
	uint32		length = selection->kind == SELECTION_BIGINT ? 0 : id->length;
	SelectionEntry *entry;

	if (score > selection->cutoff)
		return selection;
	if (selection->count == selection->capacity ||
		(uint64) selection->heap_used + length > selection->heap_size)
	{
		uint64		needed = Needed(selection);

		if (selection->count >= needed + needed / 4 + 1)
			Prune(selection);
		if (score > selection->cutoff)
			return selection;
		if (selection->count == selection->capacity ||
			(uint64) selection->heap_used + length > selection->heap_size)
			selection = Enlarge(selection, length, selection->width);
	}
	entry = &selection->entries[selection->count++];
	entry->score = score;
	if (selection->kind == SELECTION_BIGINT)
	{
		entry->id.number = id->number;
		return selection;
	}
	entry->id.bytes.offset = selection->heap_used;
	entry->id.bytes.length = length;
	memcpy(SELECTION_HEAP(selection) + selection->heap_used, id->bytes, length);
	selection->heap_used += length;
	return selection;
}

D2cSelection *
SelectionAddFeature(D2cSelection *selection, const SelectionId *id, const float *feature, uint32 width)
{
	if (selection->width == 0 && selection->count == 0)
		selection = Enlarge(selection, 0, width);
	if (selection->width != width)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_EXCEPTION),
				 errmsg("features of a selection must be of equal size"),
				 errdetail("One has %u elements, another %u.", selection->width, width)));
	selection = SelectionAdd(selection, 0, id);
	memcpy(SELECTION_FEATURE(selection, selection->count - 1), feature, sizeof(float) * width);
	return selection;
}

SelectionEntry *
SelectionPick(const D2cSelection *selection, int *count)
{
	int64		held = selection->count;
	int64		first = 0;
	int64		ranks = selection->n;
	SelectionEntry *entries = palloc_extended(sizeof(SelectionEntry) * Max(held, 1), MCXT_ALLOC_HUGE);

	if (selection->method == SELECTION_CCS || SELECTION_BY_FEATURES(selection->method))
	{
		*count = SELECTION_BY_FEATURES(selection->method) ? SelectionPickByFeature(selection, entries) :
			SelectionPickStrata(selection, entries);
		return entries;
	}
	memcpy(entries, selection->entries, sizeof(SelectionEntry) * held);
	ranks = Min(ranks, (held + selection->k - 1) / selection->k);
	if (selection->method == SELECTION_MEDIUM)
		first = (held - ranks) / 2;
	SelectRanks(selection, entries, 0, held - 1, first, selection->k, ranks);
	for (int64 i = 0; i < ranks; i++)
		entries[i] = entries[first + i * selection->k];
	*count = ranks;
	return entries;
}

static bool
EntriesHold(const D2cSelection *selection)
{
	for (uint32 i = 0; i < selection->count; i++)
	{
		const SelectionEntry *entry = &selection->entries[i];

		if (isnan(entry->score))
			return false;
		if (selection->kind == SELECTION_BIGINT)
			continue;
		if ((uint64) entry->id.bytes.offset + entry->id.bytes.length > selection->heap_used ||
			(selection->kind == SELECTION_UUID && entry->id.bytes.length != 16))
			return false;
	}
	return true;
}

static bool
FeaturesHold(const D2cSelection *selection)
{
	const float *feature = SELECTION_FEATURE(selection, 0);

	if (!SELECTION_BY_FEATURES(selection->method))
		return selection->width == 0;
	for (size_t i = 0; i < (size_t) selection->count * selection->width; i++)
	{
		if (!isfinite(feature[i]))
			return false;
	}
	return selection->count == 0 || selection->width > 0;
}

D2cSelection *
SelectionCheck(void *value)
{
	D2cSelection *selection = value;

	if (VARSIZE(selection) < offsetof(D2cSelection, entries) ||
		selection->version != SELECTION_VERSION || selection->reserved != 0 ||
		selection->kind < SELECTION_BIGINT || selection->kind > SELECTION_UUID ||
		selection->method < SELECTION_INTERVAL || selection->method > SELECTION_LAST_METHOD ||
		selection->k < 1 || (selection->k > 1 && selection->method != SELECTION_INTERVAL) || selection->n < 1 || isnan(selection->cutoff) || selection->unused != 0 ||
		!(selection->cut >= 0 && selection->cut < 1) ||
		selection->count > selection->capacity || selection->heap_used > selection->heap_size ||
		VARSIZE(selection) != SelectionSize(selection->capacity, selection->heap_size, selection->width) ||
		!EntriesHold(selection) || !FeaturesHold(selection))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("d2c_selection value is damaged")));
	return selection;
}
