\echo Use "CREATE EXTENSION vecsync CASCADE" to load this file. \quit

GRANT USAGE ON SCHEMA vecsync TO PUBLIC;

