/** The routes of a service as an OpenAPI 3.1 document, its schemas made from the protobuf descriptors. @module */
import { type JsonSchema, messageSchemas } from "@weir/proto/json_schema";

/** One route, as `ApiServer` collects them. */
export interface OpenApiRoute {
  path: string;
  methods: string[];
  request?: string;
  response: string;
  description?: string;
  /** Query parameters of GET. */
  parameters?: string[];
  /** What it answers: one message, a list of them, or a stream; a list may be watched as a stream of events. */
  kind?: "list" | "watched-list" | "stream" | "watch";
}

const PROBLEM = "weir.common.v1.Problem";
const refOf = (name: string) => `#/components/schemas/${name}`;

/** Query parameters that mean the same everywhere; all others are filters, and may be repeated. */
const PARAMETERS: Record<string, { schema: JsonSchema; description: string }> = {
  watch: { schema: { type: "boolean" }, description: "Answer a stream that goes on" },
  revision: { schema: { type: "integer", minimum: 0 }, description: "Watch from this revision on" },
  epoch: { schema: { type: "string" }, description: "Epoch of the revision, from weir-epoch or SYNCED" },
  limit: { schema: { type: "integer", minimum: 1 }, description: "Objects in one page of a list" },
  continue: { schema: { type: "string" }, description: "Page to go on with, from weir-continue" },
};
const FILTER = { schema: { type: "array", items: { type: "string" } }, explode: true };

const LIST_HEADERS = {
  "weir-revision": { description: "Revision of the list", schema: { type: "integer" } },
  "weir-epoch": { description: "Epoch of the revision", schema: { type: "string" } },
  "weir-continue": { description: "Token of the next page; absent at the end", schema: { type: "string" } },
};

/** The document. */
export function openApi(name: string, version: string, routes: readonly OpenApiRoute[]): unknown {
  const messages = new Set<string>([PROBLEM]);
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const item = paths[route.path] ??= {};
    messages.add(route.response);
    if (route.request !== undefined) messages.add(route.request);
    for (const method of route.methods) item[method] = operation(route, method);
  }
  return {
    openapi: "3.1.0",
    info: { title: `Weir ${name}`, version },
    paths,
    components: { schemas: messageSchemas(messages, refOf) },
  };
}

function operation(route: OpenApiRoute, method: string): unknown {
  const { path, request, description } = route;
  const query = method === "get" ? route.parameters ?? [] : [];
  const takesBody = request !== undefined && method !== "get" && method !== "delete";
  return {
    operationId: [method, ...path.split(/[^A-Za-z0-9]+/).filter((part) => part !== "" && part !== "v1")].join(
      "_",
    ),
    ...(description === undefined ? {} : { description }),
    parameters: [
      ...[...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
        name,
        in: "path",
        required: true,
        schema: { type: "string" },
      })),
      ...query.map((name) => ({ name, in: "query", required: false, ...(PARAMETERS[name] ?? FILTER) })),
    ],
    ...(takesBody ? { requestBody: { required: true, content: contentOf({ $ref: refOf(request) }) } } : {}),
    responses: {
      ...(method === "delete" ? { "204": { description: "Deleted" } } : { "200": answerOf(route) }),
      default: {
        description: "Problem (RFC 9457)",
        content: { "application/problem+json": { schema: { $ref: refOf(PROBLEM) } } },
      },
    },
  };
}

function answerOf({ response, kind }: OpenApiRoute): unknown {
  const one = { $ref: refOf(response) };
  const stream = (schema: JsonSchema) => ({
    "application/x-ndjson": { schema },
    "application/x-protobuf": { schema: BYTES },
  });
  if (kind === "stream") return { description: `Stream of ${response}`, content: stream(one) };
  if (kind === "watch") return { description: `Changes of ${response}`, content: stream(eventOf(one)) };
  if (kind === undefined) return { description: response, content: contentOf(one) };
  const list = {
    type: "object",
    properties: { revision: { type: "string", pattern: "^[0-9]+$" }, items: { type: "array", items: one } },
    required: ["revision", "items"],
    additionalProperties: false,
  };
  const watched: Record<string, unknown> = kind === "watched-list" ? stream(eventOf(one)) : {};
  return {
    description: `List of ${response}`,
    headers: LIST_HEADERS,
    content: { ...watched, ...contentOf(list) },
  };
}

/** One line of a watch in JSON: an event whose object is the message itself. */
function eventOf(object: JsonSchema): JsonSchema {
  return {
    type: "object",
    properties: {
      type: { type: "string", enum: ["PUT", "DELETED", "SYNCED"] },
      revision: { type: "string", pattern: "^[0-9]+$" },
      name: { type: "string" },
      epoch: { type: "string", description: "Of SYNCED: with revision the position to go on from" },
      object,
    },
    required: ["type", "revision"],
    additionalProperties: false,
  };
}

const BYTES: JsonSchema = { type: "string", format: "binary" };

function contentOf(schema: JsonSchema): Record<string, unknown> {
  return { "application/json": { schema }, "application/x-protobuf": { schema: BYTES } };
}
