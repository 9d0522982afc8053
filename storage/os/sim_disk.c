/*
 * The twin's medium, second half: nodes, directories and the power switch.
 *
 * A directory has the names that are seen, the names that are durable, and the list of changes that
 * lead from the second to the first:
 *
 *     durable {CURRENT=a, 1.tmp=b}  --[remove 1.tmp, add CURRENT=b]-->  seen {CURRENT=b}
 *
 * sync_dir makes the list empty and the names durable. A power loss drops all of the list
 * (SIM_LOSE_ALL) or plays a part of it, each change by a coin, in order (SIM_KEEP_SOME, _TORN): so
 * a later removal may survive an earlier creation, as POSIX allows, but a rename is lost or kept as
 * a whole. A rename between directories is two changes, one in each.
 *
 * A new directory's own entry is in the list of its parent: until that is synced as well, whatever
 * was synced below it is lost with it. The root is always there.
 *
 * Nodes are counted by references: entries of either state, changes, handles. One whose last name
 * is removed lives on in the durable names until the directory is synced, and may come back.
 *
 * Memory: the twin stands for hardware, and tests that fail the n-th allocation mean the store's.
 * Where they do it through the linker's --wrap, the disk goes round it: its own allocations are
 * neither counted nor failed. When memory really is out, the program ends.
 */
#include "os/sim_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What --wrap=realloc calls the true one; NULL in a program that was linked without it. */
void *__real_realloc(void *old, size_t size) __attribute__((weak));

void *sim_memory(void *old, size_t size)
{
    void *memory = __real_realloc != NULL ? __real_realloc(old, size) : realloc(old, size);

    if (memory == NULL) {
        (void)fprintf(stderr, "sim: no memory for %zu bytes of the disk\n", size);
        abort();
    }
    return memory;
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;

    return memcpy(sim_memory(NULL, size), text, size);
}

uint64_t sim_random(struct sim_medium *medium)
{
    uint64_t x = medium->random += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* ---- Nodes and names ------------------------------------------------------------------------- */

static struct sim_node *node_create(struct sim_medium *medium, bool is_dir)
{
    struct sim_node *node = sim_memory(NULL, sizeof(*node));

    memset(node, 0, sizeof(*node));
    node->is_dir = is_dir;
    node->seen_names.is_seen = true;
    node->prev = medium->last;
    if (medium->last != NULL)
        medium->last->next = node;
    else
        medium->first = node;
    medium->last = node;
    return node;
}

void sim_node_ref(struct sim_node *node)
{
    node->refs++;
}

static struct sim_entry *names_find(const struct sim_names *names, const char *name)
{
    size_t i;

    for (i = 0; i < names->count; i++)
        if (strcmp(names->all[i].name, name) == 0)
            return &names->all[i];
    return NULL;
}

static void names_remove(struct sim_medium *medium, struct sim_names *names, const char *name)
{
    struct sim_entry *entry = names_find(names, name);
    struct sim_entry gone;

    if (entry == NULL)
        return;
    gone = *entry;
    names->count--;
    memmove(entry, entry + 1, (size_t)(names->all + names->count - entry) * sizeof(*entry));
    free(gone.name);
    gone.node->links -= names->is_seen;
    sim_node_unref(medium, gone.node);
}

static void names_put(struct sim_medium *medium, struct sim_names *names, const char *name,
                      struct sim_node *node)
{
    sim_node_ref(node); /* first: the old entry may hold the only reference */
    names_remove(medium, names, name);
    if (names->count == names->room) {
        names->room = names->room == 0 ? 8 : 2 * names->room;
        names->all = sim_memory(names->all, names->room * sizeof(*names->all));
    }
    names->all[names->count].name = copy_text(name);
    names->all[names->count].node = node;
    names->count++;
    node->links += names->is_seen;
}

static void names_clear(struct sim_medium *medium, struct sim_names *names)
{
    while (names->count > 0)
        names_remove(medium, names, names->all[names->count - 1].name);
}

static void names_copy(struct sim_medium *medium, struct sim_names *to,
                       const struct sim_names *from)
{
    size_t i;

    /* Take the new references before the old ones go: both may name the same nodes. */
    for (i = 0; i < from->count; i++)
        sim_node_ref(from->all[i].node);
    names_clear(medium, to);
    for (i = 0; i < from->count; i++)
        names_put(medium, to, from->all[i].name, from->all[i].node);
    for (i = 0; i < from->count; i++)
        sim_node_unref(medium, from->all[i].node);
}

static void changes_clear(struct sim_medium *medium, struct sim_node *dir)
{
    while (dir->change_count > 0) {
        struct sim_change change = dir->changes[--dir->change_count];

        free(change.removed);
        free(change.added);
        if (change.node != NULL)
            sim_node_unref(medium, change.node);
    }
}

void sim_node_unref(struct sim_medium *medium, struct sim_node *node)
{
    if (--node->refs > 0)
        return;
    names_clear(medium, &node->seen_names);
    names_clear(medium, &node->durable_names);
    changes_clear(medium, node);
    free(node->seen_names.all);
    free(node->durable_names.all);
    free(node->changes);
    sim_node_free_pages(node);
    if (node->prev != NULL)
        node->prev->next = node->next;
    else
        medium->first = node->next;
    if (node->next != NULL)
        node->next->prev = node->prev;
    else
        medium->last = node->prev;
    free(node);
}

void sim_medium_init(struct sim_medium *medium, uint64_t seed)
{
    memset(medium, 0, sizeof(*medium));
    medium->random = seed;
    medium->root = node_create(medium, true);
    sim_node_ref(medium->root);
}

void sim_medium_fini(struct sim_medium *medium)
{
    sim_node_unref(medium, medium->root);
    medium->root = NULL;
}

uint64_t sim_medium_used(const struct sim_medium *medium)
{
    const struct sim_node *node;
    uint64_t pages = 0;

    for (node = medium->first; node != NULL; node = node->next)
        if (node->links > 0 || node->opens > 0)
            pages += node->held;
    return pages * SIM_PAGE;
}

/* ---- Directories ----------------------------------------------------------------------------- */

storm_status sim_find(struct sim_medium *medium, const char *path, struct sim_node **dir,
                      char *name, size_t name_size, struct sim_node **node)
{
    struct sim_node *at = medium->root;

    *dir = medium->root;
    *node = medium->root;
    name[0] = '\0';
    for (;;) {
        const struct sim_entry *entry;
        size_t len;

        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (len == 0)
            return STORM_OK;
        if (len == 1 && path[0] == '.') {
            path += len;
            continue;
        }
        if (at == NULL)
            return STORM_NOT_FOUND;
        if (!at->is_dir || len >= name_size)
            return STORM_IO;
        memcpy(name, path, len);
        name[len] = '\0';
        path += len;
        *dir = at;
        entry = names_find(&at->seen_names, name);
        at = entry == NULL ? NULL : entry->node;
        *node = at;
    }
}

/* Note a change; `removed`, `added` with `node`, or both. */
static void change_add(struct sim_node *dir, const char *removed, const char *added,
                       struct sim_node *node, bool is_forced)
{
    struct sim_change *change;

    if (dir->change_count == dir->change_room) {
        dir->change_room = dir->change_room == 0 ? 8 : 2 * dir->change_room;
        dir->changes = sim_memory(dir->changes, dir->change_room * sizeof(*dir->changes));
    }
    change = &dir->changes[dir->change_count++];
    change->removed = removed == NULL ? NULL : copy_text(removed);
    change->added = added == NULL ? NULL : copy_text(added);
    change->node = node;
    change->is_forced = is_forced;
    if (node != NULL)
        sim_node_ref(node);
}

void sim_dir_put(struct sim_medium *medium, struct sim_node *dir, const char *name,
                 struct sim_node *node)
{
    names_put(medium, &dir->seen_names, name, node);
    change_add(dir, NULL, name, node, false);
}

struct sim_node *sim_dir_create(struct sim_medium *medium, struct sim_node *dir, const char *name,
                                bool is_dir)
{
    struct sim_node *node = node_create(medium, is_dir);

    sim_dir_put(medium, dir, name, node);
    return node;
}

void sim_dir_remove(struct sim_medium *medium, struct sim_node *dir, const char *name)
{
    change_add(dir, name, NULL, NULL, false);
    names_remove(medium, &dir->seen_names, name);
}

void sim_dir_rename(struct sim_medium *medium, struct sim_node *from_dir, const char *from,
                    struct sim_node *to_dir, const char *to)
{
    struct sim_node *node = names_find(&from_dir->seen_names, from)->node;

    if (from_dir == to_dir) {
        change_add(to_dir, from, to, node, false);
    } else {
        change_add(from_dir, from, NULL, NULL, false);
        change_add(to_dir, NULL, to, node, false);
    }
    names_put(medium, &to_dir->seen_names, to, node);
    names_remove(medium, &from_dir->seen_names, from);
}

void sim_dir_sync(struct sim_medium *medium, struct sim_node *dir)
{
    names_copy(medium, &dir->durable_names, &dir->seen_names);
    changes_clear(medium, dir);
}

void sim_dir_force(struct sim_medium *medium, struct sim_node *dir, const char *name,
                   struct sim_node *node)
{
    if (node != NULL) {
        change_add(dir, NULL, name, node, true);
        names_put(medium, &dir->seen_names, name, node);
        names_put(medium, &dir->durable_names, name, node);
    } else {
        change_add(dir, name, NULL, NULL, true);
        names_remove(medium, &dir->seen_names, name);
        names_remove(medium, &dir->durable_names, name);
    }
}

void sim_name_list_fill(struct sim_name_list *list, const struct sim_node *dir, bool files_only)
{
    size_t i;

    list->count = 0;
    list->names = sim_memory(NULL, (dir->seen_names.count + 1) * sizeof(char *));
    for (i = 0; i < dir->seen_names.count; i++) {
        const struct sim_entry *entry = &dir->seen_names.all[i];
        size_t size = strlen(entry->name) + 1;

        if (files_only && entry->node->is_dir)
            continue;
        list->names[list->count] = memcpy(sim_memory(NULL, size), entry->name, size);
        list->count++;
    }
}

/* Call `each` for the names, then free them. */
storm_status sim_name_list_drain(struct sim_name_list *list, sdb_list_fn each, void *ctx)
{
    storm_status status = STORM_OK;
    size_t i;

    for (i = 0; i < list->count; i++) {
        if (status == STORM_OK)
            status = each(ctx, list->names[i]);
        free(list->names[i]);
    }
    free(list->names);
    return status;
}

/* ---- Power loss ------------------------------------------------------------------------------ */

static void settle_names(struct sim_medium *medium, struct sim_node *dir, enum sim_loss loss)
{
    size_t i;

    if (loss == SIM_KEEP_ALL)
        return;
    for (i = 0; loss != SIM_LOSE_ALL && i < dir->change_count; i++) {
        const struct sim_change *change = &dir->changes[i];

        if (!change->is_forced && sim_random(medium) % 2 == 0)
            continue;
        if (change->removed != NULL)
            names_remove(medium, &dir->durable_names, change->removed);
        if (change->added != NULL)
            names_put(medium, &dir->durable_names, change->added, change->node);
    }
    names_copy(medium, &dir->seen_names, &dir->durable_names);
    changes_clear(medium, dir);
}

void sim_medium_reboot(struct sim_medium *medium, enum sim_loss loss)
{
    struct sim_node **nodes;
    struct sim_node *node;
    size_t count = 0;
    size_t i = 0;

    for (node = medium->first; node != NULL; node = node->next)
        count++;
    nodes = sim_memory(NULL, count * sizeof(struct sim_node *));
    for (node = medium->first; node != NULL; node = node->next) {
        nodes[i++] = node;
        sim_node_ref(node); /* settling a directory may drop the last name of a later one */
    }
    for (i = 0; i < count; i++) {
        node = nodes[i];
        node->opens = 0;
        node->lock_holder = NULL;
        if (node->is_dir)
            settle_names(medium, node, loss);
        else
            sim_node_settle(medium, node, loss);
    }
    for (i = 0; i < count; i++)
        sim_node_unref(medium, nodes[i]);
    free(nodes);
}
