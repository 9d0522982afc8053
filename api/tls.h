/*
 * The certificate that HTTPS is served with. One for the process; reading it again takes effect
 * with the next connection, those that are open keep theirs.
 *
 * Threads: api_tls_load() one at a time; the callback runs on any HTTP thread.
 */
#ifndef STORM_API_TLS_H
#define STORM_API_TLS_H

#include <gnutls/abstract.h>
#include <stddef.h>

/* TLS 1.2 and 1.3, in the library's own order of preference. */
#define API_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Read both files and serve with them from now on. 0, or -1 with a sentence that names the file in
 * `error`; then what was served before goes on being served. */
int api_tls_load(const char *cert_path, const char *key_path, char *error, size_t error_size);

/* Free all that was loaded. No connection may be left. */
void api_tls_free(void);

/* For MHD_OPTION_HTTPS_CERT_CALLBACK. */
int api_tls_choose(gnutls_session_t session, const gnutls_datum_t *authorities, int count,
                   const gnutls_pk_algorithm_t *algorithms, int algorithm_count,
                   gnutls_pcert_st **certificates, unsigned *certificate_count,
                   gnutls_privkey_t *key);

#endif
