/* openapi.yaml as it was when this was built (config/cmake/Embed.cmake makes it a C file). */
#ifndef STORM_API_OPENAPI_H
#define STORM_API_OPENAPI_H

#include <stddef.h>
#include <stdint.h>

extern const uint8_t api_openapi_yaml[];
extern const size_t api_openapi_yaml_size;

#endif
