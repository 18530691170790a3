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
