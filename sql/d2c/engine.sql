-- engine.sql: the engine, its models, and difficulty scores.

CREATE FUNCTION d2c_engine_status(OUT name text, OUT value text) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED ROWS 17;
COMMENT ON FUNCTION d2c_engine_status() IS
	'state of the d2c engine: running, device, precision, build; with the rights of pg_monitor also what computes, why not a GPU, its process, queue, memory and settings. Does not start it';

CREATE FUNCTION d2c_engine_stop() RETURNS boolean
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION d2c_engine_stop() IS
	'stops the d2c engine at once; queries that wait for it fail, the next call starts it again. False: none ran';
REVOKE EXECUTE ON FUNCTION d2c_engine_stop() FROM PUBLIC;

CREATE FUNCTION d2c_models(OUT name text, OUT kind text, OUT parameters bigint, OUT resolution text, OUT channels integer,
	OUT classes integer, OUT embedding integer, OUT sha256 text, OUT loaded boolean, OUT device text, OUT "precision" text,
	OUT problem text) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED COST 10000 ROWS 10;
COMMENT ON FUNCTION d2c_models() IS
	'the models in d2c.model_directory; embedding is the width of what a model embeds to, device and precision are those that compute a loaded one, problem says why one cannot be used';

CREATE FUNCTION d2c_difficulty(image bytea, label bigint, model text, timesteps integer DEFAULT 8, seed bigint DEFAULT 0,
	vae text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty(bytea, bigint, text, integer, bigint, text) IS
	'diffusion difficulty: mean squared error of the predicted noise over the timesteps (1 to 1000) and all elements; higher is harder. PNG, JPEG or WebP, cropped and resized as ADM does, for a latent model to its posterior mean by autoencoder vae (the model''s own by default), scaled; noise depends on seed and timestep alone. Huang et al., arXiv 2507.05914. Not for indexes, generated columns or CHECK';

CREATE FUNCTION d2c_difficulty_latent(latent tensor, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0) RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_latent(tensor, bigint, text, integer, bigint) IS
	'd2c_difficulty of what the model takes itself: a tensor [channels, height, width], for a latent model the posterior mean times its scale';

CREATE FUNCTION d2c_difficulty_prompt(image bytea, prompt text, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, label bigint DEFAULT 0, vae text DEFAULT '', text_model text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_prompt(bytea, text, text, integer, bigint, bigint, text, text) IS
	'd2c_difficulty of an image with a prompt, by a SiT that was trained with text embeddings (DC-Embedding): the prompt is embedded by text_model (what the model''s description names by default) in as many tokens as the model takes; label is the class beside it, 0 where there are captions alone. Huang et al., arXiv 2507.05914, text-to-image';

CREATE FUNCTION d2c_difficulty_prompt_batched(image bytea, prompt text, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, label bigint DEFAULT 0, vae text DEFAULT '', text_model text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_prompt_batched(bytea, text, text, integer, bigint, bigint, text, text) IS
	'd2c_difficulty_prompt as a window function that looks ahead a batch: the same values, faster. Use OVER ()';

CREATE FUNCTION d2c_difficulty_curve(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS double precision[]
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_curve(bytea, bigint, text, integer, bigint, text) IS
	'the errors at each of the timesteps, from noise to data (DiT: from data to noise), whose mean is d2c_difficulty';

CREATE FUNCTION d2c_difficulty_batched(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS double precision
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_batched(bytea, bigint, text, integer, bigint, text) IS
	'd2c_difficulty as a window function that looks ahead a batch: the same values, faster. Use OVER (); memory is bounded by d2c.batch_memory; NULL for a row with a NULL';

CREATE TYPE d2c_checked_score AS (score double precision, sqlstate text, error text);
COMMENT ON TYPE d2c_checked_score IS 'a score, or the SQLSTATE and the message of why there is none';

CREATE FUNCTION d2c_difficulty_checked(image bytea, label bigint, model text, timesteps integer DEFAULT 8,
	seed bigint DEFAULT 0, vae text DEFAULT '') RETURNS d2c_checked_score
	AS 'MODULE_PATHNAME' LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE COST 1000000;
COMMENT ON FUNCTION d2c_difficulty_checked(bytea, bigint, text, integer, bigint, text) IS
	'd2c_difficulty_batched that answers a bad row (damaged image, label out of range) with sqlstate and error in place of a score; errors of the model, the engine or memory end the query';

CREATE FUNCTION d2c_denoise(x tensor, t double precision, label bigint, model text) RETURNS tensor
	AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 200000;
COMMENT ON FUNCTION d2c_denoise(tensor, double precision, bigint, text) IS
	'raw output, f32, of a diffusion model at x [channels, height, width], time t and class label, -1 for none. SiT: the velocity, t from 0 (noise) to 1 (data); REPA: the velocity, t from 0 (data) to 1 (noise); DiT: the noise and behind it, with as many channels, the range of its variance, t from 0 (data) to 999 (noise)';
