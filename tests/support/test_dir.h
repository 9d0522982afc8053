/*
 * A fresh directory for a test that needs the real file system, under $TMPDIR or /tmp.
 * Failures end the test through cmocka's fail_msg(). One thread.
 */
#ifndef TEST_DIR_H
#define TEST_DIR_H

#include <limits.h>

struct test_dir {
    char path[PATH_MAX]; /* absolute or as $TMPDIR has it; no slash at the end */
};

/* Make it, empty, for the owner only. */
void test_dir_init(struct test_dir *dir);
/* Remove it with all that is in it; symbolic links are removed, not followed. */
void test_dir_fini(struct test_dir *dir);

#endif
