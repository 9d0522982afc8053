/* GET /version, GET / and GET /openapi.yaml: what this server is, and its contract. */
#include "kv.h"
#include "openapi.h"
#include "response.h"
#include "router.h"

enum { META_MAX = 1024 };

enum MHD_Result api_version(struct api_request *request)
{
    struct api_text text;
    api_text_init(&text, META_MAX);
    api_text_addf(&text,
                  "{\"name\":\"storm\",\"version\":\"%s\",\"api\":1,\"libmicrohttpd\":\"%s\"}\n",
                  storm_version(), MHD_get_version());
    return api_send_json(request, MHD_HTTP_OK, &text);
}

enum MHD_Result api_root(struct api_request *request)
{
    struct api_text text;
    api_text_init(&text, META_MAX);
    api_text_addf(&text,
                  "{\"name\":\"storm\",\"version\":\"%s\",\"openapi\":\"/openapi.yaml\","
                  "\"docs\":\"/docs\",\"stats\":\"/stats\",\"ready\":\"/readyz\"}\n",
                  storm_version());
    return api_send_json(request, MHD_HTTP_OK, &text);
}

enum MHD_Result api_openapi(struct api_request *request)
{
    struct api_answer answer = api_answer_static(
        MHD_HTTP_OK, storm_bytes(api_openapi_yaml, api_openapi_yaml_size), "application/yaml");
    return api_send(request, &answer);
}
