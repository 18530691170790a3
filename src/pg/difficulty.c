/*
 * difficulty.c: the diffusion difficulty score, and the raw output of the network behind it.
 *
 * The engine computes; these functions write requests and read replies.  A score depends on its arguments and on the
 * model's file alone, so the scalar, the window and the parallel forms agree to the last bit.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "pg/engine_client.h"
#include "pg/result_row.h"
#include "pg/tensor.h"
#include "pg/window_batch.h"
#include "utils/array.h"
#include "utils/builtins.h"

#define MAX_TIMESTEPS 1000

/* The arguments of every scoring function; of d2c_difficulty_latent all but the last. */
enum ScoreArgument
{
	SCORE_INPUT,
	SCORE_LABEL,
	SCORE_MODEL,
	SCORE_TIMESTEPS,
	SCORE_SEED,
	SCORE_VAE,
	SCORE_ARGUMENTS
};

/*
 * What follows the image or latent in a scoring request.
 */
static void
PutScoreArguments(StringInfo payload, const Datum *args, bool curve)
{
	int32		timesteps = DatumGetInt32(args[SCORE_TIMESTEPS]);

	if (timesteps < 1 || timesteps > MAX_TIMESTEPS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of timesteps must be between 1 and %d", MAX_TIMESTEPS)));
	D2cPutI64(payload, DatumGetInt64(args[SCORE_LABEL]));
	D2cPutU32(payload, timesteps);
	D2cPutI64(payload, DatumGetInt64(args[SCORE_SEED]));
	D2cPutU32(payload, curve);
}

static void
EncodeImage(StringInfo payload, const Datum *args, bool curve)
{
	D2cPutText(payload, TextDatumGetCString(args[SCORE_MODEL]));
	D2cPutBytea(payload, args[SCORE_INPUT]);
	PutScoreArguments(payload, args, curve);
	D2cPutText(payload, TextDatumGetCString(args[SCORE_VAE]));
}

static void
EncodeScore(StringInfo payload, const Datum *args)
{
	EncodeImage(payload, args, false);
}

static void
EncodeLatent(StringInfo payload, const Datum *args)
{
	D2cPutText(payload, TextDatumGetCString(args[SCORE_MODEL]));
	D2cPutTensor(payload, D2cTensorConvert(DatumGetD2cTensor(args[SCORE_INPUT]), D2C_TENSOR_F32, NULL));
	PutScoreArguments(payload, args, false);
}

/*
 * The numbers of a scoring reply.
 */
static Datum *
ReadScores(d2c_reader *reader, int *count)
{
	Datum	   *scores;
	uint32		n = d2c_read_u32(reader);

	if (n < 1 || n > MAX_TIMESTEPS)
		elog(ERROR, "invalid reply of the d2c engine");
	scores = palloc(sizeof(Datum) * n);
	for (uint32 i = 0; i < n; i++)
		scores[i] = Float8GetDatum(d2c_read_f64(reader));
	if (reader->bad)
		elog(ERROR, "invalid reply of the d2c engine");
	*count = n;
	return scores;
}

static Datum
FirstScore(d2c_reader reader)
{
	int			count;

	return ReadScores(&reader, &count)[0];
}

/* The arguments of d2c_difficulty_prompt. */
enum PromptArgument
{
	PROMPT_IMAGE,
	PROMPT_TEXT,
	PROMPT_MODEL,
	PROMPT_TIMESTEPS,
	PROMPT_SEED,
	PROMPT_LABEL,
	PROMPT_VAE,
	PROMPT_TEXT_MODEL,
	PROMPT_ARGUMENTS
};

static void
EncodePrompt(StringInfo payload, const Datum *args)
{
	Datum		score[SCORE_ARGUMENTS];

	score[SCORE_INPUT] = args[PROMPT_IMAGE];
	score[SCORE_LABEL] = args[PROMPT_LABEL];
	score[SCORE_MODEL] = args[PROMPT_MODEL];
	score[SCORE_TIMESTEPS] = args[PROMPT_TIMESTEPS];
	score[SCORE_SEED] = args[PROMPT_SEED];
	score[SCORE_VAE] = args[PROMPT_VAE];
	EncodeScore(payload, score);
	D2cPutText(payload, TextDatumGetCString(args[PROMPT_TEXT]));
	D2cPutText(payload, TextDatumGetCString(args[PROMPT_TEXT_MODEL]));
}

static void
EncodeCurve(StringInfo payload, const Datum *args)
{
	EncodeImage(payload, args, true);
}

StaticAssertDecl(PROMPT_ARGUMENTS <= D2C_WINDOW_MAX_ARGS, "a window function reads at most D2C_WINDOW_MAX_ARGS arguments");
static const D2cWindowKind batched = {D2C_REQUEST_DIFFICULTY, SCORE_ARGUMENTS, EncodeScore, false};
static const D2cWindowKind checked = {D2C_REQUEST_DIFFICULTY, SCORE_ARGUMENTS, EncodeScore, true};
static const D2cWindowKind curve = {D2C_REQUEST_DIFFICULTY, SCORE_ARGUMENTS, EncodeCurve, false};
static const D2cWindowKind of_latent = {D2C_REQUEST_DIFFICULTY_LATENT, SCORE_VAE, EncodeLatent, false};
static const D2cWindowKind prompted = {D2C_REQUEST_DIFFICULTY_PROMPT, PROMPT_ARGUMENTS, EncodePrompt, false};

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty);
Datum
d2c_difficulty(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(FirstScore(D2cScalarCall(fcinfo, &batched)));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_prompt);
Datum
d2c_difficulty_prompt(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(FirstScore(D2cScalarCall(fcinfo, &prompted)));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_prompt_batched);
Datum
d2c_difficulty_prompt_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &prompted, &reader))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(FirstScore(reader));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_latent);
Datum
d2c_difficulty_latent(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(FirstScore(D2cScalarCall(fcinfo, &of_latent)));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_curve);
Datum
d2c_difficulty_curve(PG_FUNCTION_ARGS)
{
	d2c_reader	reader = D2cScalarCall(fcinfo, &curve);
	int			count;
	Datum	   *scores = ReadScores(&reader, &count);

	PG_RETURN_ARRAYTYPE_P(construct_array(scores, count, FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
										  TYPALIGN_DOUBLE));
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_batched);
Datum
d2c_difficulty_batched(PG_FUNCTION_ARGS)
{
	d2c_reader	reader;

	if (!D2cWindowRead(fcinfo, &batched, &reader))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(FirstScore(reader));
}

/*
 * A row's error in one line.
 */
static char *
ErrorText(const D2cReply *reply)
{
	if (reply->detail[0] == '\0')
		return reply->message;
	return psprintf("%s (%s)", reply->message, reply->detail);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_difficulty_checked);
Datum
d2c_difficulty_checked(PG_FUNCTION_ARGS)
{
	const D2cReply *reply = D2cWindowReply(fcinfo, &checked);
	Datum		values[3] = {0};
	bool		nulls[3] = {true, true, true};

	if (reply == NULL)
		PG_RETURN_NULL();
	if (reply->status != D2C_OK && !D2cStatusIsRowError(reply->status))
		D2cEngineRaise(reply);
	if (reply->status == D2C_OK)
	{
		values[0] = FirstScore((d2c_reader) {reply->payload, reply->payload + reply->length, 0});
		nulls[0] = false;
	}
	else
	{
		values[1] = CStringGetTextDatum(unpack_sql_state(D2cSqlState(reply->status)));
		values[2] = CStringGetTextDatum(ErrorText(reply));
		nulls[1] = nulls[2] = false;
	}
	return D2cResultRow(fcinfo, values, nulls);
}

PGDLLEXPORT PG_FUNCTION_INFO_V1(d2c_denoise);
Datum
d2c_denoise(PG_FUNCTION_ARGS)
{
	D2cTensor  *x = D2cTensorConvert(PG_GETARG_D2C_TENSOR(0), D2C_TENSOR_F32, NULL);
	StringInfoData payload;
	d2c_reader	reader;

	initStringInfo(&payload);
	D2cPutText(&payload, text_to_cstring(PG_GETARG_TEXT_PP(3)));
	D2cPutTensor(&payload, x);
	D2cPutF64(&payload, PG_GETARG_FLOAT8(1));
	D2cPutI64(&payload, PG_GETARG_INT64(2));
	reader = D2cEngineCall(D2C_REQUEST_DENOISE, &payload);
	PG_RETURN_D2C_TENSOR(D2cReadTensor(&reader));
}
