-- metrics.sql: moments of features and distances between them.

CREATE TYPE d2c_moments;

CREATE FUNCTION d2c_moments_in(cstring) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_in(cstring) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_out(d2c_moments) RETURNS cstring
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_out(d2c_moments) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_recv(internal) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_recv(internal) IS
	'I/O of type d2c_moments';

CREATE FUNCTION d2c_moments_send(d2c_moments) RETURNS bytea
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_send(d2c_moments) IS
	'binary form: version (a byte), int32 width, int64 n, float8 mean and comoment, in network order';

CREATE TYPE d2c_moments (
	INPUT = d2c_moments_in,
	OUTPUT = d2c_moments_out,
	RECEIVE = d2c_moments_recv,
	SEND = d2c_moments_send,
	INTERNALLENGTH = VARIABLE,
	ALIGNMENT = double,
	STORAGE = external
);
COMMENT ON TYPE d2c_moments IS
	'number, mean and comoment (lower triangle) of feature vectors of up to 8000 dimensions; moments merge';

CREATE FUNCTION d2c_moments_accum_tensor(d2c_moments, tensor) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_accum_tensor(d2c_moments, tensor) IS
	'support of aggregate d2c_moments';

CREATE FUNCTION d2c_moments_accum_array(d2c_moments, real[]) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_accum_array(d2c_moments, real[]) IS
	'support of aggregate d2c_moments';

CREATE FUNCTION d2c_moments_combine(d2c_moments, d2c_moments) RETURNS d2c_moments
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_combine(d2c_moments, d2c_moments) IS
	'support of aggregates d2c_moments and d2c_moments_merge';

CREATE AGGREGATE d2c_moments(feature tensor) (
	SFUNC = d2c_moments_accum_tensor,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments(tensor) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, of means some 1e-14 of their size, of comoments some 1e-14 of size times spread for each vector; NULLs are left out';

CREATE AGGREGATE d2c_moments(feature real[]) (
	SFUNC = d2c_moments_accum_array,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments(real[]) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, of means some 1e-14 of their size, of comoments some 1e-14 of size times spread for each vector; NULLs are left out';

CREATE AGGREGATE d2c_moments_merge(d2c_moments) (
	SFUNC = d2c_moments_combine,
	STYPE = d2c_moments,
	COMBINEFUNC = d2c_moments_combine,
	PARALLEL = SAFE
);
COMMENT ON AGGREGATE d2c_moments_merge(d2c_moments) IS 'moments of all vectors that the given moments were made of';

CREATE FUNCTION d2c_moments_count(d2c_moments) RETURNS bigint
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_count(d2c_moments) IS
	'number of vectors';

CREATE FUNCTION d2c_moments_mean(d2c_moments) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_mean(d2c_moments) IS
	'mean vector';

CREATE FUNCTION d2c_moments_covariance(d2c_moments) RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION d2c_moments_covariance(d2c_moments) IS
	'covariance matrix, by n - 1 as numpy.cov; at least two vectors';

CREATE FUNCTION d2c_frechet(a d2c_moments, b d2c_moments) RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_frechet(d2c_moments, d2c_moments) IS
	'Fréchet distance between the normal distributions with these moments, |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), as FID has it (Heusel et al. 2017); the engine computes it';
