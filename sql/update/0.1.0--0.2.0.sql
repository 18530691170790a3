-- What an update from 0.1.0 to 0.2.0 takes away: signatures that changed.  The Makefile puts the parts behind it in which
-- something was added or changed, with OR REPLACE.

DROP PROCEDURE d2c_attach(regclass, text, text, text, text, integer, integer, text, text, text, text);
DROP PROCEDURE d2c_attach_all(text, text, integer, text, integer);
DROP FUNCTION d2c_attach_page(text, text, text, text, integer, integer, text);
DROP FUNCTION d2c_attach_parameters(text, text, integer, text, integer);
DROP FUNCTION d2c_interval_plan(text, integer, integer);
DROP FUNCTION d2c_warn_small_classes(text, integer, integer);
DROP FUNCTION d2c_report_plan(text, text, text, integer, integer);
DROP PROCEDURE d2c_condense(regclass, text, text, integer, integer, text, text, text, text, boolean, integer, bigint, integer, integer, text, text, text, text, integer);
DROP PROCEDURE d2c_score(regclass, text, text, integer, bigint, text, text, text, integer, integer, text);

-- What has become true of aggregates that were there.
COMMENT ON AGGREGATE d2c_select_ccs(bigint, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';
COMMENT ON AGGREGATE d2c_select_ccs(text, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';
COMMENT ON AGGREGATE d2c_select_ccs(uuid, double precision, integer, double precision, bigint) IS
	'coverage-centric selection (CCS, Zheng et al., ICLR 2023): the share cut of the rows that score highest is left out, the range of the other scores is cut into 50 strata of equal width, the budget n is divided among them, smallest first: min(size, rest of the budget / rest of the strata); within a stratum rows are drawn by (seed, id). NULL scores are left out; NaN is an error, and so are infinite scores that are not cut';
COMMENT ON AGGREGATE d2c_select_product(bigint, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';
COMMENT ON AGGREGATE d2c_select_product(text, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';
COMMENT ON AGGREGATE d2c_select_product(uuid, double precision[], double precision[], integer) IS
	'the n rows with the greatest product over i of objectives[i] ^ strengths[i] (the rule by which LightlyStudio combines strategies; here exactly n rows of each group), greatest first; objectives are at least 0, a negative strength prefers small ones, strength 0 ignores one; a row without objectives, or with a NULL among those that count, is left out; equal products, as far as the rounding of their logarithms lets them be equal, to the lowest id';
COMMENT ON AGGREGATE d2c_moments(tensor) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, of means some 1e-14 of their size, of comoments some 1e-14 of size times spread for each vector; NULLs are left out';
COMMENT ON AGGREGATE d2c_moments(real[]) IS
	'moments of feature vectors in double precision; another order of rows or another division among workers differs by rounding, of means some 1e-14 of their size, of comoments some 1e-14 of size times spread for each vector; NULLs are left out';
