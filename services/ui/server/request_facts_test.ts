import assert from "node:assert/strict";
import type { Init } from "@weir/proto";
import { Flow } from "@weir/proto/flow";
import { requestFacts } from "./request_facts.ts";

Deno.test("requestFacts() names what was asked and answered, whatever the protocol", () => {
  const cases: [Init<Flow>, Record<string, string>][] = [
    [{ Type: "L3_L4" }, {}],
    [{ l7: { type: "REQUEST", http: { protocol: "HTTP/1.1", method: "GET", url: "http://a/b", code: 0 } } }, {
      Request: "HTTP/1.1",
      Method: "GET",
      URL: "http://a/b",
    }],
    [
      {
        l7: {
          type: "RESPONSE",
          latency_ns: 5_300_000,
          http: { protocol: "HTTP/2", method: "POST", url: "http://a/b", code: 403 },
        },
      },
      { Request: "HTTP/2", Method: "POST", URL: "http://a/b", Status: "403", Latency: "5.3 ms" },
    ],
    [
      {
        l7: {
          type: "RESPONSE",
          latency_ns: 800_000,
          dns: { query: "a.example.", qtypes: ["A"], rcode: 5, ips: [] },
        },
      },
      { Request: "DNS", "Query name": "a.example.", Type: "A", Answer: "REFUSED", Latency: "800 µs" },
    ],
    [{ l7: { type: "REQUEST", kafka: { api_key: "0", api_version: 9, topic: "orders", error_code: 29 } } }, {
      Request: "Kafka Produce, version 9",
      Topic: "orders",
      Error: "29",
    }],
    [
      {
        l7: { type: "REQUEST" },
        application: { protocol: "Cassandra", action: "select", subjects: ["shop.cart"], error_code: 0x2100 },
      },
      { Request: "Cassandra select", Table: "shop.cart", Error: "0x2100" },
    ],
    [
      {
        l7: { type: "REQUEST" },
        application: { protocol: "memcached", action: "get", subjects: ["a", "b"] },
      },
      {
        Request: "memcached get",
        Keys: "a, b",
      },
    ],
    [{ l7: { type: "REQUEST" }, application: { protocol: "TLS", subjects: ["www.example.com"] } }, {
      Request: "TLS",
      "Server name": "www.example.com",
    }],
  ];
  for (const [flow, expected] of cases) {
    const facts = requestFacts(Flow.create(flow));
    assert.deepEqual(Object.fromEntries(facts.map(({ name, value }) => [name, value])), expected);
  }
});
