/*
 * CRC-32C (Castagnoli): SSE4.2 or ARMv8 instructions where the processor has them, a table
 * otherwise; both give the same value. Chosen once, at the first call. Threads: any.
 */
#ifndef SDB_UTIL_CRC32C_H
#define SDB_UTIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* The checksum of `data` appended to bytes whose checksum is `crc` (0 for none). */
uint32_t sdb_crc32c(uint32_t crc, const void *data, size_t size);

/* The portable version, for tests to compare with. */
uint32_t sdb_crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
