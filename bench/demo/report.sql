-- The demo's one table, from the results of all runs of a scale; psql -v scale=default -f report.sql
\set QUIET on
\pset footer off
\pset null '-'
\echo
\echo Distances: Frechet in PCA-64 of the training pixels, samples against as many test images; lower is better.
\echo Nearest: median distance (RMS over pixels, 0 to 1) of a sample to its nearest training image.
CREATE TEMP VIEW report AS
SELECT run,
       max(images) AS images,
       max(steps) AS steps,
       round(avg(seconds)) AS "train s",
       max(n) AS n,
       round(avg(frechet)::numeric, 2) AS "Frechet",
       round((4.303 * stddev_samp(frechet) / sqrt(count(*)))::numeric, 2) AS "+- 95 %",
       round(avg(frechet_classifier)::numeric, 2) AS "classifier",
       round(avg(nearest)::numeric, 4) AS nearest
FROM results
WHERE scale = :'scale'
GROUP BY run
ORDER BY run LIKE 'real%', array_position(ARRAY['random', 'selected', 'attached', 'full'], run), run;

SELECT :'scale' = 'full' AS is_full \gset
\if :is_full
TABLE report;
\echo Every ordering, by either distance: difference over the seeds with its 95 % interval (Student, two degrees of freedom).
WITH measured AS (
    SELECT run, seed, measure, value
    FROM results, LATERAL (VALUES ('Frechet', frechet), ('classifier', frechet_classifier)) m (measure, value)
    WHERE scale = :'scale' AND steps > 0
), compared AS (
    SELECT measure, a.run AS one, b.run AS other, avg(a.value - b.value) AS difference,
           4.303 * stddev_samp(a.value - b.value) / sqrt(count(*)) AS half
    FROM measured a JOIN measured b USING (measure, seed)
    WHERE a.run < b.run
    GROUP BY measure, a.run, b.run
)
SELECT measure, one AS "run", other AS "minus", round(difference::numeric, 2) AS "difference",
       round((difference - half)::numeric, 2) AS "from", round((difference + half)::numeric, 2) AS "to",
       CASE WHEN difference < -half THEN one || ' is better' WHEN difference > half THEN other || ' is better'
            ELSE 'not told apart' END AS "reading"
FROM compared
ORDER BY measure DESC, one, other;
\else
SELECT run, images, steps, "train s", n, "Frechet", nearest FROM report;
\echo This run is too short to rank the subsets, whichever way it came out: one seed, a minute or two of training each, and
\echo a small model; another seed can turn the order round.  make demo SCALE=full trains longer, over three seeds, and
\echo prints every ordering with its interval.
\endif
