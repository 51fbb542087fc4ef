-- KEYS: record, tombstone.
return read(KEYS[1], KEYS[2])
