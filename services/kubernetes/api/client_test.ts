import assert from "node:assert/strict";
import { FakeApiServer, heldBody, statusAnswer } from "../testing/fake_api_server.ts";
import { TokenFile } from "./access.ts";
import { ApiClient } from "./client.ts";
import { ApiServerError } from "./error.ts";
import { resourcePath, RESOURCES } from "./resource.ts";

const { ConfigMap, CiliumNetworkPolicy, Node } = RESOURCES;

async function fails(code: string, action: () => Promise<unknown>): Promise<ApiServerError> {
  try {
    await action();
  } catch (error) {
    assert.ok(error instanceof ApiServerError, String(error));
    assert.equal(error.code, code, error.message);
    return error;
  }
  assert.fail(`no ${code}`);
}

Deno.test("resourcePath() has the group, the namespace and the subresource, each part encoded", () => {
  const cases: [string, string][] = [
    [resourcePath(ConfigMap), "/api/v1/configmaps"],
    [resourcePath(ConfigMap, { namespace: "a", name: "b" }), "/api/v1/namespaces/a/configmaps/b"],
    [
      resourcePath(CiliumNetworkPolicy, { namespace: "a", name: "b", subresource: "status" }),
      "/apis/cilium.io/v2/namespaces/a/ciliumnetworkpolicies/b/status",
    ],
    [resourcePath(Node, { namespace: "a", name: "../x" }), "/api/v1/nodes/..%2Fx"],
  ];
  for (const [found, expected] of cases) assert.equal(found, expected);
});

Deno.test("ApiClient ends a request that is not answered, or not to its end", async () => {
  await using server = new FakeApiServer(ConfigMap);
  const client = new ApiClient({ server: server.url, authorities: [] });
  const never = Promise.withResolvers<Response>();
  server.intercept = () => never.promise;
  await fails("DEADLINE_EXCEEDED", () => client.list(ConfigMap, { deadlineMs: 150 }));
  await fails("DEADLINE_EXCEEDED", async () => {
    for await (const _ of client.watch(ConfigMap, { resourceVersion: "1", deadlineMs: 150 }));
  });
  never.resolve(new Response());
  const held = heldBody('{"kind":');
  server.intercept = () => new Response(held.body);
  await fails("DEADLINE_EXCEEDED", () => client.get(ConfigMap, "a", { namespace: "b", deadlineMs: 150 }));
  held.end();
  client.close();
});

Deno.test("ApiClient says what is wrong with an answer", async () => {
  await using server = new FakeApiServer(ConfigMap);
  const client = new ApiClient({ server: server.url, authorities: [] });
  const cases: [string, Response, RegExp][] = [
    ["ANSWER_INVALID", new Response('{"items": ['), /no JSON/],
    ["ANSWER_INVALID", Response.json({ items: {}, metadata: { resourceVersion: "1" } }), /not one of/],
    ["ANSWER_INVALID", Response.json({ items: [{}], metadata: { resourceVersion: "1" } }), /not one of/],
    ["ANSWER_INVALID", Response.json([]), /not one of/],
    ["FORBIDDEN", statusAnswer(403, "Forbidden", "no\u0001t yours"), /not? ?yours|no.t yours/],
    ["API_SERVER_ERROR", new Response("<html>bad gateway</html>", { status: 502 }), /bad gateway/],
    ["API_SERVER_UNREACHABLE", Response.redirect("http://127.0.0.1:1/", 302), /cannot be reached/],
  ];
  for (const [code, answer, words] of cases) {
    server.intercept = () => answer;
    const error = await fails(code, () => client.list(ConfigMap));
    assert.match(error.message, words);
  }
  server.intercept = () =>
    new Response(
      new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(1 << 20).fill(65)),
      }),
    );
  await fails("ANSWER_TOO_LARGE", async () => {
    for await (const _ of client.watch(ConfigMap, { resourceVersion: "1" }));
  });
  await fails("ANSWER_TOO_LARGE", () => client.text("/version", { bytesMax: 3 << 20 }));
  server.intercept = (_, url) =>
    url.searchParams.get("continue")
      ? Response.json({ items: [], metadata: { resourceVersion: "1", continue: "x" } })
      : Response.json({ items: [], metadata: { resourceVersion: "1", continue: "x" } });
  await fails("ANSWER_INVALID", async () => {
    for await (const _ of client.pages(ConfigMap));
  });
  client.close();
});

Deno.test("ApiClient hands on the events before an error of the watch", async () => {
  await using server = new FakeApiServer(ConfigMap);
  const client = new ApiClient({ server: server.url, authorities: [] });
  const put = { type: "ADDED", object: { metadata: { name: "a", resourceVersion: "5" } } };
  const over = {
    type: "ERROR",
    object: { kind: "Status", code: 410, reason: "Expired", message: "too old" },
  };
  server.intercept = () => new Response([put, over].map((one) => JSON.stringify(one) + "\n").join(""));
  const seen: string[] = [];
  await fails("EXPIRED", async () => {
    for await (const events of client.watch(ConfigMap, { resourceVersion: "1" })) {
      seen.push(...events.map(({ object }) => object.metadata.name));
    }
  });
  assert.deepEqual(seen, ["a"]);
  client.close();
});

Deno.test("ApiClient reads its token anew when it was replaced, and when it is refused", async () => {
  await using server = new FakeApiServer(ConfigMap);
  const path = await Deno.makeTempFile();
  await Deno.writeTextFile(path, "one\n");
  const token = new TokenFile(path);
  const client = new ApiClient({ server: server.url, authorities: [], token });
  const shown: (string | null)[] = [];
  let good = "Bearer one";
  server.intercept = (request) => {
    shown.push(request.headers.get("authorization"));
    return shown.at(-1) === good ? undefined : statusAnswer(401, "Unauthorized");
  };
  await client.list(ConfigMap);
  await Deno.writeTextFile(path, "two\n");
  good = "Bearer two";
  await client.list(ConfigMap);
  assert.deepEqual(shown, ["Bearer one", "Bearer one", "Bearer two"]);
  await Deno.remove(path);
  await fails("UNAUTHENTICATED", () => {
    good = "Bearer three";
    return client.list(ConfigMap);
  });
  client.close();
});
