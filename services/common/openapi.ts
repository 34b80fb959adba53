/** The routes of a service as an OpenAPI 3.1 document. @module */

/** One route, as `ApiServer` collects them. */
export interface OpenApiRoute {
  path: string;
  methods: string[];
  request?: string;
  response: string;
  description?: string;
  parameters?: string[];
}

/** The document. Bodies are named by their protobuf message; `proto/` has the fields. */
export function openApi(name: string, version: string, routes: readonly OpenApiRoute[]): unknown {
  const messages = new Set<string>(["weir.common.v1.Problem"]);
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const item = paths[route.path] ??= {};
    for (const method of route.methods) {
      messages.add(route.response);
      if (route.request !== undefined) messages.add(route.request);
      const takesBody = route.request !== undefined && method !== "get" && method !== "delete";
      item[method] = {
        ...(route.description === undefined ? {} : { description: route.description }),
        parameters: [
          ...[...route.path.matchAll(/\{(\w+)\}/g)].map((m) => parameter(m[1], "path")),
          ...(method === "get" ? route.parameters ?? [] : []).map((p) => parameter(p, "query")),
        ],
        ...(takesBody ? { requestBody: { content: contentOf(route.request!) } } : {}),
        responses: {
          [method === "delete" ? "204" : "200"]: method === "delete"
            ? { description: "Deleted" }
            : { description: route.response, content: contentOf(route.response) },
          default: {
            description: "Problem",
            content: { "application/problem+json": refOf("weir.common.v1.Problem") },
          },
        },
      };
    }
  }
  return {
    openapi: "3.1.0",
    info: { title: `Weir ${name}`, version },
    paths,
    components: {
      schemas: Object.fromEntries(
        [...messages].map((message) => [message, { type: "object", title: message }]),
      ),
    },
  };
}

function parameter(name: string, place: string): unknown {
  return { name, in: place, required: place === "path", schema: { type: "string" } };
}

function refOf(message: string): unknown {
  return { schema: { $ref: `#/components/schemas/${message}` } };
}

function contentOf(message: string): unknown {
  return { "application/json": refOf(message), "application/x-protobuf": refOf(message) };
}
