import assert from "node:assert/strict";
import { Process, ProcessList } from "@weir/proto/agent";
import { ApiServer } from "./api_server.ts";
import { listenTcp, listenUnix, readOnly } from "./listener.ts";
import { ProblemError } from "./problem.ts";

const hello = () => new Response("hello");

Deno.test("listenUnix() makes a socket of mode 0660, replaces a stale one and leaves a live one alone", async () => {
  const directory = await Deno.makeTempDir();
  const path = `${directory}/x.sock`;
  try {
    const first = await listenUnix(hello, path);
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o660);
    await assert.rejects(listenUnix(hello, path), (e: ProblemError) => e.code === "SOCKET_IN_USE");
    await first.shutdown();
    const stale = Deno.listen({ transport: "unix", path });
    stale.close();
    const again = await listenUnix(hello, path);
    const client = Deno.createHttpClient({ proxy: { transport: "unix", path } });
    const answer = await fetch("http://localhost/", { client } as RequestInit);
    assert.equal(await answer.text(), "hello");
    client.close();
    await again.shutdown();
    const closed = await listenUnix(hello, path, { mode: 0o600 });
    assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
    await closed.shutdown();
    await Deno.writeTextFile(path, "a file");
    await assert.rejects(listenUnix(hello, path), ProblemError);
    await assert.rejects(
      listenUnix(hello, `/${"d".repeat(120)}`),
      (e: ProblemError) => e.code === "SOCKET_PATH_TOO_LONG",
    );
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("listenTcp() asks for the token, and refuses to listen beyond loopback in plain text", async () => {
  for (const options of [{ hostname: "0.0.0.0", port: 0 }, { hostname: "::", port: 0, token: "t" }]) {
    assert.throws(() => listenTcp(hello, options), (e: ProblemError) => e.code === "TCP_INSECURE");
  }
  const listener = listenTcp(hello, { port: 0, token: "secret" });
  try {
    const ask = async (path: string, token?: string) => {
      const headers = token === undefined ? undefined : { authorization: `Bearer ${token}` };
      const answer = await fetch(listener.address + path, { headers });
      await answer.body?.cancel();
      return answer.status;
    };
    assert.deepEqual(
      [await ask("/"), await ask("/", "wrong"), await ask("/", "secret"), await ask("/livez")],
      [401, 401, 200, 200],
    );
  } finally {
    await listener.shutdown();
  }
});

Deno.test("readOnly() passes reading requests on and refuses every other", async () => {
  const handler = readOnly(() => new Response("ok"));
  for (const method of ["GET", "HEAD"]) {
    assert.equal((await handler(new Request("http://x/v1/endpoints/a", { method }))).status, 200, method);
  }
  for (const method of ["PUT", "DELETE", "POST", "PATCH", "OPTIONS"]) {
    assert.equal((await handler(new Request("http://x/v1/endpoints/a", { method }))).status, 403, method);
  }
});

Deno.test("readOnly() passes questions that are asked by POST on, and no other POST of the same service", async () => {
  const api = new ApiServer({ name: "s" });
  const handle = () => ProcessList.create();
  api.action({ path: "/v1/ask", isQuestion: true, response: ProcessList, handle });
  api.action({ path: "/v1/change", response: ProcessList, handle });
  api.collection<Process>({ name: "things", message: Process, list: () => [], get: () => undefined });
  const handler = readOnly(api.fetch, api.isQuestion);
  const status = async (method: string, path: string) =>
    (await handler(new Request(`http://x${path}`, { method }))).status;
  assert.equal(await status("POST", "/v1/ask"), 200);
  assert.equal(await status("POST", "/v1/ask?a=b"), 200);
  for (
    const path of [
      "/v1/change",
      "/v1/ask/",
      "/v1/ask/../change",
      "//v1/ask",
      "/v1/%61sk",
      "/v1/things",
      "/v1/things/ask",
    ]
  ) {
    assert.equal(await status("POST", path), 403, path);
  }
  for (const method of ["PUT", "DELETE", "PATCH"]) assert.equal(await status(method, "/v1/ask"), 403, method);
});
