import assert from "node:assert/strict";
import { ApiClient } from "./client.ts";
import { ApiServerError } from "./error.ts";
import { PORT_FORWARD_PROTOCOL, portForwardPath } from "./port_forward.ts";

const PORT = { namespace: "a", pod: "b", port: 4245 };
/** 4245, as both channels begin. */
const HEAD = [0x95, 0x10];

/** A server whose WebSockets do what a case says. */
function serve(behave: (socket: WebSocket) => void, refuse: () => Response | undefined = () => undefined) {
  const stop = new AbortController(), { signal } = stop;
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", signal, onListen: () => {} }, (request) => {
    const refusal = refuse();
    if (refusal !== undefined) return refusal;
    const { socket, response } = Deno.upgradeWebSocket(request, { protocol: PORT_FORWARD_PROTOCOL });
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      socket.send(Uint8Array.from([0, ...HEAD]));
      socket.send(Uint8Array.from([1, ...HEAD]));
      behave(socket);
    });
    return response;
  });
  const client = new ApiClient({ server: `http://127.0.0.1:${server.addr.port}`, authorities: [] });
  return {
    client,
    async [Symbol.asyncDispose]() {
      client.close();
      stop.abort();
      await server.finished;
    },
  };
}

const message = (channel: number, text: string) =>
  Uint8Array.from([channel, ...new TextEncoder().encode(text)]);
const textOf = async (bytes: ReadableStream<Uint8Array<ArrayBuffer>>) => await new Response(bytes).text();

async function fails(code: string, says: RegExp, action: () => Promise<unknown>): Promise<void> {
  await assert.rejects(
    action,
    (error) => error instanceof ApiServerError && error.code === code && says.test(error.message),
  );
}

Deno.test("portForwardPath() names one port", () => {
  assert.equal(portForwardPath(PORT), "/api/v1/namespaces/a/pods/b/portforward?ports=4245");
});

Deno.test("PortSession carries bytes both ways, without the port that each channel begins with", async () => {
  await using api = serve((socket) => {
    let came = "";
    socket.addEventListener("message", ({ data }) => {
      assert.equal(new Uint8Array(data)[0], 0);
      came += new TextDecoder().decode(new Uint8Array(data, 1));
      if (!came.endsWith("!")) return;
      for (const piece of ["he", "ard ", `${came.length}`]) socket.send(message(0, piece));
      socket.close();
    });
  });
  using session = await api.client.portForward(PORT);
  // More than one message takes.
  await session.write(new TextEncoder().encode("x".repeat(200_000)));
  await session.write(new TextEncoder().encode("!"));
  assert.equal(await textOf(session.bytes), "heard 200001");
  await fails("CONNECTION_LOST", /port 4245 of Pod a\/b/, () => session.write(new Uint8Array(1)));
});

Deno.test("PortSession says why there is no connection", async () => {
  await using api = serve((socket) =>
    socket.send(message(1, "dial tcp4 127.0.0.1:4245: connection refused"))
  );
  using session = await api.client.portForward(PORT);
  await fails("PORT_REFUSED", /Pod a\/b: dial .* connection refused/, () => textOf(session.bytes));
});

Deno.test("PortSession ends with its reader, and takes no endless bytes that nobody reads", async () => {
  const closed = Promise.withResolvers<void>();
  await using api = serve((socket) => {
    socket.addEventListener("close", () => closed.resolve());
    for (let index = 0; index < 20; index++) socket.send(message(0, "y".repeat(100)));
  });
  using slow = await api.client.portForward({ ...PORT, unreadBytesMax: 1000 });
  await closed.promise;
  await fails("OUTPUT_TOO_LARGE", /more than 1000 bytes/, () => textOf(slow.bytes));
  using left = await api.client.portForward(PORT);
  await left.bytes.cancel();
  await fails("CONNECTION_LOST", /over/, () => left.write(new Uint8Array(1)));
});

Deno.test("ApiClient.portForward() says what the API server answers instead", async () => {
  const status = {
    kind: "Status",
    status: "Failure",
    reason: "Forbidden",
    message: "no portforward",
    code: 403,
  };
  await using api = serve(() => {}, () => Response.json(status, { status: 403 }));
  await fails("FORBIDDEN", /no portforward/, () => api.client.portForward(PORT));
});
