-- Both versions of pgvector have the same catalog but for comments: a step on the way to 1.0.0.
\echo Use "ALTER EXTENSION vector UPDATE" to load this file. \quit
