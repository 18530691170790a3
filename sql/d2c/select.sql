-- select.sql: the aggregates that select ids.

CREATE TYPE d2c_selection;

CREATE FUNCTION d2c_selection_in(cstring) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_in(cstring) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_out(d2c_selection) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_out(d2c_selection) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_recv(internal) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_recv(internal) IS 'I/O of type d2c_selection';

CREATE FUNCTION d2c_selection_send(d2c_selection) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_send(d2c_selection) IS 'I/O of type d2c_selection';

CREATE TYPE d2c_selection (
	INPUT = d2c_selection_in,
	OUTPUT = d2c_selection_out,
	RECEIVE = d2c_selection_recv,
	SEND = d2c_selection_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = double,
	STORAGE = external
);
COMMENT ON TYPE d2c_selection IS 'candidates of one group, the state of d2c_select and its kin';

CREATE FUNCTION d2c_selection_combine(d2c_selection, d2c_selection) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_combine(d2c_selection, d2c_selection) IS 'support of the d2c_select aggregates: both states in one; their parameters must be equal';

CREATE FUNCTION d2c_selection_bigint(d2c_selection) RETURNS bigint[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_bigint(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_selection_text(d2c_selection) RETURNS text[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_text(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_selection_uuid(d2c_selection) RETURNS uuid[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_selection_uuid(d2c_selection) IS 'support of the d2c_select aggregates: the picked ids';

CREATE FUNCTION d2c_select_accum(d2c_selection, bigint, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, bigint, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE FUNCTION d2c_select_accum(d2c_selection, text, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, text, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE FUNCTION d2c_select_accum(d2c_selection, uuid, double precision, integer, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_accum(d2c_selection, uuid, double precision, integer, integer) IS 'support of aggregate d2c_select';

CREATE AGGREGATE d2c_select(id bigint, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(bigint, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE AGGREGATE d2c_select(id text, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(text, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE AGGREGATE d2c_select(id uuid, score double precision, k integer, n integer) (
	SFUNC = d2c_select_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select(uuid, double precision, integer, integer) IS
	'interval sampling (D2C, arXiv 2507.05914): ids at ranks 0, k, 2k, ... of the order by (score, id), at most n; NULL scores are left out, NaN is an error, no scored row gives NULL; text ids tie in the C collation';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE FUNCTION d2c_select_min_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_min_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_min';

CREATE AGGREGATE d2c_select_min(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(bigint, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE AGGREGATE d2c_select_min(id text, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(text, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE AGGREGATE d2c_select_min(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_min_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_min(uuid, double precision, integer) IS
	'the n lowest scores: ids ordered by (score, id)';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE FUNCTION d2c_select_max_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_max_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_max';

CREATE AGGREGATE d2c_select_max(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(bigint, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE AGGREGATE d2c_select_max(id text, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(text, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE AGGREGATE d2c_select_max(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_max_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_max(uuid, double precision, integer) IS
	'the n highest scores: ids ordered by (score descending, id)';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, bigint, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, bigint, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, text, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, text, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE FUNCTION d2c_select_medium_accum(d2c_selection, uuid, double precision, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_medium_accum(d2c_selection, uuid, double precision, integer) IS 'support of aggregate d2c_select_medium';

CREATE AGGREGATE d2c_select_medium(id bigint, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(bigint, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE AGGREGATE d2c_select_medium(id text, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(text, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE AGGREGATE d2c_select_medium(id uuid, score double precision, n integer) (
	SFUNC = d2c_select_medium_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_medium(uuid, double precision, integer) IS
	'the n ids around the middle of the order by (score, id), in that order; keeps the whole group in memory';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, bigint, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, bigint, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, text, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, text, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE FUNCTION d2c_select_random_accum(d2c_selection, uuid, bigint, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_random_accum(d2c_selection, uuid, bigint, integer) IS 'support of aggregate d2c_select_random';

CREATE AGGREGATE d2c_select_random(id bigint, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(bigint, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE AGGREGATE d2c_select_random(id text, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(text, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE AGGREGATE d2c_select_random(id uuid, seed bigint, n integer) (
	SFUNC = d2c_select_random_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_random(uuid, bigint, integer) IS
	'n ids drawn at random: a function of ids and seed alone, the same on every server';

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, bigint, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, bigint, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, text, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, text, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE FUNCTION d2c_select_ccs_accum(d2c_selection, uuid, double precision, integer, double precision, bigint) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_ccs_accum(d2c_selection, uuid, double precision, integer, double precision, bigint) IS 'support of aggregate d2c_select_ccs';

CREATE AGGREGATE d2c_select_ccs(id bigint, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(bigint, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';

CREATE AGGREGATE d2c_select_ccs(id text, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(text, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';

CREATE AGGREGATE d2c_select_ccs(id uuid, score double precision, n integer, cut double precision, seed bigint) (
	SFUNC = d2c_select_ccs_accum,
	STYPE = d2c_selection,
	SSPACE = 65536,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_ccs(uuid, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE FUNCTION d2c_select_kcenter_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_kcenter_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_kcenter';

CREATE AGGREGATE d2c_select_kcenter(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(bigint, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE AGGREGATE d2c_select_kcenter(id text, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(text, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE AGGREGATE d2c_select_kcenter(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_kcenter_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_kcenter(uuid, tensor, integer) IS
	'k-center greedy: first the row farthest from the mean of all features, then always the row whose distance to the nearest picked one is greatest; Euclidean, ties to the lowest id. Keeps every feature (4 bytes an element, at most 1 GB a group); features of any shape, all of one size, finite; NULL features are left out';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE FUNCTION d2c_select_herding_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_herding_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_herding';

CREATE AGGREGATE d2c_select_herding(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(bigint, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_herding(id text, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(text, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_herding(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_herding_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_herding(uuid, tensor, integer) IS
	'herding (Welling, ICML 2009): pick t + 1 is the row x with the least || (t + 1) mean - sum of the picked - x ||, so that the mean of the picked stays close to the mean of all; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE FUNCTION d2c_select_moderate_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_moderate_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_moderate';

CREATE AGGREGATE d2c_select_moderate(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(bigint, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_moderate(id text, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(text, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_moderate(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_moderate_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_moderate(uuid, tensor, integer) IS
	'moderate coreset (Moderate-DS, Xia et al., ICLR 2023), per group: the n rows around the middle of the order by (distance to the median feature, id); the median is that of each element. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, bigint, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, bigint, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, text, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, text, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE FUNCTION d2c_select_gadc_accum(d2c_selection, uuid, tensor, integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_gadc_accum(d2c_selection, uuid, tensor, integer) IS 'support of aggregate d2c_select_gadc';

CREATE AGGREGATE d2c_select_gadc(id bigint, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(bigint, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_gadc(id text, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(text, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE AGGREGATE d2c_select_gadc(id uuid, feature tensor, n integer) (
	SFUNC = d2c_select_gadc_accum,
	STYPE = d2c_selection,
	SSPACE = 4194304,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_gadc(uuid, tensor, integer) IS
	'by transport and moments, in the manner of GADC (arXiv 2606.05883): n rows S with a small mean over rows x of min over s in S of || x - s ||^2 + 1.25 || mean of S - mean ||^2 + sum over elements of (deviation of S - deviation)^2, greedy, then exchanges of one pick until none helps or 10 sweeps are done, the best of four starts (the best first row, the first three of k-center); the paper''s entropic partial plan and its cross-entropy are left out; ties to the lowest id. Features as for d2c_select_kcenter';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, bigint, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, bigint, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, text, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, text, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE FUNCTION d2c_select_product_accum(d2c_selection, uuid, double precision[], double precision[], integer) RETURNS d2c_selection
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_select_product_accum(d2c_selection, uuid, double precision[], double precision[], integer) IS 'support of aggregate d2c_select_product';

CREATE AGGREGATE d2c_select_product(id bigint, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_bigint,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(bigint, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';

CREATE AGGREGATE d2c_select_product(id text, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_text,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(text, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';

CREATE AGGREGATE d2c_select_product(id uuid, objectives double precision[], strengths double precision[], n integer) (
	SFUNC = d2c_select_product_accum,
	STYPE = d2c_selection,
	SSPACE = 16384,
	COMBINEFUNC = d2c_selection_combine,
	FINALFUNC = d2c_selection_uuid,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_select_product(uuid, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';

CREATE FUNCTION d2c_interval(class_size bigint, n integer) RETURNS integer
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_interval(class_size bigint, n integer) IS 'interval k with which n picks span the easiest 67.5 % of a class, as k = 96 for 10 of 1281 does (arXiv 2507.05914)';
