/* Typed keys: for every type and for mixed tuples, bytes sort as values do, come back as they were,
 * and nothing but what a writer writes is read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>

#include "lsm/entry.h"
#include "random.h"
#include "storm/key.h"

enum { COUNT = 600 };

static int sign(int x)
{
    return (x > 0) - (x < 0);
}

#define ORDER(a, b) (((a) > (b)) - ((a) < (b)))

/* ---- Numbers: the edges of every width, and random ones of every size ---- */

static uint64_t some_bits(size_t i, uint64_t *seed)
{
    if (i < 64)
        return UINT64_C(1) << i;
    if (i < 128)
        return (UINT64_C(1) << (i - 64)) - 1;
    if (i < 192)
        return UINT64_MAX << (i - 128);
    if (i < 256)
        return ~(UINT64_C(1) << (i - 192));
    return random_u64(seed) >> random_below(seed, 64);
}

static struct storm_slice tuple_of_i64(uint8_t room[16], int64_t x)
{
    struct storm_slice key;
    struct storm_key_writer writer = storm_key_writer(room, 16);
    storm_key_add_i64(&writer, x);
    assert_int_equal(storm_key_finish(&writer, &key), STORM_OK);
    return key;
}

static struct storm_slice tuple_of_u64(uint8_t room[16], uint64_t x)
{
    struct storm_slice key;
    struct storm_key_writer writer = storm_key_writer(room, 16);
    storm_key_add_u64(&writer, x);
    assert_int_equal(storm_key_finish(&writer, &key), STORM_OK);
    return key;
}

static struct storm_slice tuple_of_double(uint8_t room[16], double x)
{
    struct storm_slice key;
    struct storm_key_writer writer = storm_key_writer(room, 16);
    storm_key_add_double(&writer, x);
    assert_int_equal(storm_key_finish(&writer, &key), STORM_OK);
    return key;
}

/* Both forms of one pair have the order of the values. */
#define CHECK_ORDER(bare, tuple, a, b)                                                             \
    do {                                                                                           \
        uint8_t room_a[16], room_b[16];                                                            \
        int wanted = ORDER(a, b);                                                                  \
        assert_int_equal(sign(sdb_key_compare(bare(room_a, a), bare(room_b, b))), wanted);         \
        assert_int_equal(sign(sdb_key_compare(tuple(room_a, a), tuple(room_b, b))), wanted);       \
    } while (0)

static void integers_sort_as_numbers(void **state)
{
    (void)state;
    uint64_t seed = random_seed(1);
    uint64_t bits[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        bits[i] = some_bits(i, &seed);
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < COUNT; k++) {
            uint64_t a = bits[i];
            uint64_t b = bits[k];
            CHECK_ORDER(storm_key_u64, tuple_of_u64, a, b);
            CHECK_ORDER(storm_key_i64, tuple_of_i64, (int64_t)a, (int64_t)b);
            CHECK_ORDER(storm_key_u32, tuple_of_u64, (uint32_t)a, (uint32_t)b);
            CHECK_ORDER(storm_key_i32, tuple_of_i64, (int32_t)a, (int32_t)b);
        }
    }
}

static void integers_come_back(void **state)
{
    (void)state;
    uint64_t seed = random_seed(2);
    for (size_t i = 0; i < 3000; i++) {
        uint8_t room[16];
        uint64_t bits = some_bits(i, &seed);
        uint64_t u64;
        int64_t i64;
        uint32_t u32;
        int32_t i32;
        assert_int_equal(storm_key_to_u64(storm_key_u64(room, bits), &u64), STORM_OK);
        assert_true(u64 == bits);
        assert_int_equal(storm_key_to_i64(storm_key_i64(room, (int64_t)bits), &i64), STORM_OK);
        assert_true(i64 == (int64_t)bits);
        assert_int_equal(storm_key_to_u32(storm_key_u32(room, (uint32_t)bits), &u32), STORM_OK);
        assert_true(u32 == (uint32_t)bits);
        assert_int_equal(storm_key_to_i32(storm_key_i32(room, (int32_t)bits), &i32), STORM_OK);
        assert_true(i32 == (int32_t)bits);

        /* In tuples: by each reader whose type can hold the number, and by no other. */
        int64_t x = (int64_t)bits;
        struct storm_slice key = tuple_of_i64(room, x);
        struct storm_key_reader reader = storm_key_reader(key);
        assert_int_equal(storm_key_next_type(&reader), STORM_KEY_INTEGER);
        assert_int_equal(storm_key_next_i64(&reader, &i64), STORM_OK);
        assert_true(i64 == x && reader.left == 0);
        reader = storm_key_reader(key);
        bool fits = x >= INT32_MIN && x <= INT32_MAX;
        assert_int_equal(storm_key_next_i32(&reader, &i32), fits ? STORM_OK : STORM_INVALID);
        assert_true(i32 == (fits ? x : 0) && (reader.left == 0) == fits);
        reader = storm_key_reader(key);
        assert_int_equal(storm_key_next_u64(&reader, &u64), x >= 0 ? STORM_OK : STORM_INVALID);
        assert_true(u64 == (x >= 0 ? bits : 0) && (reader.left == 0) == (x >= 0));
        reader = storm_key_reader(key);
        fits = x >= 0 && x <= UINT32_MAX;
        assert_int_equal(storm_key_next_u32(&reader, &u32), fits ? STORM_OK : STORM_INVALID);
        assert_true(u32 == (fits ? bits : 0));

        reader = storm_key_reader(tuple_of_u64(room, bits));
        fits = bits <= INT64_MAX;
        assert_int_equal(storm_key_next_i64(&reader, &i64), fits ? STORM_OK : STORM_INVALID);
        assert_int_equal(storm_key_next_u64(&reader, &u64), fits ? STORM_INVALID : STORM_OK);
    }
}

static void one_number_has_one_encoding_in_tuples(void **state)
{
    (void)state;
    uint8_t a[16];
    uint8_t b[16];
    const int64_t numbers[] = {0, 1, 255, 256, INT32_MAX, INT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        assert_int_equal(
            sdb_key_compare(tuple_of_i64(a, numbers[i]), tuple_of_u64(b, (uint64_t)numbers[i])), 0);
    assert_int_equal(tuple_of_i64(a, 0).size, 1);
    assert_int_equal(tuple_of_i64(a, -255).size, 2);
    assert_int_equal(tuple_of_i64(a, 256).size, 3);
    assert_int_equal(tuple_of_i64(a, INT64_MIN).size, 9);
}

/* ---- Doubles ---- */

static double from_bits(uint64_t bits)
{
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void doubles_sort_in_the_total_order(void **state)
{
    (void)state;
    uint64_t seed = random_seed(3);
    /* Ascending, with the places of -0.0 and of both NaNs. */
    const double edges[] = {from_bits(UINT64_C(0xfff8000000000001)),
                            from_bits(UINT64_C(0xfff8000000000000)),
                            -INFINITY,
                            -DBL_MAX,
                            -2,
                            -1.5,
                            -1,
                            -DBL_MIN,
                            -from_bits(1),
                            -0.0,
                            0.0,
                            from_bits(1),
                            DBL_MIN,
                            1,
                            1.5,
                            2,
                            DBL_MAX,
                            INFINITY,
                            from_bits(UINT64_C(0x7ff8000000000000)),
                            from_bits(UINT64_C(0x7ff8000000000001))};
    enum { EDGES = sizeof edges / sizeof edges[0] };
    uint8_t a[16];
    uint8_t b[16];
    for (size_t i = 0; i < EDGES; i++) {
        for (size_t k = 0; k < EDGES; k++) {
            assert_int_equal(
                sign(sdb_key_compare(storm_key_double(a, edges[i]), storm_key_double(b, edges[k]))),
                ORDER(i, k));
            assert_int_equal(
                sign(sdb_key_compare(tuple_of_double(a, edges[i]), tuple_of_double(b, edges[k]))),
                ORDER(i, k));
        }
    }
    for (int i = 0; i < 20000; i++) {
        double x = from_bits(random_u64(&seed));
        double y = i % 2 == 0 ? from_bits(random_u64(&seed)) : x * (1 + DBL_EPSILON);
        if (isnan(x) || isnan(y) || (x == 0 && y == 0))
            continue;
        assert_int_equal(sign(sdb_key_compare(storm_key_double(a, x), storm_key_double(b, y))),
                         ORDER(x, y));
    }
}

static void doubles_come_back_bit_by_bit(void **state)
{
    (void)state;
    uint64_t seed = random_seed(4);
    for (size_t i = 0; i < 2000; i++) {
        uint8_t room[16];
        double x = from_bits(some_bits(i, &seed));
        double y;
        assert_int_equal(storm_key_to_double(storm_key_double(room, x), &y), STORM_OK);
        assert_memory_equal(&x, &y, sizeof x);
        struct storm_key_reader reader = storm_key_reader(tuple_of_double(room, x));
        assert_int_equal(storm_key_next_double(&reader, &y), STORM_OK);
        assert_memory_equal(&x, &y, sizeof x);
        assert_int_equal(storm_key_next_type(&reader), STORM_KEY_END);
    }
}

/* ---- Tuples: random ones from a small alphabet, so that many begin alike ---- */

enum { ELEMENTS_MAX = 4, STRING_MAX = 3 };

struct element {
    enum storm_key_type type;
    uint8_t bytes[STRING_MAX];
    size_t size;
    int64_t integer;
    double number;
    bool flag;
};

struct tuple {
    struct element elements[ELEMENTS_MAX];
    size_t count;
    uint8_t room[64];
    struct storm_slice key;
};

static struct element random_element(uint64_t *seed)
{
    static const uint8_t alphabet[] = {0x00, 0x01, 'a', 0xfe, 0xff};
    static const double numbers[] = {-INFINITY, -1.5, -0.0, 0.0, 2.25, INFINITY};
    struct element x = {.type = (enum storm_key_type)(1 + random_below(seed, 5))};
    x.size = random_below(seed, STRING_MAX + 1);
    for (size_t i = 0; i < x.size; i++)
        x.bytes[i] = alphabet[random_below(seed, sizeof alphabet)];
    x.integer = (int64_t)random_u64(seed) >> random_below(seed, 64);
    x.number = numbers[random_below(seed, sizeof numbers / sizeof numbers[0])];
    x.flag = random_below(seed, 2) == 1;
    return x;
}

static void write_element(struct storm_key_writer *writer, const struct element *x)
{
    switch (x->type) {
    case STORM_KEY_BYTES:
        storm_key_add_bytes(writer, storm_bytes(x->bytes, x->size));
        break;
    case STORM_KEY_TEXT:
        storm_key_add_text(writer, storm_bytes(x->bytes, x->size));
        break;
    case STORM_KEY_INTEGER:
        storm_key_add_i64(writer, x->integer);
        break;
    case STORM_KEY_DOUBLE:
        storm_key_add_double(writer, x->number);
        break;
    default:
        storm_key_add_bool(writer, x->flag);
        break;
    }
}

static void random_tuple(struct tuple *tuple, uint64_t *seed)
{
    struct storm_key_writer writer = storm_key_writer(tuple->room, sizeof tuple->room);
    tuple->count = random_below(seed, ELEMENTS_MAX + 1);
    for (size_t i = 0; i < tuple->count; i++) {
        tuple->elements[i] = random_element(seed);
        write_element(&writer, &tuple->elements[i]);
    }
    assert_int_equal(storm_key_finish(&writer, &tuple->key), STORM_OK);
}

static int compare_elements(const struct element *a, const struct element *b)
{
    if (a->type != b->type)
        return ORDER(a->type, b->type);
    switch (a->type) {
    case STORM_KEY_BYTES:
    case STORM_KEY_TEXT:
        return sign(
            sdb_key_compare(storm_bytes(a->bytes, a->size), storm_bytes(b->bytes, b->size)));
    case STORM_KEY_INTEGER:
        return ORDER(a->integer, b->integer);
    case STORM_KEY_DOUBLE:
        if (a->number == 0 && b->number == 0)
            return ORDER(!signbit(a->number), !signbit(b->number));
        return ORDER(a->number, b->number);
    default:
        return ORDER(a->flag, b->flag);
    }
}

/* Sets *begins to whether `a` is what `b` begins with. */
static int compare_tuples(const struct tuple *a, const struct tuple *b, bool *begins)
{
    *begins = false;
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        int order = compare_elements(&a->elements[i], &b->elements[i]);
        if (order != 0)
            return order;
    }
    *begins = a->count <= b->count;
    return ORDER(a->count, b->count);
}

static void tuples_sort_element_by_element(void **state)
{
    (void)state;
    uint64_t seed = random_seed(5);
    static struct tuple tuples[COUNT];
    uint8_t end_room[64];
    for (size_t i = 0; i < COUNT; i++)
        random_tuple(&tuples[i], &seed);
    for (size_t i = 0; i < COUNT; i++) {
        const struct tuple *a = &tuples[i];
        struct storm_slice end = storm_key_prefix_end(end_room, a->key);
        for (size_t k = 0; k < COUNT; k++) {
            const struct tuple *b = &tuples[k];
            bool begins;
            int wanted = compare_tuples(a, b, &begins);
            assert_int_equal(sign(sdb_key_compare(a->key, b->key)), wanted);
            /* The range of a prefix holds exactly the tuples that begin with it. */
            bool within = sdb_key_compare(a->key, b->key) <= 0 &&
                          (end.size == 0 || sdb_key_compare(b->key, end) < 0);
            assert_int_equal(within, begins);
        }
    }
}

static void tuples_come_back(void **state)
{
    (void)state;
    uint64_t seed = random_seed(6);
    for (int i = 0; i < 5000; i++) {
        struct tuple tuple;
        random_tuple(&tuple, &seed);
        struct storm_key_reader reader = storm_key_reader(tuple.key);
        struct storm_key_reader skipper = reader;
        for (size_t k = 0; k < tuple.count; k++) {
            struct element x = {.type = storm_key_next_type(&reader)};
            struct storm_slice bytes = {NULL, 0};
            uint8_t scratch[64];
            storm_status status;
            assert_int_equal(x.type, tuple.elements[k].type);
            if (x.type == STORM_KEY_BYTES)
                status = storm_key_next_bytes(&reader, scratch, sizeof scratch, &bytes);
            else if (x.type == STORM_KEY_TEXT)
                status = storm_key_next_text(&reader, scratch, sizeof scratch, &bytes);
            else if (x.type == STORM_KEY_INTEGER)
                status = storm_key_next_i64(&reader, &x.integer);
            else if (x.type == STORM_KEY_DOUBLE)
                status = storm_key_next_double(&reader, &x.number);
            else
                status = storm_key_next_bool(&reader, &x.flag);
            assert_int_equal(status, STORM_OK);
            assert_true(bytes.size <= sizeof x.bytes);
            if (bytes.size > 0)
                memcpy(x.bytes, bytes.data, bytes.size);
            x.size = bytes.size;
            assert_int_equal(compare_elements(&x, &tuple.elements[k]), 0);
            assert_int_equal(storm_key_skip(&skipper), STORM_OK);
            assert_int_equal(skipper.left, reader.left);
        }
        assert_int_equal(storm_key_next_type(&reader), STORM_KEY_END);
        assert_int_equal(storm_key_skip(&reader), STORM_INVALID);
    }
}

static void a_cut_tuple_is_refused_at_the_cut(void **state)
{
    (void)state;
    uint64_t seed = random_seed(7);
    for (int i = 0; i < 2000; i++) {
        struct tuple tuple;
        random_tuple(&tuple, &seed);
        for (size_t cut = 0; cut < tuple.key.size; cut++) {
            struct storm_key_reader reader = storm_key_reader(storm_bytes(tuple.key.data, cut));
            size_t read = 0;
            while (storm_key_skip(&reader) == STORM_OK)
                read++;
            assert_true(read < tuple.count);
            size_t left = reader.left;
            uint8_t scratch[64];
            struct storm_slice bytes;
            int64_t integer;
            double number;
            bool flag;
            assert_int_equal(storm_key_next_bytes(&reader, scratch, 64, &bytes), STORM_INVALID);
            assert_int_equal(storm_key_next_text(&reader, scratch, 64, &bytes), STORM_INVALID);
            assert_int_equal(storm_key_next_i64(&reader, &integer), STORM_INVALID);
            assert_int_equal(storm_key_next_double(&reader, &number), STORM_INVALID);
            assert_int_equal(storm_key_next_bool(&reader, &flag), STORM_INVALID);
            assert_int_equal(reader.left, left);
        }
    }
}

static void what_no_writer_writes_is_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[10];
        size_t size;
    } wrong[] = {
        {{0x00}, 1},                                                 /* no such type */
        {{0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 10},                     /* an integer of 9 bytes */
        {{0xff}, 1},                                                 /* no such type */
        {{0x15, 0x00}, 2},                                           /* 0 in one byte */
        {{0x16, 0x00, 0x01}, 3},                                     /* 1 in two bytes */
        {{0x13, 0xff}, 2},                                           /* -0 */
        {{0x12, 0xff, 0xfe}, 3},                                     /* -1 in two bytes */
        {{0x0c, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, 9}, /* -2^63 - 1 */
        {{0x02, 'a', 0x00, 0x02}, 4},                                /* no such escape */
        {{0x02, 'a', 0x00}, 3},                                      /* cut in the terminator */
        {{0x01, 0x00, 0xff}, 3},                                     /* no terminator */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct storm_key_reader reader =
            storm_key_reader(storm_bytes(wrong[i].bytes, wrong[i].size));
        uint8_t scratch[16];
        struct storm_slice bytes;
        int64_t integer;
        uint64_t natural;
        assert_int_equal(storm_key_skip(&reader), STORM_INVALID);
        assert_int_equal(storm_key_next_i64(&reader, &integer), STORM_INVALID);
        assert_int_equal(storm_key_next_u64(&reader, &natural), STORM_INVALID);
        assert_int_equal(storm_key_next_text(&reader, scratch, 16, &bytes), STORM_INVALID);
        assert_int_equal(storm_key_next_bytes(&reader, scratch, 16, &bytes), STORM_INVALID);
        assert_int_equal(reader.left, wrong[i].size);
    }
    struct storm_key_reader nothing = storm_key_reader(storm_bytes(NULL, 0));
    assert_int_equal(storm_key_next_type(&nothing), STORM_KEY_END);
    nothing = storm_key_reader(storm_bytes("\xff", 1));
    assert_int_equal(storm_key_next_type(&nothing), STORM_KEY_UNKNOWN);
}

static void bare_keys_of_a_wrong_size_are_refused(void **state)
{
    (void)state;
    const uint8_t bytes[9] = {2};
    for (size_t size = 0; size <= 9; size++) {
        struct storm_slice key = storm_bytes(size == 0 ? NULL : bytes, size);
        uint32_t u32;
        int32_t i32;
        uint64_t u64;
        int64_t i64;
        double number;
        bool flag;
        storm_status four = size == 4 ? STORM_OK : STORM_INVALID;
        storm_status eight = size == 8 ? STORM_OK : STORM_INVALID;
        assert_int_equal(storm_key_to_u32(key, &u32), four);
        assert_int_equal(storm_key_to_i32(key, &i32), four);
        assert_int_equal(storm_key_to_u64(key, &u64), eight);
        assert_int_equal(storm_key_to_i64(key, &i64), eight);
        assert_int_equal(storm_key_to_double(key, &number), eight);
        assert_int_equal(storm_key_to_bool(key, &flag), STORM_INVALID);
        assert_true(size == 4 || (u32 == 0 && i32 == 0));
        assert_true(size == 8 || (u64 == 0 && i64 == 0 && number == 0));
    }
    uint8_t room[1];
    bool flag;
    assert_int_equal(storm_key_to_bool(storm_key_bool(room, true), &flag), STORM_OK);
    assert_true(flag);
    assert_int_equal(storm_key_to_bool(storm_key_bool(room, false), &flag), STORM_OK);
    assert_false(flag);
}

static void too_little_room_is_told_once_at_the_end(void **state)
{
    (void)state;
    uint8_t whole[64];
    struct storm_slice key;
    struct storm_key_writer writer = storm_key_writer(whole, sizeof whole);
    for (size_t room = 0;; room++) {
        uint8_t small[64];
        memset(small, 0xee, sizeof small);
        writer = storm_key_writer(room == 0 ? NULL : small, room);
        storm_key_add_text(&writer, storm_text("user"));
        storm_key_add_i64(&writer, -1000);
        storm_key_add_bytes(&writer, storm_bytes("a\0b", 3));
        storm_key_add_bool(&writer, true);
        assert_int_equal(writer.size, 7 + 3 + 7 + 1);
        for (size_t i = room; i < sizeof small; i++)
            assert_int_equal(small[i], 0xee);
        if (storm_key_finish(&writer, &key) == STORM_OK) {
            assert_int_equal(room, writer.size);
            assert_int_equal(key.size, writer.size);
            break;
        }
        assert_int_equal(storm_key_finish(&writer, &key), STORM_TOO_LARGE);
        assert_int_equal(key.size, 0);
    }
}

static void strings_borrow_the_key_when_they_can(void **state)
{
    (void)state;
    uint8_t room[64];
    uint8_t scratch[3];
    struct storm_slice key;
    struct storm_slice x;
    struct storm_key_writer writer = storm_key_writer(room, sizeof room);
    storm_key_add_text(&writer, storm_text("plain"));
    storm_key_add_bytes(&writer, storm_bytes("a\0b", 3));
    assert_int_equal(storm_key_finish(&writer, &key), STORM_OK);
    struct storm_key_reader reader = storm_key_reader(key);
    assert_int_equal(storm_key_next_text(&reader, NULL, 0, &x), STORM_OK);
    assert_ptr_equal(x.data, room + 1);
    assert_int_equal(x.size, 5);
    /* Too little scratch is no reason to lose the place. */
    assert_int_equal(storm_key_next_bytes(&reader, scratch, 2, &x), STORM_TOO_LARGE);
    assert_int_equal(x.size, 0);
    assert_int_equal(storm_key_next_bytes(&reader, scratch, 3, &x), STORM_OK);
    assert_ptr_equal(x.data, scratch);
    assert_memory_equal(x.data, "a\0b", 3);
}

static void a_prefix_ends_where_it_should(void **state)
{
    (void)state;
    uint8_t room[4];
    struct storm_slice end = storm_key_prefix_end(room, storm_text("ab"));
    assert_int_equal(end.size, 2);
    assert_memory_equal(end.data, "ac", 2);
    end = storm_key_prefix_end(room, storm_bytes("a\xff\xff", 3));
    assert_int_equal(end.size, 1);
    assert_memory_equal(end.data, "b", 1);
    assert_int_equal(storm_key_prefix_end(room, storm_bytes("\xff\xff", 2)).size, 0);
    assert_int_equal(storm_key_prefix_end(room, storm_bytes(NULL, 0)).size, 0);
}

/* Stored keys depend on these bytes. */
static void the_bytes_never_change(void **state)
{
    (void)state;
    uint8_t room[64];
    struct storm_slice key;
    struct storm_key_writer writer = storm_key_writer(room, sizeof room);
    storm_key_add_bytes(&writer, storm_bytes("a\0", 2));
    storm_key_add_text(&writer, storm_text("b"));
    storm_key_add_i32(&writer, -2);
    storm_key_add_u32(&writer, 0);
    storm_key_add_i64(&writer, 300);
    storm_key_add_double(&writer, 1.0);
    storm_key_add_double(&writer, -1.0);
    storm_key_add_bool(&writer, false);
    storm_key_add_bool(&writer, true);
    assert_int_equal(storm_key_finish(&writer, &key), STORM_OK);
    static const uint8_t expected[] = {0x01, 'a',  0x00, 0xff, 0x00, 0x01, 0x02, 'b',  0x00,
                                       0x01, 0x13, 0xfd, 0x14, 0x16, 0x01, 0x2c, 0x21, 0xbf,
                                       0xf0, 0,    0,    0,    0,    0,    0,    0x21, 0x40,
                                       0x0f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x26, 0x27};
    assert_int_equal(key.size, sizeof expected);
    assert_memory_equal(key.data, expected, sizeof expected);
    assert_memory_equal(storm_key_i32(room, -1).data, "\x7f\xff\xff\xff", 4);
    assert_memory_equal(storm_key_u32(room, 1).data, "\0\0\0\x01", 4);
    assert_memory_equal(storm_key_i64(room, 1).data, "\x80\0\0\0\0\0\0\x01", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_sort_as_numbers),
        cmocka_unit_test(integers_come_back),
        cmocka_unit_test(one_number_has_one_encoding_in_tuples),
        cmocka_unit_test(doubles_sort_in_the_total_order),
        cmocka_unit_test(doubles_come_back_bit_by_bit),
        cmocka_unit_test(tuples_sort_element_by_element),
        cmocka_unit_test(tuples_come_back),
        cmocka_unit_test(a_cut_tuple_is_refused_at_the_cut),
        cmocka_unit_test(what_no_writer_writes_is_refused),
        cmocka_unit_test(bare_keys_of_a_wrong_size_are_refused),
        cmocka_unit_test(too_little_room_is_told_once_at_the_end),
        cmocka_unit_test(strings_borrow_the_key_when_they_can),
        cmocka_unit_test(a_prefix_ends_where_it_should),
        cmocka_unit_test(the_bytes_never_change),
    };
    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
