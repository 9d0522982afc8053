/*
 * What of the documentation travels inside the binary (config/cmake/Embed.cmake makes C files of
 * api/docs/). api_rapidoc_js is the viewer of OpenAPI documents, gzipped, or empty when it was not
 * there when this was built: see STORM_RAPIDOC in api/CMakeLists.txt.
 */
#ifndef STORM_API_DOCS_H
#define STORM_API_DOCS_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t api_docs_html[];
extern const size_t api_docs_html_size;
extern const uint8_t api_docs_css[];
extern const size_t api_docs_css_size;
extern const uint8_t api_rapidoc_js[];
extern const size_t api_rapidoc_js_size;

#endif
