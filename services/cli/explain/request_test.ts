import assert from "node:assert/strict";
import { UsageError } from "../context.ts";
import { readRequest, type RequestOptions } from "./request.ts";

Deno.test("readRequest() reads one request, and refuses what would be another question", () => {
  const cases: [RequestOptions, unknown][] = [
    [{}, undefined],
    [{ http: "GET /a?b=c" }, { http: { method: "GET", path: "/a?b=c", host: undefined, headers: [] } }],
    [{ http: "PUT http://web.shop:8080/a", headers: ["X-Key:  a b ", "Empty:"] }, {
      http: {
        method: "PUT",
        path: "/a",
        host: "web.shop:8080",
        headers: [{ key: "X-Key", value: "a b" }, { key: "Empty", value: "" }],
      },
    }],
    [{ dns: "www.example.com." }, { dns: { query: "www.example.com." } }],
    [{ kafka: "produce:a:b" }, { kafka: { apiKey: 0, apiVersion: 0, clientId: undefined, topics: ["a:b"] } }],
    [{ kafka: "metadata@13", clientId: "c" }, {
      kafka: { apiKey: 3, apiVersion: 13, clientId: "c", topics: [] },
    }],
    [{ memcache: "get a" }, { memcache: { command: "get a" } }],
    [{ serverName: "" }, { tls: { serverName: "" } }],
    [{ serverName: "a.example" }, { tls: { serverName: "a.example" } }],
    [{ cql: "select", keyspace: "a" }, { cassandra: { cql: "select", keyspace: "a" } }],
  ];
  for (const [options, expected] of cases) assert.deepEqual(readRequest(options), expected);
  const wrong: RequestOptions[] = [
    { http: "/a" },
    { http: "GET a" },
    { http: "GET /a b" },
    { http: " /a" },
    { http: "GET http:///a" },
    { dns: "" },
    { dns: "a..b" },
    { dns: "a b" },
    { kafka: "produce" },
    { kafka: "constructor:x" },
    { kafka: "produce@99999:a" },
    { kafka: "produce@:a" },
    { http: "GET /", headers: ["X-Key"] },
    { http: "GET /", headers: ["X-Key: a\r\nb: c"] },
    { headers: ["a: b"] },
    { clientId: "a" },
    { serverName: "a..b" },
    { memcache: "get a", dns: "a" },
    { keyspace: "a" },
    { dns: "a", cql: "select" },
  ];
  for (const options of wrong) {
    assert.throws(() => readRequest(options), UsageError, JSON.stringify(options));
  }
});
