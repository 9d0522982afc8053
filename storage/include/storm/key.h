/*
 * Keys made of numbers and strings, so that the store's order of bytes is the order you mean.
 *
 * Written plainly, 10 sorts before 9 as text, and -1 after 1 as a machine word. The encodings here
 * sort as their values do: negative before positive, "a" before "ab", (1, "z") before (2, "a").
 *
 * There are two forms. Do not mix them in one range of keys.
 *
 * 1. Bare: the whole key is one value of one type. 4 or 8 bytes for numbers, 1 for bool, nothing
 *    around it. A string needs no encoding: use storm_text() or storm_bytes() as it is.
 *
 *        uint8_t room[8];
 *        storm_put(db, storm_key_i64(room, -42), value);
 *        ...
 *        int64_t number;
 *        status = storm_key_to_i64(storm_iter_key(iter), &number);
 *
 * 2. Tuple: any number of elements, each with its type in front. The order is that of the first
 *    elements; where they are equal, that of the second ones; and so on; a shorter tuple comes
 *    before the longer ones that begin with it. A tuple's bytes are the beginning of the bytes of
 *    exactly those tuples that begin with it, so "all orders of customer 42" is a range:
 *
 *        uint8_t room[64], end_room[64];
 *        struct storm_key_writer writer = storm_key_writer(room, sizeof room);
 *        storm_key_add_text(&writer, storm_text("order"));
 *        storm_key_add_i64(&writer, 42);                   // customer
 *        struct storm_slice prefix;
 *        status = storm_key_finish(&writer, &prefix);      // once, for all that was added
 *
 *        struct storm_iter_options range = {.start = prefix,
 *                                           .end = storm_key_prefix_end(end_room, prefix)};
 *        storm_iter *iter;
 *        status = storm_iter_create(db, &range, &iter);
 *        for (storm_iter_first(iter); storm_iter_valid(iter); storm_iter_next(iter)) {
 *            struct storm_key_reader reader = storm_key_reader(storm_iter_key(iter));
 *            double amount;
 *            if (storm_key_skip(&reader) == STORM_OK &&     // "order"
 *                storm_key_skip(&reader) == STORM_OK &&     // 42
 *                storm_key_next_double(&reader, &amount) == STORM_OK)
 *                printf("%g\n", amount);
 *        }
 *
 * Values
 *   integer  In a tuple there is one kind, from -2^63 to 2^64 - 1, in 1 to 9 bytes: the same number
 *            has the same bytes whichever function wrote it, and numbers sort as numbers. Bare
 *            integers have the width of their type; signed and unsigned ones do not sort together.
 *   double   The total order of IEEE 754: -NaN, -infinity, ..., -0.0, 0.0, ..., infinity, NaN. All bits
 *            come back. -0.0 and 0.0 are two keys, and so are NaNs of different bits; if -0.0
 *            shall mean 0.0, add 0.0 to the number before you encode it.
 *   text     UTF-8 by agreement, not checked; sorts by bytes, which is the order of code points.
 *   bytes    The same without the agreement. May hold any byte, zeroes too.
 *   bool     false before true.
 * Elements of different types sort by type: bytes, text, integer, double, bool.
 *
 * Threads: plain values without hidden state. Nothing here allocates or keeps a pointer of yours
 * beyond what its struct shows. These encodings are stable: they will not change in any release.
 */
#ifndef STORM_KEY_H
#define STORM_KEY_H

#include <storm/storm.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Bare keys ------------------------------------------------------------------------------- */

static inline void storm_key_store_(uint8_t *to, unsigned size, uint64_t x)
{
    while (size-- > 0) {
        to[size] = (uint8_t)x;
        x >>= 8;
    }
}

static inline uint64_t storm_key_load_(const uint8_t *from, unsigned size)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < size; i++)
        x = x << 8 | from[i];
    return x;
}

/* A double's bits, so that they sort as unsigned numbers; and back. */
static inline uint64_t storm_key_double_bits_(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 ? ~bits : bits | UINT64_C(1) << 63;
}

static inline double storm_key_bits_double_(uint64_t bits)
{
    double x;
    bits = bits >> 63 ? bits & ~(UINT64_C(1) << 63) : ~bits;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Each writes the key into `room` and returns it as a slice of `room`. */
static inline struct storm_slice storm_key_u32(uint8_t room[4], uint32_t x)
{
    storm_key_store_(room, 4, x);
    return storm_bytes(room, 4);
}

static inline struct storm_slice storm_key_u64(uint8_t room[8], uint64_t x)
{
    storm_key_store_(room, 8, x);
    return storm_bytes(room, 8);
}

static inline struct storm_slice storm_key_i32(uint8_t room[4], int32_t x)
{
    return storm_key_u32(room, (uint32_t)x ^ UINT32_C(1) << 31);
}

static inline struct storm_slice storm_key_i64(uint8_t room[8], int64_t x)
{
    return storm_key_u64(room, (uint64_t)x ^ UINT64_C(1) << 63);
}

static inline struct storm_slice storm_key_double(uint8_t room[8], double x)
{
    return storm_key_u64(room, storm_key_double_bits_(x));
}

static inline struct storm_slice storm_key_bool(uint8_t room[1], bool x)
{
    room[0] = x;
    return storm_bytes(room, 1);
}

/* Each reads back what its namesake wrote. STORM_INVALID, and *x 0, for a key of another size, or a
 * bool that is neither. */
static inline STORM_MUST_CHECK storm_status storm_key_to_u32(struct storm_slice key, uint32_t *x)
{
    *x = key.size == 4 ? (uint32_t)storm_key_load_(key.data, 4) : 0;
    return key.size == 4 ? STORM_OK : STORM_INVALID;
}

static inline STORM_MUST_CHECK storm_status storm_key_to_u64(struct storm_slice key, uint64_t *x)
{
    *x = key.size == 8 ? storm_key_load_(key.data, 8) : 0;
    return key.size == 8 ? STORM_OK : STORM_INVALID;
}

static inline STORM_MUST_CHECK storm_status storm_key_to_i32(struct storm_slice key, int32_t *x)
{
    *x = key.size == 4 ? (int32_t)(storm_key_load_(key.data, 4) ^ UINT32_C(1) << 31) : 0;
    return key.size == 4 ? STORM_OK : STORM_INVALID;
}

static inline STORM_MUST_CHECK storm_status storm_key_to_i64(struct storm_slice key, int64_t *x)
{
    *x = key.size == 8 ? (int64_t)(storm_key_load_(key.data, 8) ^ UINT64_C(1) << 63) : 0;
    return key.size == 8 ? STORM_OK : STORM_INVALID;
}

static inline STORM_MUST_CHECK storm_status storm_key_to_double(struct storm_slice key, double *x)
{
    *x = key.size == 8 ? storm_key_bits_double_(storm_key_load_(key.data, 8)) : 0;
    return key.size == 8 ? STORM_OK : STORM_INVALID;
}

static inline STORM_MUST_CHECK storm_status storm_key_to_bool(struct storm_slice key, bool *x)
{
    bool known = key.size == 1 && key.data[0] <= 1;
    *x = known && key.data[0] == 1;
    return known ? STORM_OK : STORM_INVALID;
}

/* ---- Writing tuples -------------------------------------------------------------------------- */

/*
 * A tuple being put together in memory of yours. What does not fit is counted and not written, so a
 * run of adds is checked once, by storm_key_finish(). To start over, make a new one.
 */
struct storm_key_writer {
    uint8_t *data; /* yours */
    size_t room;
    size_t size; /* what the tuple takes, even if that is more than `room` */
};

static inline struct storm_key_writer storm_key_writer(void *data, size_t room)
{
    struct storm_key_writer writer = {(uint8_t *)data, room, 0};
    return writer;
}

STORM_API void storm_key_add_bytes(struct storm_key_writer *writer, struct storm_slice x);
STORM_API void storm_key_add_text(struct storm_key_writer *writer, struct storm_slice x);
STORM_API void storm_key_add_i64(struct storm_key_writer *writer, int64_t x);
STORM_API void storm_key_add_u64(struct storm_key_writer *writer, uint64_t x);
STORM_API void storm_key_add_double(struct storm_key_writer *writer, double x);
STORM_API void storm_key_add_bool(struct storm_key_writer *writer, bool x);

static inline void storm_key_add_i32(struct storm_key_writer *writer, int32_t x)
{
    storm_key_add_i64(writer, x);
}

static inline void storm_key_add_u32(struct storm_key_writer *writer, uint32_t x)
{
    storm_key_add_u64(writer, x);
}

/* The tuple so far, a slice of the writer's memory; more may be added afterwards. STORM_TOO_LARGE,
 * and an empty *key, when it did not fit: writer->size says how much room it takes. */
static inline STORM_MUST_CHECK storm_status storm_key_finish(const struct storm_key_writer *writer,
                                                             struct storm_slice *key)
{
    bool fits = writer->size <= writer->room;
    *key = storm_bytes(fits ? writer->data : NULL, fits ? writer->size : 0);
    return fits ? STORM_OK : STORM_TOO_LARGE;
}

/*
 * The end of the range of all keys that begin with `prefix`: the smallest key after them, written
 * into `room`, which has prefix.size bytes. Empty when there is none (an empty prefix, or all
 * 0xff), which storm_iter_options takes as "no bound". For any bytes, not only tuples.
 */
STORM_API struct storm_slice storm_key_prefix_end(uint8_t *room, struct storm_slice prefix);

/* ---- Reading tuples -------------------------------------------------------------------------- */

/* What is left of a tuple. Borrows the key. */
struct storm_key_reader {
    const uint8_t *at;
    size_t left;
};

static inline struct storm_key_reader storm_key_reader(struct storm_slice key)
{
    struct storm_key_reader reader = {key.data, key.size};
    return reader;
}

enum storm_key_type {
    STORM_KEY_END = 0, /* no element is left */
    STORM_KEY_BYTES,
    STORM_KEY_TEXT,
    STORM_KEY_INTEGER,
    STORM_KEY_DOUBLE,
    STORM_KEY_BOOL,
    STORM_KEY_UNKNOWN, /* not the beginning of an element */
};

/* What comes next. Does not move the reader. */
STORM_API enum storm_key_type storm_key_next_type(const struct storm_key_reader *reader);

/*
 * Read the next element. STORM_INVALID when there is none, it is of another type, its number does
 * not fit the type of *x, or the bytes are not what a writer would have written; *x is then 0 or
 * empty. A failed read does not move the reader. Any bytes may be given: nothing past them is read.
 */
STORM_API STORM_MUST_CHECK storm_status storm_key_next_i32(struct storm_key_reader *reader,
                                                           int32_t *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_i64(struct storm_key_reader *reader,
                                                           int64_t *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_u32(struct storm_key_reader *reader,
                                                           uint32_t *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_u64(struct storm_key_reader *reader,
                                                           uint64_t *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_double(struct storm_key_reader *reader,
                                                              double *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_bool(struct storm_key_reader *reader,
                                                            bool *x);

/*
 * The same for bytes and text. *x borrows the key when it can, and `scratch` when the string holds
 * zero bytes, which the key has escaped; STORM_TOO_LARGE when it then does not fit `room`. As much
 * room as the key has bytes is always enough; NULL and 0 will do for strings without zero bytes.
 */
STORM_API STORM_MUST_CHECK storm_status storm_key_next_bytes(struct storm_key_reader *reader,
                                                             void *scratch, size_t room,
                                                             struct storm_slice *x);
STORM_API STORM_MUST_CHECK storm_status storm_key_next_text(struct storm_key_reader *reader,
                                                            void *scratch, size_t room,
                                                            struct storm_slice *x);

/* Pass over the next element, whatever it is. STORM_INVALID when there is none or it is
 * malformed. */
STORM_API STORM_MUST_CHECK storm_status storm_key_skip(struct storm_key_reader *reader);

#ifdef __cplusplus
}
#endif

#endif
