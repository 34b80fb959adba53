import assert from "node:assert/strict";
import { ApiClient } from "./client.ts";
import { ApiServerError } from "./error.ts";
import { EXEC_PROTOCOL, execPath, type ExecSession, exitCodeOf } from "./exec.ts";

const PROGRAM = { namespace: "a", pod: "b", container: "c", command: ["cat", "x y"] };

/** A server whose WebSockets do what a case says. */
function serve(
  behave: (socket: WebSocket) => void,
  refuse: (request: Request) => Response | Promise<Response> | undefined = () => undefined,
) {
  const stop = new AbortController(), { signal } = stop;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", signal, onListen: () => {} }, (request) => {
    const refusal = refuse(request);
    if (refusal !== undefined) return refusal;
    const { socket, response } = Deno.upgradeWebSocket(request, { protocol: EXEC_PROTOCOL });
    socket.binaryType = "arraybuffer";
    behave(socket);
    return response;
  });
  const client = new ApiClient({ server: `http://127.0.0.1:${server.addr.port}`, authorities: [] });
  return {
    client,
    async [Symbol.asyncDispose]() {
      client.close();
      // Not a shutdown: it waits for connections that are WebSockets now.
      stop.abort();
      await server.finished;
    },
  };
}

function message(channel: number, content: string | Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  return Uint8Array.from([channel, ...bytes]);
}
const SUCCESS = '{"metadata":{},"status":"Success"}';
const failure = (code: string) =>
  `{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"${code}"}]}}`;

async function outputOf(session: ExecSession): Promise<string> {
  return await new Response(session.stdout).text();
}

async function fails(code: string, action: () => Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error) => error instanceof ApiServerError && error.code === code);
}

Deno.test("execPath() has each word of the command", () => {
  assert.equal(
    execPath(PROGRAM),
    "/api/v1/namespaces/a/pods/b/exec?stdin=true&stdout=true&stderr=true&container=c&command=cat&command=x+y",
  );
});

Deno.test("exitCodeOf() takes only what says how a program ended", () => {
  const cases: [unknown, number | undefined][] = [
    [JSON.parse(SUCCESS), 0],
    [JSON.parse(failure("137")), 137],
    [JSON.parse(failure("a")), undefined],
    [JSON.parse(failure("-1")), undefined],
    [{ status: "Failure", reason: "NonZeroExitCode" }, undefined],
    [{ status: "Failure", reason: "NonZeroExitCode", details: { causes: [null] } }, undefined],
    [{ status: "Failure", reason: "InternalError" }, undefined],
    [null, undefined],
    ["Success", undefined],
  ];
  for (const [status, code] of cases) assert.equal(exitCodeOf(status), code, JSON.stringify(status));
});

Deno.test("ExecSession carries input, output and the exit code", async () => {
  await using server = serve((socket) => {
    socket.onmessage = ({ data }) => {
      const [channel, ...bytes] = new Uint8Array(data as ArrayBuffer);
      if (channel === 0) return socket.send(message(1, Uint8Array.from(bytes)));
      assert.deepEqual([channel, bytes], [255, [0]]);
      socket.send(message(2, "oh"));
      socket.send(message(1, ""));
      socket.send(message(3, failure("3")));
    };
  });
  const session = await server.client.exec(PROGRAM);
  session.write(new TextEncoder().encode("hello"));
  session.endInput();
  assert.equal(await outputOf(session), "hello");
  assert.equal(await session.exitCode, 3);
  assert.equal(session.stderr, "oh");
  assert.throws(() => session.write(new Uint8Array(1)), { code: "CONNECTION_LOST" });
  session.close();
});

Deno.test("ExecSession fails with a reason where there is no exit code", async () => {
  const cases: [string, (socket: WebSocket) => void][] = [
    ["CONNECTION_LOST", (socket) => socket.close(1000, "gone")],
    ["ANSWER_INVALID", (socket) => socket.send(message(3, "{"))],
    ["API_SERVER_ERROR", (socket) => socket.send(message(3, "null"))],
    [
      "FORBIDDEN",
      (socket) =>
        socket.send(message(3, '{"status":"Failure","reason":"Forbidden","message":"no","code":403}')),
    ],
    ["OUTPUT_TOO_LARGE", (socket) => socket.send(message(1, "x".repeat(200)))],
  ];
  for (const [code, behave] of cases) {
    await using server = serve((socket) => socket.addEventListener("open", () => behave(socket)));
    const session = await server.client.exec({ ...PROGRAM, unreadBytesMax: 100 });
    await fails(code, () => session.exitCode);
    await fails(code, () => outputOf(session));
  }
});

Deno.test("exec() says what the API server answers in place of a session, and does not wait for ever", async () => {
  const status = (code: number, reason: string, text: string) =>
    Response.json({ kind: "Status", status: "Failure", reason, message: text, code }, { status: code });
  {
    await using server = serve(() => {}, () => status(404, "NotFound", "no such pod"));
    await fails("NOT_FOUND", () => server.client.exec(PROGRAM));
  }
  {
    // It has nothing against the request, and gives no WebSocket all the same.
    await using server = serve(() => {}, () => status(400, "BadRequest", "Upgrade request required"));
    await fails("API_SERVER_UNREACHABLE", () => server.client.exec(PROGRAM));
  }
  const never = Promise.withResolvers<Response>();
  {
    await using server = serve(() => {}, () => never.promise);
    await fails("DEADLINE_EXCEEDED", () => server.client.exec(PROGRAM, { deadlineMs: 100 }));
    never.resolve(new Response());
  }
});
