"""How it is sealed: keys, signatures, sessions and envelopes. Bytes in, bytes out."""
