/*
 * Certificates. See tls.h.
 *
 * The library asks for the certificate of each handshake through a callback that has no room for a
 * context, so the one in use is a variable of the process. What a handshake was given must live
 * until it is over, and nobody says when that is; so certificates are kept until the server stops.
 * They are a few KiB each and are renewed a few times a year.
 */
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CHAIN_MAX = 16,
    PEM_MAX = 1 << 20,
};

struct credential {
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned chain_size;
    gnutls_privkey_t key;
    struct credential *older;
};

/* atomic: release in api_tls_load, acquire in api_tls_choose */
static _Atomic(struct credential *) current;

/* Read all of a file; the caller frees *pem. NULL, or what is wrong. */
static const char *read_pem(const char *path, bool is_secret, gnutls_datum_t *pem)
{
    struct stat file;
    const char *fault = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    pem->data = NULL;
    if (fd < 0 || fstat(fd, &file) != 0)
        fault = strerror(errno);
    else if (!S_ISREG(file.st_mode))
        fault = "it is no file";
    else if (is_secret && (file.st_mode & S_IRWXO) != 0)
        fault = "everybody on this machine can read it: chmod o-rwx";
    else if (is_secret && (file.st_mode & S_IWGRP) != 0)
        fault = "others than its owner may write to it: chmod g-w";
    else if ((pem->data = malloc(PEM_MAX)) == NULL)
        fault = strerror(ENOMEM);
    if (fault == NULL) {
        ssize_t size = read(fd, pem->data, PEM_MAX);
        if (size < 0)
            fault = strerror(errno);
        pem->size = size < 0 ? 0 : (unsigned)size;
    }
    if (fd >= 0)
        close(fd);
    return fault;
}

static void free_pem(gnutls_datum_t *pem)
{
    if (pem->data != NULL)
        explicit_bzero(pem->data, pem->size);
    free(pem->data);
    pem->data = NULL;
}

static void free_credential(struct credential *credential)
{
    for (unsigned i = 0; i < credential->chain_size; i++)
        gnutls_pcert_deinit(&credential->chain[i]);
    if (credential->key != NULL)
        gnutls_privkey_deinit(credential->key);
    free(credential);
}

static const char *load_chain(struct credential *credential, const char *path)
{
    gnutls_datum_t pem;
    const char *fault = read_pem(path, false, &pem);
    if (fault == NULL) {
        unsigned count = CHAIN_MAX;
        int status = gnutls_pcert_list_import_x509_raw(credential->chain, &count, &pem,
                                                       GNUTLS_X509_FMT_PEM, 0);
        credential->chain_size = status < 0 ? 0 : count;
        fault = status < 0 ? gnutls_strerror(status) : count == 0 ? "it is empty" : NULL;
    }
    free_pem(&pem);
    return fault;
}

static const char *load_key(struct credential *credential, const char *path)
{
    gnutls_datum_t pem;
    const char *fault = read_pem(path, true, &pem);
    if (fault == NULL) {
        int status = gnutls_privkey_init(&credential->key);
        if (status == 0)
            status =
                gnutls_privkey_import_x509_raw(credential->key, &pem, GNUTLS_X509_FMT_PEM, NULL, 0);
        fault = status < 0 ? gnutls_strerror(status) : NULL;
    }
    free_pem(&pem);
    return fault;
}

/* Whether the private key is that of the first certificate. */
static bool is_pair(const struct credential *credential)
{
    gnutls_pubkey_t pubkey;
    unsigned char ids[2][64];
    size_t sizes[2] = {sizeof ids[0], sizeof ids[1]};
    if (gnutls_pubkey_init(&pubkey) != 0)
        return false;
    bool is_same =
        gnutls_pubkey_import_privkey(pubkey, credential->key, 0, 0) == 0 &&
        gnutls_pubkey_get_key_id(pubkey, GNUTLS_KEYID_USE_SHA256, ids[0], &sizes[0]) == 0 &&
        gnutls_pubkey_get_key_id(credential->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, ids[1],
                                 &sizes[1]) == 0 &&
        sizes[0] == sizes[1] && memcmp(ids[0], ids[1], sizes[0]) == 0;
    gnutls_pubkey_deinit(pubkey);
    return is_same;
}

int api_tls_load(const char *cert_path, const char *key_path, char *error, size_t error_size)
{
    struct credential *credential = calloc(1, sizeof *credential);
    if (credential == NULL) {
        snprintf(error, error_size, "cannot read tls.cert %s: out of memory", cert_path);
        return -1;
    }
    const char *fault = load_chain(credential, cert_path);
    if (fault != NULL) {
        snprintf(error, error_size, "cannot use tls.cert %s: %s", cert_path, fault);
        free_credential(credential);
        return -1;
    }
    fault = load_key(credential, key_path);
    if (fault == NULL && !is_pair(credential))
        fault = "it is not the key of the certificate in tls.cert";
    if (fault != NULL) {
        snprintf(error, error_size, "cannot use tls.key %s: %s", key_path, fault);
        free_credential(credential);
        return -1;
    }
    credential->older = atomic_load_explicit(&current, memory_order_relaxed);
    atomic_store_explicit(&current, credential, memory_order_release);
    return 0;
}

void api_tls_free(void)
{
    struct credential *at = atomic_exchange_explicit(&current, NULL, memory_order_acquire);
    while (at != NULL) {
        struct credential *older = at->older;
        free_credential(at);
        at = older;
    }
}

int api_tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int count,
                   const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                   gnutls_pcert_st **certificates, unsigned *certificate_count,
                   gnutls_privkey_t *key)
{
    struct credential *credential = atomic_load_explicit(&current, memory_order_acquire);
    (void)session, (void)authorities, (void)count, (void)algorithms, (void)algorithm_count;
    *certificates = credential->chain;
    *certificate_count = credential->chain_size;
    *key = credential->key;
    return 0;
}
