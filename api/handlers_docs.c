/*
 * GET /docs, /docs/errors and what they need: the documentation, served by the binary that it is
 * about, without a request to anywhere else.
 *
 * /docs shows openapi.yaml with RapiDoc, when that was there at build time, and otherwise a plain
 * page with every route of the table. /docs/errors is made from the table of errors; problem
 * documents point into it. The pages take no input, so they can be kept by anybody for an hour; the
 * policy in their header lets them load nothing but what is here.
 */
#include "docs.h"
#include "response.h"
#include "router.h"

enum { PAGE_MAX = 256 << 10 };

static enum MHD_Result send_page(struct api_request *request, struct api_answer *answer)
{
    api_answer_header(answer, "Cache-Control", "public, max-age=3600");
    api_answer_header(answer, "X-Content-Type-Options", "nosniff");
    /* RapiDoc styles its elements in place, and shows icons that it carries itself. */
    api_answer_header(answer, "Content-Security-Policy",
                      "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
                      "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'");
    return api_send(request, answer);
}

/* Text as HTML shows it. */
static void add_escaped(struct api_text *text, const char *words)
{
    for (; *words != '\0'; words++) {
        if (*words == '<')
            api_text_adds(text, "&lt;");
        else if (*words == '>')
            api_text_adds(text, "&gt;");
        else if (*words == '&')
            api_text_adds(text, "&amp;");
        else
            api_text_add(text, words, 1);
    }
}

static void begin_page(struct api_text *text, const char *title)
{
    api_text_init(text, PAGE_MAX);
    api_text_addf(text,
                  "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                  "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                  "<title>Storm DB: %s</title>\n<link rel=\"stylesheet\" href=\"/docs/page.css\">\n"
                  "</head>\n<body>\n<h1>%s</h1>\n",
                  title, title);
}

static enum MHD_Result send_html(struct api_request *request, struct api_text *text)
{
    api_text_adds(text, "</body>\n</html>\n");
    struct api_answer answer = api_answer_text(MHD_HTTP_OK, text, "text/html; charset=utf-8");
    return send_page(request, &answer);
}

/* Without the viewer: every route, and where the whole contract is. */
static enum MHD_Result send_routes(struct api_request *request)
{
    struct api_text text;
    begin_page(&text, "the HTTP interface");
    api_text_adds(&text, "<p><a href=\"/openapi.yaml\">openapi.yaml</a> is the contract; "
                         "<a href=\"/docs/errors\">/docs/errors</a> explains each error code.</p>\n"
                         "<table>\n");
    for (size_t i = 0; i < api_route_count; i++) {
        const struct api_route *route = &api_routes[i];
        api_text_addf(&text, "<tr><td>%s</td><td>%s</td></tr>\n", route->method, route->path);
    }
    api_text_adds(&text, "</table>\n");
    return send_html(request, &text);
}

enum MHD_Result api_docs(struct api_request *request)
{
    if (api_rapidoc_js_size == 0)
        return send_routes(request);
    struct api_answer answer = api_answer_static(
        MHD_HTTP_OK, storm_bytes(api_docs_html, api_docs_html_size), "text/html; charset=utf-8");
    return send_page(request, &answer);
}

enum MHD_Result api_docs_viewer(struct api_request *request)
{
    if (api_rapidoc_js_size == 0) {
        struct api_failure failure = {.code = API_ERROR_route_not_found,
                                      .hint = "GET /docs works without it."};
        return api_fail(request, &failure, "This build has no RapiDoc in it.");
    }
    /* Kept compressed only: whoever runs scripts can inflate. */
    struct api_answer answer = api_answer_static(
        MHD_HTTP_OK, storm_bytes(api_rapidoc_js, api_rapidoc_js_size), "text/javascript");
    api_answer_header(&answer, "Content-Encoding", "gzip");
    return send_page(request, &answer);
}

enum MHD_Result api_docs_css_file(struct api_request *request)
{
    struct api_answer answer =
        api_answer_static(MHD_HTTP_OK, storm_bytes(api_docs_css, api_docs_css_size), "text/css");
    return send_page(request, &answer);
}

enum MHD_Result api_docs_errors(struct api_request *request)
{
    struct api_text text;
    begin_page(&text, "error codes");
    api_text_adds(&text, "<p>Every error is an <code>application/problem+json</code> document. Its "
                         "<code>code</code> is the stable thing to switch on; <code>detail</code> "
                         "says what happened this time, <code>hint</code> what to do.</p>\n");
    for (size_t i = 0; i < API_ERROR_COUNT; i++) {
        const struct api_error_kind *kind = &api_error_kinds[i];
        api_text_addf(&text, "<h2 id=\"%s\"><a href=\"#%s\">%s</a> <small>%u</small></h2>\n<p>",
                      kind->code, kind->code, kind->code, kind->status);
        add_escaped(&text, kind->meaning);
        api_text_adds(&text, "</p>\n");
        if (kind->hint[0] != '\0') {
            api_text_adds(&text, "<p>What to do: ");
            add_escaped(&text, kind->hint);
            api_text_adds(&text, "</p>\n");
        }
    }
    return send_html(request, &text);
}
