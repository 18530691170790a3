\echo Use "ALTER EXTENSION d2c UPDATE TO '0.2.0'" to load this file. \quit
