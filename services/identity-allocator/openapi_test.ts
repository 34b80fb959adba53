import assert from "node:assert/strict";
import { Database } from "@weir/common/state";
import { createIdentityAllocator } from "./mod.ts";

type Json = Record<string, unknown>;

/** Every object in a document, with its path. */
function* walk(value: unknown, path = "#"): Generator<[string, Json]> {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield [path, value as Json];
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${path}/${key}`);
}

function resolve(document: Json, ref: string): Json {
  let at: unknown = document;
  for (const part of ref.replace(/^#\//, "").split("/")) at = (at as Json)?.[part];
  return at as Json;
}

const SCHEMA_TYPES = ["object", "array", "string", "integer", "number", "boolean"];

/** Why a value is not what a schema says; undefined when it is. Knows the words that our schemas use, and no others. */
function mismatch(document: Json, schema: Json, value: unknown, path = "$"): string | undefined {
  if (schema.$ref !== undefined) {
    return mismatch(document, resolve(document, schema.$ref as string), value, path);
  }
  const types = [schema.type].flat() as string[];
  const found = Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  if (!types.includes(found) && !(found === "integer" && types.includes("number"))) {
    return `${path}: found ${found}, expected ${types}`;
  }
  if (schema.enum !== undefined && !(schema.enum as unknown[]).includes(value)) return `${path}: ${value}`;
  if (
    typeof value === "string" && schema.pattern !== undefined &&
    !new RegExp(schema.pattern as string).test(value)
  ) {
    return `${path}: ${value} is not ${schema.pattern}`;
  }
  if (Array.isArray(value)) {
    return value.map((item, i) => mismatch(document, schema.items as Json, item, `${path}[${i}]`)).find(
      Boolean,
    );
  }
  if (found !== "object") return undefined;
  const object = value as Json, properties = (schema.properties ?? {}) as Record<string, Json>;
  for (const name of (schema.required ?? []) as string[]) {
    if (!(name in object)) return `${path}.${name} is missing`;
  }
  for (const [name, inner] of Object.entries(object)) {
    const of = properties[name] ?? schema.additionalProperties;
    if (typeof of !== "object") return `${path}.${name} is not in the schema`;
    const why = mismatch(document, of as Json, inner, `${path}.${name}`);
    if (why !== undefined) return why;
  }
}

async function withAllocator(
  work: (ask: (path: string, init?: RequestInit) => Promise<Response>) => Promise<void>,
) {
  const database = new Database("sqlite::memory:");
  const allocator = createIdentityAllocator({ database });
  await allocator.start();
  try {
    await work(async (path, init) => await allocator.api.fetch(new Request(`http://x${path}`, init)));
  } finally {
    await allocator.stop();
    await database.close();
  }
}

Deno.test("GET /openapi.json is a whole OpenAPI 3.1 document: every reference resolves, every schema says something", () =>
  withAllocator(async (ask) => {
    const document = await (await ask("/openapi.json")).json();
    assert.match(document.openapi, /^3\.1\.\d+$/);
    assert.ok(document.info.title && document.info.version);
    const ids = new Set<string>();
    for (const [path, item] of Object.entries(document.paths as Record<string, Record<string, Json>>)) {
      assert.match(path, /^\//);
      for (const [method, operation] of Object.entries(item)) {
        const at = `${method} ${path}`;
        assert.ok(["get", "put", "post", "delete"].includes(method), at);
        assert.match(operation.operationId as string, /^[A-Za-z_][A-Za-z0-9_]*$/, at);
        assert.equal(ids.has(operation.operationId as string), false, `${operation.operationId} twice`);
        ids.add(operation.operationId as string);
        const parameters = operation.parameters as Json[];
        const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
        assert.deepEqual(parameters.filter((p) => p.in === "path").map((p) => p.name), inPath, at);
        assert.equal(new Set(parameters.map((p) => `${p.in} ${p.name}`)).size, parameters.length, at);
        const responses = Object.entries(operation.responses as Record<string, Json>);
        assert.ok(responses.length >= 2, at);
        for (const [status, response] of responses) {
          assert.match(status, /^([1-5]\d\d|default)$/, at);
          assert.equal(typeof response.description, "string", at);
        }
      }
    }
    for (const [path, object] of walk(document)) {
      if (typeof object.$ref === "string") {
        assert.equal(typeof resolve(document, object.$ref), "object", `${path}: ${object.$ref}`);
      }
      if (!/\/(schema|items|additionalProperties)$|\/schemas\/[^/]+$|\/properties\/[^/]+$/.test(path)) {
        continue;
      }
      if (path.endsWith("/headers/schema")) continue;
      const types = [object.type].flat() as string[];
      assert.ok(object.$ref !== undefined || types.every((type) => SCHEMA_TYPES.includes(type)), path);
      if (types.includes("array")) assert.equal(typeof object.items, "object", path);
    }
    for (const key of Object.keys(document.components.schemas)) assert.match(key, /^[a-zA-Z0-9._-]+$/);
    const { properties, description } = document.components.schemas["weir.common.v1.Problem"];
    assert.equal(properties.code.description, "stable, upper snake case");
    assert.match(description, /RFC 9457/);
  }));

Deno.test("what the service answers is what its OpenAPI schemas say", () =>
  withAllocator(async (ask) => {
    const document = await (await ask("/openapi.json")).json();
    const body = JSON.stringify({ labels: ["k8s:app=web"], node: "n", holder: "h" });
    const put = JSON.stringify({ ipv4: "192.0.2.1", labels: ["a=b"] });
    const entry = JSON.stringify({ identity: 300, node: "n" });
    const cases: [string, string, string, RequestInit?][] = [
      ["post", "/v1/identities:allocate", "/v1/identities:allocate", { method: "POST", body }],
      ["put", "/v1/nodes/{name}", "/v1/nodes/n", { method: "PUT", body: put }],
      ["put", "/v1/ipcache/{name}", "/v1/ipcache/10.0.0.1", { method: "PUT", body: entry }],
      ["get", "/v1/nodes", "/v1/nodes"],
      ["get", "/v1/ipcache", "/v1/ipcache?node=n&limit=1"],
      ["get", "/v1/identities", "/v1/identities"],
      ["get", "/v1/nodes/{name}", "/v1/nodes/nobody"],
    ];
    for (const [method, path, at, init] of cases) {
      const answer = await ask(at, init), value = await answer.json();
      const { responses } = document.paths[path][method];
      const content = (responses[String(answer.status)] ?? responses.default).content;
      const schema = content[answer.headers.get("content-type")!.split(";")[0]].schema;
      assert.equal(mismatch(document, schema, value), undefined, `${method} ${at}: ${JSON.stringify(value)}`);
      assert.notEqual(
        mismatch(document, schema, { ...value, surprise: 1 }),
        undefined,
        `${at} takes anything`,
      );
    }
  }));
