/*
 * Near names by edit distance.
 *
 * The measure is the "optimal string alignment" distance after Damerau (1964): the least number of
 * insertions, deletions, substitutions and swaps of neighbours that turn one word into the other,
 * no piece being edited twice. One slip is allowed in a word of up to 4 letters, two up to 8, three
 * beyond: about what a tired hand does, and few enough that "port" is not taken for "cert".
 *
 * It needs three rows of the usual matrix: the row above for a deletion, and the one above that for
 * a swap. Words longer than WORD_MAX are not compared; no name of ours is half as long.
 */
#include "suggest.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define WORD_MAX 64

static char fold(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (char)(c - 'A' + 'a');
    return (char)(c == '-' || c == '.' ? '_' : c);
}

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* Both words are at most WORD_MAX long. */
static unsigned distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned *above2 = rows[0], *above = rows[1], *row = rows[2];

    memset(rows, 0, sizeof(rows));
    for (size_t j = 0; j <= b_len; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned slip = fold(a[i - 1]) != fold(b[j - 1]);
            unsigned best = least(above[j - 1] + slip, least(above[j], row[j - 1]) + 1);

            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                fold(a[i - 2]) == fold(b[j - 1]))
                best = least(best, above2[j - 2] + 1);
            row[j] = best;
        }
        unsigned *spare = above2;

        above2 = above;
        above = row;
        row = spare;
    }
    return above[b_len];
}

/* The one dotted name whose last part is `word`; NULL when there is none or more than one. */
static const char *by_last_part(const char *word, const char *const *names, size_t count)
{
    const char *found = NULL;

    for (size_t i = 0; i < count; i++) {
        const char *dot = strrchr(names[i], '.');

        if (dot == NULL || strcasecmp(dot + 1, word) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = names[i];
    }
    return found;
}

const char *config_suggest(const char *word, const char *const *names, size_t count)
{
    size_t word_len = strlen(word);
    const char *nearest = by_last_part(word, names, count);
    unsigned nearest_slips = word_len <= 4 ? 1 : word_len <= 8 ? 2 : 3;

    if (nearest != NULL || word_len == 0 || word_len > WORD_MAX)
        return nearest;
    for (size_t i = 0; i < count; i++) {
        size_t name_len = strlen(names[i]);
        unsigned slips;

        if (name_len > WORD_MAX)
            continue;
        slips = distance(word, word_len, names[i], name_len);
        /* As many slips as letters would make any word near any other. */
        if (slips >= word_len || slips >= name_len)
            continue;
        if (slips < nearest_slips || (slips == nearest_slips && nearest == NULL)) {
            nearest = names[i];
            nearest_slips = slips;
        }
    }
    return nearest;
}
