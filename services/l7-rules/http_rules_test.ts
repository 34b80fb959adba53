import assert from "node:assert/strict";
import { HeaderMatch, HttpRule } from "@weir/proto/l7";
import { compileHttpRule, judgeHttp } from "./http_rules.ts";
import type { HttpRequest } from "./request.ts";

const DENIED = 99;

function request(
  method: string,
  path: string,
  more: { host?: string; headers?: Record<string, string> } = {},
) {
  const headers = new Map(Object.entries(more.headers ?? {}));
  return {
    kind: "HTTP",
    method,
    path,
    host: more.host ?? "web",
    header: (name) => headers.get(name),
  } as HttpRequest;
}
const judge = (rules: Partial<HttpRule>[], one: HttpRequest) =>
  judgeHttp(
    rules.map((rule, at) => compileHttpRule(HttpRule.create({ cookie: at + 1, ...rule }))),
    one,
    DENIED,
  );
const header = (name: string, value = "", more: Partial<HeaderMatch> = {}) =>
  HeaderMatch.create({ name, value, ...more });

Deno.test("judgeHttp() takes method, path and host as expressions over the whole value", () => {
  const table: [Partial<HttpRule>, HttpRequest, boolean][] = [
    [{}, request("BREW", "/any?thing"), true],
    [{ method: "GET" }, request("GET", "/"), true],
    [{ method: "GET" }, request("get", "/"), false],
    [{ method: "GET" }, request("GETX", "/"), false],
    [{ method: "GET|HEAD" }, request("HEAD", "/"), true],
    [{ path: "/public" }, request("GET", "/public"), true],
    [{ path: "/public" }, request("GET", "/public/x"), false],
    [{ path: "/public" }, request("GET", "/public?x=1"), false],
    [{ path: "/public" }, request("GET", "/x/public"), false],
    [{ path: "/public(\\?.*)?" }, request("GET", "/public?x=1"), true],
    [{ path: "/public/.*" }, request("GET", "/public/\nx"), false],
    [{ path: "/weir.Greeter/Say.*" }, request("POST", "/weir.Greeter/SayHello"), true],
    [{ path: "/weir.Greeter/Say.*" }, request("POST", "/weir.Greeter/Delete"), false],
    [{ host: "web" }, request("GET", "/", { host: "web" }), true],
    [{ host: "web" }, request("GET", "/", { host: "web:8080" }), false],
    [{ host: "web(:8080)?" }, request("GET", "/", { host: "web:8080" }), true],
    [{ host: "web" }, request("GET", "/", { host: "WEB" }), false],
    [{ method: "GET", path: "/a" }, request("GET", "/b"), false],
  ];
  for (const [rule, one, allowed] of table) {
    const judgement = judge([rule], one);
    assert.deepEqual(
      [judgement.allowed, judgement.cookie],
      [allowed, allowed ? 1 : DENIED],
      JSON.stringify([rule, one]),
    );
  }
});

Deno.test("judgeHttp() asks for headers by name in any case, for values exactly", () => {
  const table: [HeaderMatch, Record<string, string>, boolean][] = [
    [header("X-Key"), { "x-key": "" }, true],
    [header("X-Key"), {}, false],
    [header("X-Key", "v"), { "x-key": "v" }, true],
    [header("X-Key", "v"), { "x-key": "V" }, false],
    [header("X-Key", "v"), { "x-key": "v,w" }, false],
    [header("X-Key", "v,w"), { "x-key": "v,w" }, true],
    [header("X-Key", "vvv"), { "x-key": "v" }, false],
    [header("X-Key", "v"), { "x-key": "vvv" }, false],
    // Secrets are not read: only the value beside one counts.
    [header("X-Key", "", { secret: "a/b" }), { "x-key": "v" }, false],
    [header("X-Key", "v", { secret: "a/b" }), { "x-key": "v" }, true],
    [header("X-Key", "", { secret: "a/b", mismatch: "LOG" }), { "x-key": "v" }, false],
  ];
  for (const [match, headers, allowed] of table) {
    const judgement = judge([{ headers: [match] }], request("GET", "/", { headers }));
    assert.equal(judgement.allowed, allowed, JSON.stringify([match, headers]));
  }
});

Deno.test("judgeHttp() does what a header that differs asks for, and lets the request pass", () => {
  const change = (action: string, value = "v") => [{ action, name: "X-Key", value }];
  const table: [HeaderMatch["mismatch"], string, Record<string, string>, unknown[], string[]][] = [
    ["LOG", "v", {}, [], ["X-Key"]],
    ["LOG", "v", { "x-key": "w" }, [], ["X-Key"]],
    ["LOG", "v", { "x-key": "v" }, [], []],
    ["ADD", "v", {}, change("ADD"), []],
    ["ADD", "v", { "x-key": "w" }, change("ADD"), []],
    ["ADD", "v", { "x-key": "v" }, [], []],
    ["DELETE", "v", {}, [], []],
    ["DELETE", "v", { "x-key": "w" }, change("DELETE", ""), []],
    ["DELETE", "v", { "x-key": "v" }, [], []],
    ["DELETE", "", { "x-key": "w" }, [], []],
    ["REPLACE", "v", {}, change("REPLACE"), []],
    ["REPLACE", "v", { "x-key": "w" }, change("REPLACE"), []],
    ["REPLACE", "v", { "x-key": "v" }, [], []],
  ];
  for (const [mismatch, value, headers, changes, missing] of table) {
    const judgement = judge(
      [{ headers: [header("X-Key", value, { mismatch })] }],
      request("GET", "/", { headers }),
    );
    assert.deepEqual(
      [judgement.allowed, judgement.headers, judgement.missingHeaders],
      [true, changes, missing],
      JSON.stringify([mismatch, value, headers]),
    );
  }
});

Deno.test("judgeHttp() runs the actions of every rule that means the request, of no other", () => {
  const rules: Partial<HttpRule>[] = [
    { path: "/a" },
    { path: "/a", headers: [header("X-One", "1", { mismatch: "ADD" })] },
    { path: "/b", headers: [header("X-Two", "2", { mismatch: "ADD" })] },
    { path: "/a", headers: [header("X-Three", "3", { mismatch: "REPLACE" }), header("X-Must", "y")] },
  ];
  const names = (path: string, headers = {}) =>
    judge(rules, request("GET", path, { headers })).headers.map((one) => one.name);
  assert.deepEqual(names("/a"), ["X-One"]);
  assert.deepEqual(names("/a", { "x-must": "y" }), ["X-One", "X-Three"]);
  assert.deepEqual(names("/b"), ["X-Two"]);
  assert.deepEqual(names("/c"), []);
  assert.equal(judge(rules, request("GET", "/a")).cookie, 1);
});
