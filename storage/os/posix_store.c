/*
 * The real os layer: stores through a mapping, for a log that is appended to in small pieces.
 *
 *     file     | blocks allocated                                       |
 *     window              [ populated, dirty | mapped, not touched yet ]
 *                                    ^ the next store
 *
 * A write(2) of 130 bytes costs 550 ns, a copy into a page that is mapped and dirty 20 ns, and the
 * page's first touch 2 us, once for some thirty of them. Both end in the same page: the mapping is
 * shared, so what was stored is the kernel's when the copy returns, outlives the process like a
 * write, is seen by every pread(2) that comes after it (Linux has one page cache for both), and is
 * made durable by fdatasync(2), which looks for pages that were dirtied through mappings too.
 *
 * A store into a mapping can fail in one way only: by SIGBUS, where the kernel finds no block for a
 * page or can not read it. Blocks are there, because only what was allocated is stored to, and only
 * on file systems that write in place do they stay there (those that copy on write take a new block
 * each time, and may find none). And the pages are made present and writable before they are
 * stored to, by MADV_POPULATE_WRITE, which reports what would have been a SIGBUS as an error; then
 * the caller goes back to pwritev and meets the reason there. What is left is a page that was
 * populated, written back, evicted and then can not be read again, within the few moments until the
 * log has passed it: then the process ends as by a kill -9, and loses no more than by that.
 *
 * MADV_RANDOM keeps the kernel from reading ahead: that would fill the window with large folios,
 * each of which is written out as a whole for a few bytes in it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "os/posix.h"

/* linux/mman.h; the C library of the oldest systems that we build on does not have it. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

enum {
    PAGE = 4096, /* with larger ones mmap refuses most places, and pwritev serves */
    /* Mapped at a time. Unmapping it takes some 30 us, once for 7,000 small records. */
    WINDOW = 1 << 20,
};

/* File systems that write in place what was allocated: linux/magic.h. */
enum { MAGIC_EXT4 = 0xef53, MAGIC_XFS = 0x58465342, MAGIC_TMPFS = 0x01021994 };

static bool writes_in_place(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) == 0 &&
           (fs.f_type == MAGIC_EXT4 || fs.f_type == MAGIC_XFS || fs.f_type == MAGIC_TMPFS);
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

void sdb_posix_window_drop(struct sdb_posix_window *window)
{
    if (window->at != NULL)
        (void)munmap(window->at, (size_t)(window->end - window->begin));
    window->at = NULL;
}

/* Put the window where [offset, end) lies in it. */
static bool move_window(struct sdb_posix_file *self, uint64_t offset, uint64_t end)
{
    struct sdb_posix_window *window = &self->window;
    uint64_t begin = offset / PAGE * PAGE;
    uint64_t most = end - begin > WINDOW ? round_up(end, PAGE) : begin + WINDOW;
    struct stat st;
    void *at;

    sdb_posix_window_drop(window);
    if (fstat(self->fd, &st) != 0 || (uint64_t)st.st_size < end || !writes_in_place(self->fd))
        return false;
    if (most > round_up((uint64_t)st.st_size, PAGE))
        most = round_up((uint64_t)st.st_size, PAGE);
    at = mmap(NULL, (size_t)(most - begin), PROT_READ | PROT_WRITE, MAP_SHARED, self->fd,
              (off_t)begin);
    if (at == MAP_FAILED)
        return false;
    window->at = at;
    window->begin = begin;
    window->end = most;
    window->populated = begin;
    (void)madvise(at, (size_t)(most - begin), MADV_RANDOM);
    return true;
}

/*
 * Make the pages up to `end` present and writable, and none before its time: for small records that
 * is one in thirty, which then takes 2 us. With 16 KiB at once one in a hundred takes 12 us, and
 * all together take as long.
 */
static bool populate(struct sdb_posix_window *window, uint64_t end)
{
    uint64_t wanted = round_up(end, PAGE);
    int rc;

    do {
        rc = madvise(window->at + (window->populated - window->begin),
                     (size_t)(wanted - window->populated), MADV_POPULATE_WRITE);
    } while (rc != 0 && (errno == EINTR || errno == EAGAIN));
    if (rc != 0)
        return false;
    window->populated = wanted;
    return true;
}

storm_status sdb_posix_store(struct sdb_file *file, uint64_t offset, const struct iovec *parts,
                             int count)
{
    struct sdb_posix_file *self = (struct sdb_posix_file *)file;
    struct sdb_posix_window *window = &self->window;
    uint64_t end = offset;
    uint8_t *to;

    for (int i = 0; i < count; i++)
        end += parts[i].iov_len;
    if (window->at == NULL || offset < window->begin || end > window->end) {
        if (!move_window(self, offset, end))
            return STORM_UNSUPPORTED;
    }
    if (end > window->populated && !populate(window, end)) {
        sdb_posix_window_drop(window);
        return STORM_UNSUPPORTED;
    }
    to = window->at + (offset - window->begin);
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len == 0) /* its address may be NULL */
            continue;
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    return STORM_OK;
}
