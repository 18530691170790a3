-- pooling.sql: one vector of an embedding's tokens.

CREATE FUNCTION d2c_mean(tensor, axis integer, mask tensor) RETURNS tensor
	AS 'MODULE_PATHNAME', 'd2c_mean_masked' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 100;
COMMENT ON FUNCTION d2c_mean(tensor, integer, tensor) IS
	'd2c_mean of those positions of the axis where mask, a tensor of that one dimension, is 1 and not 0; NULL when there is none; d2c_mean(text_embedding, 0, text_mask) is the mean pooling of sentence-transformers';
