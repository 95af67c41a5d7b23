"""The vector that the fake service gives to a text, so that a test can compute it again.

The SHA-256 digests of "key \\n text \\n 0", "key \\n text \\n 1", ... are joined and cut to the number of
dimensions; a byte b becomes (2b - 255) / 256.  Every such value is exact in float32 and in eight decimals,
none is 0, and two texts never share a vector: a test may demand equality.  The vectors are not normalised.
"""

import base64
import hashlib
import struct

VALUES = [(2 * b - 255) / 256 for b in range(256)]
DECIMALS = [repr(v) for v in VALUES]
FLOATS = [struct.pack("<f", v) for v in VALUES]


def digest(text, dims, key=""):
    """The bytes the vector is made of, one for each dimension."""
    start = hashlib.sha256(f"{key}\n{text}\n".encode("utf-8", "surrogatepass"))
    blocks = []
    for i in range(-(-dims // 32)):
        block = start.copy()
        block.update(b"%d" % i)
        blocks.append(block.digest())
    return b"".join(blocks)[:dims]


def vector(text, dims, key=""):
    return [VALUES[b] for b in digest(text, dims, key)]


def decimals(text, dims, key=""):
    """The vector's elements as JSON writes them."""
    return [DECIMALS[b] for b in digest(text, dims, key)]


def packed(text, dims, key=""):
    """The vector as little-endian float32, base64."""
    return base64.b64encode(b"".join([FLOATS[b] for b in digest(text, dims, key)])).decode()


# The same in SQL; the TAP tests create it in their databases.
SQL = r"""
CREATE FUNCTION expected_array(input text, dims int, key text DEFAULT '') RETURNS real[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
	SELECT array_agg(((2 * get_byte(block, j) - 255) / 256.0)::real ORDER BY i, j)
	FROM generate_series(0, (dims + 31) / 32 - 1) AS i,
		LATERAL sha256(convert_to(key || E'\n' || input || E'\n' || i, 'UTF8')) AS block,
		generate_series(0, 31) AS j
	WHERE i * 32 + j < dims
$$;
"""
SQL_VECTOR = r"""
CREATE FUNCTION expected_vector(input text, dims int, key text DEFAULT '') RETURNS vector
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS 'SELECT expected_array(input, dims, key)::vector';
"""
