// A validating proxy: passes requests on to stormd and holds each exchange against openapi.yaml with
// Prism, whose routing and validation it uses. Prism's own transport is left out because it parses and
// prints JSON and decodes text on the way; here every byte arrives as it was sent, so the tests that
// compare bytes run through it unchanged.
//
//   node contract_proxy.js OPENAPI UPSTREAM RECORD
//
// UPSTREAM is a file with the server's port, read for each request, so that a restarted server has
// another one. The proxy listens on a free port of 127.0.0.1 and prints it. Each exchange appends
// "operation status violations" to RECORD; an answer that breaks the contract carries them, as with
// Prism, in the header sl-violations.
//
// What counts as a violation: anything wrong with an answer; anything wrong with a request that the
// server answered with less than 400. A refused request is a test that means to send a bad one.
'use strict';
const fs = require('fs');
const http = require('http');
const zlib = require('zlib');
const { createLogger } = require('@stoplight/prism-core');
const { createInstance, getHttpOperationsFromSpec } = require('@stoplight/prism-http');

const [document, upstream, record] = process.argv.slice(2);
const FORM_TYPE = /^application\/x-www-form-urlencoded\b/;
const JSON_TYPE = /^application\/([^;]*\+)?json\b/;

// Prism "forwards" by taking the answer that is already there, and tells which operation it found.
const forward = ({ data }, base, proxy, operation) => () => async () => {
    data.operation = operation;
    return { _tag: 'Right', right: data.answer };
};
const prism = createInstance(
    {
        isProxy: true,
        upstream: new URL('http://127.0.0.1'),
        errors: false,
        validateRequest: true,
        validateResponse: true,
        checkSecurity: true,
        mock: { dynamic: false },
    },
    { logger: createLogger('contract', { level: 'silent' }), forward },
);

// The body as validation wants it: JSON parsed, anything else text.
function readable(body, headers) {
    const encoded = headers['content-encoding'] === 'gzip' && body.length > 0;
    const text = (encoded ? zlib.gunzipSync(body) : body).toString();
    if (!JSON_TYPE.test(headers['content-type'] || '')) return text;
    try {
        return JSON.parse(text);
    } catch {
        return text;
    }
}

async function violations(input) {
    const result = await prism.request(input, operations)();
    if (result._tag === 'Left') throw result.left;
    const { input: asked, output: answered } = result.right.validations;
    // HEAD has the headers of GET and never a body.
    const found = answered
        .filter((v) => !(input.method === 'head' && v.path && v.path[0] === 'body'))
        .map((v) => ({ of: 'response', ...v }));
    if (input.answer.statusCode >= 400) return found;
    // Prism takes an empty body, and the values 0, false and null, for no body at all.
    const sent = 'content-length' in input.headers || 'transfer-encoding' in input.headers;
    return found.concat(
        asked
            .filter((v) => !(sent && v.message === 'Body parameter is required'))
            .map((v) => ({ of: 'request', ...v })),
    );
}

// A path that Prism can take apart. OpenAPI has no parameter that contains slashes, a key does; and a
// key may have bytes that are no UTF-8, for which others stand in here.
function plain(path) {
    const key = path.startsWith('/kv/') ? path.slice(4) : '';
    if (!key) return path;
    let name = key.replaceAll('/', '%2F');
    try {
        decodeURIComponent(name);
    } catch {
        name = name.replace(/%[89a-f][0-9a-f]/gi, 'x');
    }
    return '/kv/' + name;
}

async function judge(request, sent, answer, received) {
    const [path, query] = request.url.split(/\?(.*)/s);
    const parameters = {};
    for (const [name, value] of new URLSearchParams(query)) {
        parameters[name] = name in parameters ? [parameters[name], value].flat() : value;
    }
    // What curl -d says of its data is not so; stormd takes it for what the path is for, and so do we.
    const headers = { ...request.headers };
    if (FORM_TYPE.test(headers['content-type'])) {
        headers['content-type'] = path === '/import' ? 'application/x-ndjson' : 'application/json';
    }
    const input = {
        method: request.method.toLowerCase(),
        url: {
            path: plain(path),
            query: parameters,
        },
        headers,
        answer: { statusCode: answer.statusCode, headers: answer.headers },
    };
    let found;
    try {
        input.body = sent.length ? readable(sent, headers) : null;
        input.answer.body = readable(received, answer.headers);
        found = await violations(input);
    } catch (error) {
        // A "%" without its digits is refused by the server as well.
        found = answer.statusCode < 400 ? [{ of: 'exchange', message: String(error) }] : [];
    }
    const name = input.operation ? input.operation.iid : 'none';
    fs.appendFileSync(record, `${name} ${answer.statusCode} ${found.length}\n`);
    return found;
}

async function all(stream) {
    const chunks = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
}

async function pass(request, reply) {
    const sent = await all(request);
    const port = Number(fs.readFileSync(upstream, 'utf8'));
    const onward = http.request({
        host: '127.0.0.1',
        port,
        method: request.method,
        path: request.url,
        // The body is here already: nothing is left to wait for.
        headers: request.rawHeaders.filter((_, i, all) => !/^expect$/i.test(all[i & ~1])),
        agent: false,
        setHost: false,
    });
    const answer = await new Promise((resolve, reject) => {
        onward.on('response', resolve);
        onward.on('error', reject);
        reply.on('close', () => onward.destroy());
        onward.end(sent);
    });
    const received = await all(answer);
    const found = await judge(request, sent, answer, received);
    const headers = answer.rawHeaders;
    // Printable ASCII, and short enough for a header.
    if (found.length) {
        const text = JSON.stringify(found).replace(/[^ -~]/g, '?');
        headers.push('sl-violations', text.slice(0, 4000));
    }
    reply.sendDate = false;
    reply.writeHead(answer.statusCode, answer.statusMessage, headers);
    reply.end(received);
}

let operations;
getHttpOperationsFromSpec(document).then((found) => {
    operations = found;
    const server = http.createServer({ maxHeaderSize: 262144 }, (request, reply) => {
        pass(request, reply).catch((error) => {
            if (!reply.headersSent) reply.writeHead(502, { 'sl-violations': 'none: not passed on' });
            reply.end(`${error.stack}\n`);
        });
    });
    server.listen(0, '127.0.0.1', () => console.log(server.address().port));
});
